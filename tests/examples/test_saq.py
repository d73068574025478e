"""The client inside SAQ workers, as docs/how-to/saq.md has it: real workers on a real Redis."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys

import pytest

from calls_async.testing import Fault, record_body
from tests.examples.conftest import KEEPING
from tests.examples.pages import EXAMPLES, blocks, commands, run, until
from tests.kit import ROOT, call_ids

pytest.importorskip("saq", reason="saq is not installed: nox -s examples")
pytest.importorskip("redis", reason="redis (Python's) is not installed: nox -s examples")

from saq import Queue
from saq.job import Status

PAGE = blocks("saq.md")
WORKER = ("-m", "saq", "examples.saq_worker.settings")

# What SAQ does about workers that have died it does within seconds here, and not in a minute.
QUICK = """
import functools
from examples.saq_worker import queue, settings

queue.sweep = functools.partial(queue.sweep, abort=0.1)
quick = settings | {"timers": {"sweep": 1}}
"""


@pytest.fixture
async def saq_queue(redis_url, monkeypatch):
    """The queue, as a producer has it; nothing of an earlier test is in it."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    queue = Queue.from_url(redis_url, name="calls")
    await queue.connect()
    await queue.redis.flushall()
    # Keep the workers from looking for lost jobs for now. One that is taken in the very moment of
    # such a sweep passes for lost, and is run twice.
    await queue.sweep(lock=3600)
    yield queue
    await queue.disconnect()


@pytest.fixture
async def start_worker(saq_queue, calls_sandbox, tmp_path):  # noqa: ARG001 (it sets REDIS_URL)
    """Start workers, as the page says; those that a test leaves over are killed."""
    (tmp_path / "quick.py").write_text(QUICK)
    variables = {
        "CALLS_BASE_URL": calls_sandbox.base_url,
        "CALLS_API_KEY": calls_sandbox.api_key,
        "CALLS_GRACE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
    }
    workers = []

    async def start(*arguments):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, *(arguments or WORKER),
            cwd=tmp_path,
            env=os.environ | variables,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()


async def finished(job, within=30):
    """Wait until SAQ is through with a job."""
    async with asyncio.timeout(within):
        while job.status not in (Status.COMPLETE, Status.FAILED, Status.ABORTED):
            await asyncio.sleep(0.02)
            await job.refresh()
    return job


async def records(queue, job):
    """What the job has written down, by id."""
    found = await queue.redis.hgetall(f"calls:{job.key}")
    return {key.decode(): raw for key, raw in found.items()}


def requests(sandbox, ids):
    """How many requests each id cost."""
    return {call_id: number for call_id in ids if (number := sandbox.ledger.requests_of(call_id))}


def test_the_page_shows_what_is_tested():
    """The worker on the page is the example, to the letter, and every other block is run below."""
    example, *others = PAGE
    assert example == (EXAMPLES / "saq_worker.py").read_text("utf-8")
    assert [block.split("\n")[0] for block in others] == ["# enqueue", "# read"]


def test_the_commands_are_those_of_the_page():
    """Redis and the workers are started here as the page says."""
    started = commands("saq.md")
    assert shlex.join(["redis-server", "--port", "6379", *KEEPING]) in started
    assert shlex.join(["python", *WORKER]) in started


async def test_a_job_fetches_its_ids_and_retries_are_the_clients(
    saq_queue, start_worker, calls_sandbox, capsys
):
    """Right records, a reason for what has none, and the requests of one client for each fault."""
    calls_sandbox.missing = {"call-7"}
    calls_sandbox.faults = {
        "call-1": [Fault.reset, Fault.status(503)],
        "call-2": Fault.status(501),
    }
    await start_worker()
    _, enqueue, read = PAGE
    names = await run(enqueue, ids=call_ids(10))
    (job,) = names["jobs"]
    await finished(job)
    names = await run(read, **names)
    await names["queue"].disconnect()
    assert (job.status, job.attempts) == (Status.COMPLETE, 1)
    assert job.result == {"fetched": 8, "failed": 2}
    assert requests(calls_sandbox, call_ids(10)) == dict.fromkeys(call_ids(10), 1) | {"call-1": 3}
    assert {call.id for call in names["calls"]} == set(call_ids(10)) - {"call-2", "call-7"}
    told = capsys.readouterr().out
    assert "call-7 NotFoundError: " in told
    assert "call-2 ServerError: " in told
    found = await records(saq_queue, job)
    assert all(raw == record_body(call_id) for call_id, raw in found.items())


async def test_the_queues_time_out_ends_the_fetch(saq_queue, start_worker, calls_sandbox):
    """SAQ cancels the job: its requests end with it, and the worker goes on with the next."""
    calls_sandbox.faults = {"stuck": Fault.stall}
    await start_worker()
    job = await saq_queue.enqueue("fetch_calls", ids=["a", "stuck"], timeout=1, heartbeat=30)
    await until(lambda: calls_sandbox.ledger.requests_of("stuck") == 1)
    await finished(job)
    assert job.status is Status.FAILED
    assert "TimeoutError" in job.error
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    assert set(await records(saq_queue, job)) == {"a"}
    job = await saq_queue.enqueue("fetch_calls", ids=["b"], heartbeat=30)
    assert (await finished(job)).result == {"fetched": 1, "failed": 0}
    assert calls_sandbox.ledger.requests_of("stuck") == 1


async def test_a_worker_that_is_stopped_drains(saq_queue, start_worker, calls_sandbox):
    """SIGTERM: what is in flight is finished and kept, no more is begun, and the jobs go back.

    The next worker fetches the rest, though the jobs have no retries. What was stuck for longer
    than the grace was cut, and is the only id that is asked for twice; a job that had begun all of
    its ids does not pass for done without it.
    """
    calls_sandbox.latency = 0.25
    calls_sandbox.faults = {"stuck": [Fault.stall]}
    ids = call_ids(400)
    options = {"timeout": 0, "heartbeat": 30, "retries": 1}
    worker = await start_worker()
    last = await saq_queue.enqueue("fetch_calls", ids=["a", "stuck"], **options)
    job = await saq_queue.enqueue("fetch_calls", ids=ids, **options)
    await until(lambda: len(calls_sandbox.ledger) > 20)
    worker.send_signal(signal.SIGTERM)
    _, err = await worker.communicate()
    assert worker.returncode == 0, err.decode()
    assert b"Traceback" not in err
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    begun = requests(calls_sandbox, ids)
    assert len(begun) < len(ids)
    assert begun.keys() == set(await records(saq_queue, job))
    assert set(await records(saq_queue, last)) == {"a"}
    for each in (job, last):
        await each.refresh()
        assert (each.status, each.attempts) == (Status.QUEUED, 1)
    calls_sandbox.latency = 0.0
    await start_worker()
    for each in (job, last):
        await finished(each)
        assert (each.status, each.attempts) == (Status.COMPLETE, 2)
    assert (job.result["fetched"], last.result["fetched"]) == (len(ids), 2)
    assert requests(calls_sandbox, [*ids, "a", "stuck"]) == (
        dict.fromkeys(ids, 1) | {"a": 1, "stuck": 2}
    )


async def test_a_killed_workers_job_is_finished_by_another(saq_queue, start_worker, calls_sandbox):
    """SIGKILL: once the heartbeat is missed, another worker fetches what is not written down.

    Only what was in flight is fetched twice.
    """
    calls_sandbox.latency = 0.1
    ids = call_ids(400)
    victim = await start_worker()
    job = await saq_queue.enqueue("fetch_calls", ids=ids, timeout=0, heartbeat=1, retries=2)
    await until(lambda: len(calls_sandbox.ledger) > 50)
    victim.kill()
    await victim.wait()
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    kept = set(await records(saq_queue, job))
    begun = requests(calls_sandbox, ids)
    assert 0 < len(kept) < len(begun) < len(ids)
    await saq_queue.redis.delete(saq_queue.namespace("sweep"))  # the time has come for a sweep
    await start_worker("-m", "saq", "quick.quick")
    await finished(job)
    assert (job.status, job.attempts) == (Status.COMPLETE, 2)
    assert job.result == {"fetched": len(ids), "failed": 0}
    cost = requests(calls_sandbox, ids)
    assert cost == {call_id: 2 if call_id in begun.keys() - kept else 1 for call_id in ids}
