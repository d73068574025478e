"""Loops of other kinds, and several of them: a client works in each, and belongs to one."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from calls_async import (
    Call,
    CallsClient,
    ClientClosedError,
    Fetched,
    Limits,
    RetryPolicy,
    WrongEventLoopError,
)
from calls_async.testing import (
    FakeTransport,
    Fault,
    Sandbox,
    VirtualTimeLoop,
    fake_client,
    run_in_virtual_time,
)
from tests.kit import call_ids, in_virtual_time, other_tasks, turns

# --- Where a client belongs ----------------------------------------------------------------------


async def refused(*uses):
    """Each of these uses is refused."""
    for use in uses:
        with pytest.raises(WrongEventLoopError, match="make one for each"):
            await use


def test_a_client_of_a_loop_that_is_closed_is_refused():
    """`asyncio.run` twice with one client: the second one hears what to do about it."""
    client = fake_client()
    asyncio.run(client.get_call("a"))
    asyncio.run(refused(client.get_call("b"), client.gather_calls(["b"]), client.close()))


def test_a_stream_belongs_to_the_loop_of_its_client():
    """Neither the next outcome nor the end is had from another loop; from its own both are."""
    client = fake_client(FakeTransport(latency=1.0))
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        outcomes = client.stream_calls(call_ids(50))
        assert isinstance(runner.run(anext(outcomes)), Fetched)
        run_in_virtual_time(refused(anext(outcomes), outcomes.aclose()))
        assert isinstance(runner.run(anext(outcomes)), Fetched)
        runner.run(outcomes.aclose())
        assert client.statistics().in_flight == 0


def test_of_threads_that_use_it_at_once_one_has_the_client():
    """Whose loop comes first keeps it; the others get the typed error, and nobody waits."""
    number = 8
    for _ in range(5):
        client = fake_client()
        together = threading.Barrier(number)
        ends = []

        async def use(client=client, together=together, ends=ends):
            together.wait()
            ends.extend(await asyncio.gather(client.get_call("a"), return_exceptions=True))

        threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(end).__name__ for end in ends) == [
            "Call",
            *["WrongEventLoopError"] * (number - 1),
        ]


def test_each_thread_may_have_a_client_of_its_own():
    """Clients share nothing, so loops in several threads do not disturb each other."""
    found = {}

    async def fetch(name):
        async with fake_client(FakeTransport(faults={"call-1": [Fault.status(500)]})) as client:
            found[name] = [call.id for call in await client.gather_calls(call_ids(50))]

    threads = [
        threading.Thread(target=run_in_virtual_time, args=(fetch(name),)) for name in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), call_ids(50))


# --- Tasks that are not as usual -----------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("limits", [Limits(), Limits(max_concurrency=3), Limits(hedge=0.05)])
@in_virtual_time
async def test_eager_tasks_make_no_difference(limits):
    """With the eager task factory records, errors and the end are the same."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    transport = FakeTransport(
        latency=0.3, faults={"call-1": [Fault.reset], "call-2": [Fault.status(429)]}
    )
    async with fake_client(transport, limits=limits) as client:
        calls = await client.gather_calls(call_ids(40))
        assert [call.id for call in calls] == call_ids(40)
        async with client.stream_calls(call_ids(500)) as outcomes:
            async for outcome in outcomes:
                if outcome.index == 40:
                    break
        mixed = await client.gather_calls(["a", ""], return_exceptions=True)
        assert isinstance(mixed[0], Call)
    await turns(2)
    assert other_tasks() == set()
    assert client.statistics().in_flight == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@in_virtual_time
async def test_eager_workers_do_not_begin_inside_each_other():
    """However many permits there are, the stack does not grow with the number of workers."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with fake_client(limits=Limits(max_concurrency=2000)) as client:
        client._core.bind()._concurrency.limit = 2000
        assert len(await client.gather_calls(call_ids(2000))) == 2000


@pytest.mark.parametrize("drained", [False, True])
@in_virtual_time
async def test_a_worker_that_is_cancelled_before_it_begins_keeps_nobody_waiting(drained):
    """Who cancels tasks that are not theirs ends the batch, but never makes it hang."""
    client = fake_client(FakeTransport(latency=1.0))
    before = asyncio.all_tasks()
    batch = asyncio.ensure_future(client.gather_calls(["a"] if drained else call_ids(20)))
    await asyncio.sleep(0)
    (worker,) = asyncio.all_tasks() - before - {batch}
    if drained:
        await turns(1)  # it has hired another one, which finds nothing left to do
        (worker,) = asyncio.all_tasks() - before - {batch, worker}
        worker.cancel()
        assert [call.id for call in await batch] == ["a"]
    else:
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    assert other_tasks() == set()
    await client.close()


# --- Another loop --------------------------------------------------------------------------------


async def everything(key, url):
    """Faults on the way, an early exit, a cancellation, and a close with calls in flight."""
    policy = RetryPolicy(backoff_base=0.001)
    client = CallsClient(key, base_url=url, retry=policy, limits=Limits(max_concurrency=8))
    async with client:
        calls = await client.gather_calls(call_ids(50))
        assert [call.id for call in calls] == call_ids(50)
        async with client.stream_calls(call_ids(500)) as outcomes:
            async for _ in outcomes:
                break
        late = asyncio.ensure_future(client.get_call("stuck"))
        await asyncio.sleep(0.01)
        late.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await late
        assert caught.value.args == ("enough",)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.get_call("stuck")
        left = asyncio.ensure_future(client.gather_calls(["stuck", "a"], return_exceptions=True))
        await asyncio.sleep(0.01)
    ends = await left
    assert isinstance(ends[0], ClientClosedError)
    await turns(3)
    assert client.statistics().in_flight == 0


def test_uvloop():
    """The client works in uvloop as it does in asyncio's own loop."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main():
        faults = {
            "call-1": [Fault.reset, Fault.cut],
            "call-2": [Fault.wrong_id],
            "stuck": Fault.stall,
        }
        async with Sandbox(faults=faults) as sandbox:
            before = other_tasks()
            await everything(sandbox.api_key, sandbox.base_url)
            assert sandbox.ledger.max_in_flight <= 8
            assert len(other_tasks()) <= len(before) + 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
