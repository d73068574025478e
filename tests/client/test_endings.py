"""How programs end: interrupted, forked, or without closing what they opened. Each is a process.

What a program that forgets to close its client gets to hear is aiohttp's own complaint about the
session, and nothing of ours: no task that is destroyed, no exception that nobody looked at.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial

import pytest

from calls_async.journal import Journal
from calls_async.testing import Fault, record_body
from tests.kit import ROOT, call_ids, run_python
from tests.waiting import until

UGLY = ("destroyed", "never retrieved", "never awaited", "ignored in: <coro", "sk_test")
"""What nobody ever gets to read."""

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks are POSIX's")


@pytest.fixture
def variables(calls_sandbox):
    """What a process needs to reach the sandbox."""
    calls_sandbox.api_keys = ("sk_test_that_nobody_sees",)
    calls_sandbox.latency = (0.0, 0.02)
    calls_sandbox.faults = {"stuck": Fault.stall, "call-3": [Fault.reset]}
    return {"CALLS_API_KEY": calls_sandbox.api_key, "CALLS_BASE_URL": calls_sandbox.base_url}


def check_quiet(err):
    assert [line for line in err.splitlines() if any(ugly in line for ugly in UGLY)] == []


# --- Interrupts ----------------------------------------------------------------------------------

INTERRUPTED = """
import asyncio, sys
from calls_async import CallsClient, Limits, gather_calls
from calls_async.journal import Journal, export_calls

IDS = [*(f"call-{number}" for number in range(100)), "stuck"]

def told(outcome):
    print(outcome.id, flush=True)

async def gather(client):
    await client.gather_calls(IDS)

async def alone(client):
    await gather_calls(IDS)

async def hedge(client):
    await gather_calls(IDS, limits=Limits(hedge=0.05))

async def stream(client):
    async with client.stream_calls(IDS) as outcomes:
        async for outcome in outcomes:
            told(outcome)

async def plain(client):
    async for outcome in client.stream_calls(IDS):
        told(outcome)

async def export(client):
    with Journal.open(sys.argv[2]) as journal:
        await export_calls(client, IDS, journal, on_outcome=told)

async def single(client):
    await asyncio.gather(gather(client), client.get_call("stuck"))

async def main(work):
    async with CallsClient() as client:
        await work(client)

asyncio.run(main(globals()[sys.argv[1]]))
"""


async def start(code, *arguments, **variables):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Who is started in the background, as in CI, inherits that interrupts are ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@POSIX
@pytest.mark.parametrize(
    "work", ["gather", "alone", "hedge", "stream", "plain", "export", "single"]
)
async def test_ctrl_c_ends_a_program_at_once(calls_sandbox, variables, tmp_path, work):
    """SIGINT in the middle: `KeyboardInterrupt` and its traceback, nothing else, nothing in flight.

    What an export has told of is in the journal, and the journal can be opened.
    """
    path = tmp_path / "calls.journal"
    process = await start(INTERRUPTED, work, str(path), **variables)
    await until(lambda: calls_sandbox.ledger.requests_of("stuck") > 0)
    async with asyncio.timeout(20):
        told = [await process.stdout.readline() for _ in range(50 if work == "export" else 0)]
        process.send_signal(signal.SIGINT)
        out, err = (stream.decode() for stream in await process.communicate())
    assert process.returncode == -signal.SIGINT
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("KeyboardInterrupt")
    check_quiet(err)
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    if work == "export":
        with Journal.open(path) as journal:
            records = {record.id: record.raw for record in journal.fetched()}
        assert set(records) == {*b"".join(told).decode().split(), *out.split()}
        assert all(raw == record_body(call_id) for call_id, raw in records.items())


@pytest.mark.parametrize("work", ["gather", "stream", "export"])
async def test_an_interrupt_within_the_work_is_told_once(variables, tmp_path, work):
    """Where the interrupt strikes a task of the client, it ends the program, and that is all."""
    struck = INTERRUPTED.replace(
        'IDS = [*(f"call-{number}" for number in range(100)), "stuck"]',
        "def numbered():\n"
        "    for number in range(100):\n"
        "        if number == 50: raise KeyboardInterrupt\n"
        '        yield f"call-{number}"\n'
        "IDS = numbered()",
    )
    process = await start(struck, work, str(tmp_path / "calls.journal"), **variables)
    async with asyncio.timeout(20):
        _, err = (stream.decode() for stream in await process.communicate())
    assert process.returncode == -signal.SIGINT
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("KeyboardInterrupt")
    check_quiet(err)


# --- The end with an open client -----------------------------------------------------------------

FORGOTTEN = """
import asyncio, sys
from calls_async import CallsClient
from calls_async.journal import Journal, export_calls

async def main(state):
    global client, kept
    client = CallsClient()
    await client.get_call("a")
    if state == "call":
        kept = asyncio.create_task(client.get_call("stuck"))
    if state == "gather":
        kept = asyncio.create_task(client.gather_calls(["b", "stuck"]))
    if state == "stream":
        kept = client.stream_calls(["b", "stuck", "c"])
        await anext(kept)
    if state == "export":
        kept = asyncio.create_task(export_calls(client, ["b", "stuck"], Journal.open(sys.argv[1])))
    await asyncio.sleep(0.05)
    if state == "dropped":
        client = None
    print("done")

asyncio.run(main(STATE))
"""


@pytest.mark.parametrize("state", ["idle", "dropped", "call", "gather", "stream", "export"])
@pytest.mark.parametrize("strict", [False, True])
async def test_a_program_may_end_with_an_open_client(variables, tmp_path, state, strict):
    """Its exit code is 0, and it hears of aiohttp's open session, also in the strictest mode."""
    if strict:
        variables |= {
            "PYTHONDEVMODE": "1",
            "PYTHONASYNCIODEBUG": "1",
            "PYTHONWARNINGS": "error",
        }
    code = FORGOTTEN.replace("STATE", repr(state)).replace(
        "sys.argv[1]", repr(str(tmp_path / "calls.journal"))
    )
    code, out, err = await run_python(code, **variables)
    assert (code, out) == (0, "done\n")
    check_quiet(err)
    if not strict:
        heard = {line.partition(":")[0] for line in err.splitlines()}
        assert heard <= {"Unclosed client session", "client_session", "Unclosed connector",
                         "connections", "connector"}  # fmt: skip


# --- Forks ---------------------------------------------------------------------------------------

FORKED = """
import asyncio, os, sys
from calls_async import CallsClient, WrongEventLoopError

async def in_child(client, outcomes):
    uses = [client.get_call("b"), client.gather_calls(["b"]), anext(client.stream_calls(["b"])),
            anext(outcomes), outcomes.aclose(), client.close(), client.__aenter__(),
            client.with_options().get_call("b")]
    refused = 0
    for use in uses:
        try:
            await use
        except WrongEventLoopError:
            refused += 1
    return refused

async def main():
    async with CallsClient() as client:
        outcomes = client.stream_calls(f"call-{number}" for number in range(60))
        ids = [(await anext(outcomes)).id]
        child = os.fork()
        if not child:
            os._exit(await in_child(client, outcomes))
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            await asyncio.sleep(0.01)
        ids += [outcome.id async for outcome in outcomes]
        calls = await client.gather_calls(ids)
        print(os.waitstatus_to_exitcode(ended[1]), len(set(ids)), len(calls))

asyncio.run(main())
"""


@POSIX
async def test_a_fork_in_the_middle_of_a_job_leaves_the_job_alone(calls_sandbox, variables):
    """The child gets a typed error wherever it tries, and the parent's stream goes on unharmed."""
    assert await run_python(FORKED, **variables) == (0, "8 60 60\n", "")
    requests = [calls_sandbox.ledger.requests_of(call_id) for call_id in call_ids(60)]
    assert [n for i, n in enumerate(requests) if i != 3] == [2] * 59


COLLECTED = """
import asyncio, gc, os
from calls_async import CallsClient, Timeouts

async def main():
    client = CallsClient(timeouts=Timeouts(attempt=2.0))
    await client.get_call("a")
    child = os.fork()
    if not child:
        del client
        gc.collect()
        os._exit(0)
    while not os.waitpid(child, os.WNOHANG)[0]:
        await asyncio.sleep(0.01)
    print((await client.fetch_call("b")).attempts)
    await client.close()

asyncio.run(main())
"""


@POSIX
async def test_what_a_child_collects_does_not_cost_the_parent_its_connections(
    calls_sandbox, variables
):
    """The child's copy of the client goes, and the parent still hears what its server answers."""
    code, out, _ = await run_python(COLLECTED, **variables)
    assert (code, out) == (0, "1\n")
    assert [entry.fresh for entry in calls_sandbox.ledger.entries] == [True, False]
