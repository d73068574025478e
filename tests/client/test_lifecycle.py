"""When a client opens, what it belongs to, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os

import aiohttp
import pytest

from calls_async import (
    Call,
    CallsClient,
    ClientClosedError,
    ConfigurationError,
    Limits,
    NotFoundError,
    RetryPolicy,
    ServerError,
    StoppedBy,
    Timeouts,
    WrongEventLoopError,
)
from calls_async.testing import (
    FakeTransport,
    Fault,
    VirtualTimeLoop,
    fake_client,
    run_in_virtual_time,
)
from tests.kit import call_ids, in_virtual_time, open_sockets, other_tasks, run_python, turns
from tests.waiting import until

KEY = "sk_test_do_not_show"
URL = "https://calls.example.com/gateway"


# --- Opening -------------------------------------------------------------------------------------


def test_making_a_client_needs_no_loop_and_opens_nothing():
    """A client may be made anywhere, such as in a module; dropped unused, it warns of nothing."""
    before = open_sockets()
    client = CallsClient(KEY, base_url=URL)
    assert open_sockets() == before
    assert client.statistics().requests == 0
    del client
    gc.collect()


async def test_the_connection_is_opened_by_the_first_call(calls_sandbox):
    """Entering connects to nobody; the first call does; leaving closes the connection."""
    before = open_sockets()
    async with CallsClient(calls_sandbox.api_key, base_url=calls_sandbox.base_url) as client:
        assert open_sockets() == before
        await client.get_call("a")
        await client.get_call("b")
        fresh = [entry.fresh for entry in calls_sandbox.ledger.entries]
        assert fresh == [True, False]
    if before is not None:
        await until(lambda: open_sockets() <= before)


async def test_a_client_works_without_the_context_manager(calls_sandbox):
    """`close()` is all that leaving the context does."""
    client = CallsClient(calls_sandbox.api_key, base_url=calls_sandbox.base_url)
    assert (await client.get_call("a")).id == "a"
    await client.close()


# --- Closing -------------------------------------------------------------------------------------


@in_virtual_time
async def test_closing_twice_is_closing_once():
    """`close()` may be called again, also on a client that was never used."""
    client = fake_client()
    await client.get_call("a")
    await client.close()
    await client.close()
    unused = fake_client()
    await unused.close()
    await unused.close()


@in_virtual_time
async def test_a_closed_client_is_closed_for_good():
    """Every use after `close()` is a `ClientClosedError`, and nothing is sent."""
    transport = FakeTransport()
    client = fake_client(transport)
    async with client:
        pass
    uses = [
        lambda: client.get_call("a"),
        lambda: client.fetch_call("a"),
        lambda: client.gather_calls(["a"]),
        lambda: client.gather_calls(["a"], return_exceptions=True),
        lambda: client.gather_calls([]),
        lambda: anext(client.stream_calls(["a"])),
        client.__aenter__,
        lambda: client.with_options().get_call("a"),
    ]
    for use in uses:
        with pytest.raises(ClientClosedError) as caught:
            await use()
        assert caught.value.stopped_by is StoppedBy.CLOSED
    assert len(transport.ledger) == 0
    assert client.statistics().requests == 0


@pytest.mark.parametrize("closer", ["close", "aexit"])
@in_virtual_time
async def test_closing_ends_what_is_in_flight_and_what_waits(closer):
    """Calls in flight, parked ones and those in their backoff end with a `ClientClosedError`."""
    transport = FakeTransport(
        latency=5.0, faults={"call-0": Fault.status(429, headers={"Retry-After": "60"})}
    )
    client = fake_client(transport, limits=Limits(max_concurrency=2))
    tasks = [
        asyncio.ensure_future(client.get_call(call_id, timeout=100)) for call_id in call_ids(6)
    ]
    await asyncio.sleep(7)
    if closer == "close":
        await client.close()
    else:
        await client.__aexit__(None, None, None)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert asyncio.get_running_loop().time() == 7
    assert isinstance(results[1], Call)
    assert {type(result) for result in (results[0], *results[2:])} == {ClientClosedError}
    assert [result.call_id for result in results[2:]] == call_ids(6)[2:]
    assert results[0].attempts == 1
    assert client.statistics().in_flight == client.statistics().waiting == 0


@in_virtual_time
async def test_closing_ends_the_wait_for_a_key():
    """A provider that never answers keeps no call after `close()`."""

    async def provider():
        await asyncio.Event().wait()

    client = fake_client(api_key=provider)
    batch = asyncio.ensure_future(client.gather_calls(["a", "b"], return_exceptions=True))
    await asyncio.sleep(1)
    await client.close()
    assert {type(error) for error in await batch} == {ClientClosedError}


@pytest.mark.parametrize("injected", [False, True])
async def test_closing_cuts_requests_on_the_wire(calls_sandbox, injected):
    """A stalled request over a real socket ends with the client, typed, whoever has the session."""
    calls_sandbox.faults = {"a": Fault.stall}
    async with aiohttp.ClientSession() as session:
        client = CallsClient(
            calls_sandbox.api_key,
            base_url=calls_sandbox.base_url,
            session=session if injected else None,
            retry=RetryPolicy(max_attempts=1),
        )
        call = asyncio.ensure_future(client.get_call("a"))
        await until(lambda: calls_sandbox.ledger.in_flight == 1)
        await client.close()
        with pytest.raises(ClientClosedError) as caught:
            await call
        assert (caught.value.call_id, caught.value.attempts) == ("a", 1)
        await until(lambda: calls_sandbox.ledger.in_flight == 0)


# --- Other policies on the same core -------------------------------------------------------------


@in_virtual_time
async def test_a_child_has_its_own_policies():
    """`with_options` replaces what it names and keeps the rest; the parent stays as it was."""
    seen = []
    transport = FakeTransport(faults={"a": Fault.status(500), "slow": Fault.stall})
    async with fake_client(transport, retry=RetryPolicy(max_attempts=2)) as client:
        child = client.with_options(retry=RetryPolicy(max_attempts=1), hooks=[seen.append])
        grandchild = child.with_options(timeouts=Timeouts(attempt=1.0, total=2.0), hooks=())
        attempts = []
        for user in (client, child, grandchild):
            with pytest.raises(ServerError) as caught:
                await user.get_call("a")
            attempts.append(caught.value.attempts)
        assert attempts == [2, 1, 1]
        assert {event.call_id for event in seen if hasattr(event, "call_id")} == {"a"}
        told = len(seen)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Exception, match="stopped by attempts"):
            await grandchild.get_call("slow")
        assert asyncio.get_running_loop().time() == began + 1.0
        assert len(seen) == told


@in_virtual_time
async def test_a_child_shares_gate_permits_and_counters():
    """A cool-down that a child meets parks the parent; permits and statistics are common."""
    transport = FakeTransport(
        latency=1.0, faults={"hot": [Fault.status(429, headers={"Retry-After": "30"})]}
    )
    async with fake_client(transport, limits=Limits(max_concurrency=3)) as client:
        child = client.with_options(timeouts=Timeouts(total=100))
        await asyncio.gather(*(user.get_call("a") for user in (client, child) * 4))
        assert transport.ledger.max_in_flight == 3
        throttled = asyncio.ensure_future(child.get_call("hot"))
        await asyncio.sleep(1.5)
        assert client.statistics() == child.statistics()
        assert client.statistics().cool_down == pytest.approx(29.5)
        assert (await client.get_call("b", timeout=60)).id == "b"
        assert asyncio.get_running_loop().time() > 30
        await throttled


@in_virtual_time
async def test_closing_a_child_closes_nothing():
    """The parent and its other children go on."""
    async with fake_client() as client:
        async with client.with_options() as child:
            await child.get_call("a")
        await child.close()
        assert (await client.get_call("b")).id == "b"
        assert (await child.get_call("c")).id == "c"


@in_virtual_time
async def test_a_child_ends_with_its_parent():
    """Closing the parent ends the children's calls in flight and refuses further ones."""
    client = fake_client(FakeTransport(latency=5.0))
    child = client.with_options()
    call = asyncio.ensure_future(child.get_call("a"))
    await asyncio.sleep(1)
    await client.close()
    for lost in (call, child.get_call("b")):
        with pytest.raises(ClientClosedError):
            await lost


@pytest.mark.parametrize(
    "options", [{"retry": 3}, {"timeouts": 5}, {"hooks": print}, {"retry": 0}, {"timeouts": 0}]
)
def test_a_childs_options_are_checked(options):
    """`with_options` refuses what the constructor refuses."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        fake_client().with_options(**options)


# --- Where it belongs ----------------------------------------------------------------------------


def test_another_event_loop_is_refused():
    """A client belongs to the loop of its first use, whatever is asked of it elsewhere."""
    transport = FakeTransport()
    client = fake_client(transport)
    run_in_virtual_time(client.get_call("a"))

    async def everything():
        for use in (
            client.get_call("b"),
            client.gather_calls(["b"]),
            anext(client.stream_calls(["b"])),
            client.__aenter__(),
            client.with_options().get_call("b"),
            client.close(),
        ):
            with pytest.raises(WrongEventLoopError):
                await use

    run_in_virtual_time(everything())
    assert len(transport.ledger) == 1
    assert client.statistics().fetched == 1


def test_a_client_that_was_only_made_belongs_to_nobody():
    """Making, copying options and reading statistics bind to no loop; the first use does."""
    client = fake_client()
    child = client.with_options(timeouts=Timeouts(total=1))
    client.statistics()
    assert run_in_virtual_time(child.get_call("a")).id == "a"


FORKED = """
import asyncio, os
from calls_async import WrongEventLoopError
from calls_async.testing import VirtualTimeLoop, fake_client

client = fake_client()
loop = VirtualTimeLoop()
loop.run_until_complete(client.get_call("a"))

async def use():
    refused = 0
    for job in (client.get_call("b"), client.gather_calls(["b"]), client.close()):
        try:
            await job
        except WrongEventLoopError:
            refused += 1
    return refused

child = os.fork()
if not child:
    os._exit(loop.run_until_complete(use()))
refused = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
still = loop.run_until_complete(client.get_call("c")).id
loop.close()
print(refused, still)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_after_a_fork_the_child_is_refused():
    """Even with the very same loop object the child gets a typed error; the parent goes on."""
    assert await run_python(FORKED) == (0, "3 c\n", "")


# --- An injected session -------------------------------------------------------------------------


async def test_an_injected_session_is_used_and_never_closed(calls_sandbox):
    """The caller's session carries the requests, keeps its own defaults, and stays open."""
    async with aiohttp.ClientSession(headers={"X-Theirs": "yes"}) as session:
        for _ in range(2):
            async with CallsClient(
                calls_sandbox.api_key, base_url=calls_sandbox.base_url, session=session
            ) as client:
                await client.get_call("a")
        assert not session.closed
        assert dict(session.headers) == {"X-Theirs": "yes"}
        assert calls_sandbox.api_key not in repr(vars(session))
        # Both clients used the session's one connection.
        assert [entry.fresh for entry in calls_sandbox.ledger.entries] == [True, False]


def test_a_session_must_be_one():
    """Anything else is refused when the client is made."""
    with pytest.raises(ConfigurationError, match="session"):
        CallsClient(KEY, base_url=URL, session=object())


# --- What it shows -------------------------------------------------------------------------------


@in_virtual_time
async def test_statistics_are_true_at_every_moment():
    """Each number is what the ledger and the outcomes say, at the end and all the way there."""
    transport = FakeTransport(
        latency=1.0,
        missing={"call-3"},
        faults={
            "call-1": [Fault.status(500)],
            "call-2": [Fault.status(429, headers={"Retry-After": "10"})],
        },
    )
    snapshots = {}
    async with fake_client(transport, limits=Limits(max_concurrency=2)) as client:

        def look(_):
            now = client.statistics()
            assert now.in_flight + now.waiting <= 5
            assert 0 <= now.requests - len(transport.ledger) <= now.in_flight

        watched = client.with_options(hooks=[look], timeouts=Timeouts(total=100))
        calls = [asyncio.ensure_future(watched.get_call(call_id)) for call_id in call_ids(5)]
        for moment in (0.5, 1.5, 2.5, 9.0):
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            snapshots[moment] = client.statistics()
        results = await asyncio.gather(*calls, return_exceptions=True)
        end = client.statistics()
    shown = {
        moment: (now.requests, now.in_flight, now.waiting, now.fetched, now.failed)
        for moment, now in snapshots.items()
    }
    # call-1 fails after one second and comes back after call-2 and call-3, which wait already.
    assert shown[0.5] == (2, 2, 3, 0, 0)
    assert shown[1.5] == (4, 2, 2, 1, 0)
    assert shown[2.5][3:] == (1, 1)
    assert snapshots[2.5].cool_down == pytest.approx(9.5)
    assert snapshots[9.0].cool_down == pytest.approx(3.0)
    assert snapshots[9.0].in_flight == 0
    assert (end.fetched, end.failed, end.in_flight, end.waiting) == (4, 1, 0, 0)
    assert (end.requests, end.retries, end.throttled) == (len(transport.ledger), 2, 1)
    assert end.cool_down == 0.0
    assert end.max_concurrency == 2
    assert isinstance(results[3], NotFoundError)


def test_the_repr_shows_where_and_never_the_key():
    """`repr` and `vars` of a client and its children hold neither key nor proxy nor headers."""
    client = CallsClient(
        KEY, base_url=URL, headers={"X-Gateway": "do_not_show"}, proxy="http://u:do_not_show@p:1"
    )
    assert repr(client) == f"<CallsClient of {URL}>"
    assert repr(client.with_options()) == repr(client)
    for part in (client, client._config, client._core, client._core.credentials, vars(client)):
        assert "do_not_show" not in f"{part!r} {part}"


@in_virtual_time
async def test_the_repr_of_a_closed_client_says_so():
    """What is closed is shown as such."""
    client = fake_client()
    await client.close()
    assert repr(client) == "<CallsClient of http://127.0.0.1, closed>"


# --- The end of the program ----------------------------------------------------------------------

FORGOTTEN = """
import asyncio
from calls_async import CallsClient
from calls_async.testing import Fault, Sandbox

async def main():
    global client, outcomes
    sandbox = Sandbox(faults={"stuck": Fault.stall})
    await sandbox.start()
    client = CallsClient(sandbox.api_key, base_url=sandbox.base_url)
    await client.get_call("a")
    outcomes = client.stream_calls(["b", "stuck", "c"])
    async for outcome in outcomes:
        break
    print("done")

asyncio.run(main())
"""


async def test_a_program_may_end_with_an_open_client():
    """Who forgets to close hears of aiohttp's open session, and of nothing else."""
    code, out, err = await run_python(FORGOTTEN)
    assert (code, out) == (0, "done\n")
    heard = {line.partition(":")[0] for line in err.splitlines()}
    assert heard <= {"Unclosed client session", "client_session", "Unclosed connector",
                     "connections", "connector"}  # fmt: skip
    assert "sk_test" not in err


def test_a_stream_left_open_at_the_end_of_the_loop_is_quiet():
    """`asyncio.run` cancels what is left; neither tasks nor generators complain."""
    client = fake_client(FakeTransport(latency=1.0))

    async def main():
        outcomes = client.stream_calls(call_ids(500))
        await anext(outcomes)
        assert other_tasks()
        return outcomes

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        outcomes = runner.run(main())
        runner.run(turns(3))
    del outcomes
    gc.collect()
