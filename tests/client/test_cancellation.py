"""Cancelled at every step of the loop: `CancelledError`, nothing left behind, a client that works.

The virtual loop counts its turns, so that a run can be cancelled in its first, second, ... turn, up
to the one in which it ends by itself. Faults, backoff, cool-down and waiting for permits are on.
"""

from __future__ import annotations

import asyncio

import pytest

from calls_async import CallsClient, Failed, Fetched, Limits, RetryPolicy, Timeouts
from calls_async.testing import FakeTransport, Fault, Sandbox, VirtualTimeLoop, fake_client
from tests.kit import call_ids, open_sockets, other_tasks, timers, turns
from tests.waiting import until


class CountingLoop(VirtualTimeLoop):
    """A virtual loop that cancels a task in a certain turn."""

    def __init__(self):
        super().__init__()
        self._countdown = 0
        self._victim = None
        self.struck = False
        """Whether the task was still running when its turn came."""
        self._look = self._selector.select
        self._selector.select = self._count

    def cancel_in(self, turns_left, victim):
        self._countdown, self._victim = turns_left, victim

    def _count(self, timeout=None):
        self._countdown -= 1
        if self._countdown == 0:
            self.struck = self._victim.cancel()
            timeout = 0  # there is something to do now
        return self._look(timeout)


def rough_transport():
    """A little of everything that makes a call wait."""
    return FakeTransport(
        latency=(0.0, 0.3),
        faults={
            "call-1": [Fault.reset, Fault.status(503)],
            "call-2": [Fault.status(429, headers={"Retry-After": "2"})],
            "call-3": [Fault.stall],
            "call-4": [Fault.wrong_id],
            "call-5": Fault.status(404),
        },
    )


def rough_client(transport):
    async def key():
        await asyncio.sleep(0.1)
        return transport.api_key

    return fake_client(
        transport,
        api_key=key,
        limits=Limits(max_concurrency=3),
        timeouts=Timeouts(attempt=1.0),
        retry=RetryPolicy(throttle_backoff_base=0.1),
    )


async def arriving(ids):
    for call_id in ids:
        await asyncio.sleep(0.01)
        yield call_id


async def gather_plainly(client):
    return await client.gather_calls(["call-0", "call-1", "call-0", *call_ids(5)])


async def gather_errors(client):
    return await client.gather_calls(arriving([*call_ids(12), ""]), return_exceptions=True)


async def get_one(client):
    return await client.get_call("call-1")


async def get_throttled(client):
    return await client.get_call("call-2")


async def read_stream(client):
    async with client.stream_calls(arriving([*call_ids(12), "call-0"])) as outcomes:
        return [outcome async for outcome in outcomes]


async def leave_stream(client):
    async with client.stream_calls(arriving(call_ids(1000))) as outcomes:
        async for outcome in outcomes:
            if outcome.index > 6:
                break


async def cancelled_in_turn(turn, job):
    """Run `job`, cancel it in that turn, and look around; whether it ran for so long."""
    loop = asyncio.get_running_loop()
    transport = rough_transport()
    client = rough_client(transport)
    task = asyncio.ensure_future(job(client))
    loop.cancel_in(turn, task)
    await asyncio.wait([task])
    assert task.cancelled() == loop.struck
    assert other_tasks() == set()
    assert transport.ledger.in_flight == 0
    statistics = client.statistics()
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    # A request that is cancelled before it arrives is counted all the same.
    assert 0 <= statistics.requests - len(transport.ledger) <= 3
    assert client._core.scope._children == set()
    await asyncio.sleep(5)
    assert timers() == []
    # What was held when the cancellation came is held no more: not even one permit.
    mixed = await client.gather_calls(call_ids(8), return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in mixed) == 1
    await client.close()
    return loop.struck


@pytest.mark.parametrize(
    "job", [gather_plainly, gather_errors, get_one, get_throttled, read_stream, leave_stream]
)
def test_cancelled_in_any_turn_of_the_loop_nothing_is_left(job):
    """In whichever turn it comes: `CancelledError`, no task, no request, all permits back."""
    for turn in range(1, 1_000):
        with asyncio.Runner(loop_factory=CountingLoop) as runner:
            if not runner.run(cancelled_in_turn(turn, job)):
                break
    assert 10 < turn < 1_000


@pytest.mark.parametrize("turn", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144])
@pytest.mark.parametrize("job", [gather_plainly, gather_errors, read_stream])
async def test_cancelled_over_real_sockets_no_descriptor_is_left(turn, job):
    """Connections of a cancelled batch are closed with the client; before that it still works."""
    before = open_sockets()
    async with Sandbox(latency=(0.0, 0.01), faults={"call-1": [Fault.reset, Fault.cut]}) as sandbox:
        limits = Limits(max_concurrency=4)
        async with CallsClient(sandbox.api_key, base_url=sandbox.base_url, limits=limits) as client:
            task = asyncio.ensure_future(job(client))
            await turns(turn)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            statistics = client.statistics()
            assert (statistics.in_flight, statistics.waiting) == (0, 0)
            assert 0 <= statistics.requests - len(sandbox.ledger) <= 4
            assert (await client.get_call("after")).id == "after"
            await until(lambda: sandbox.ledger.in_flight == 0)
    if before is not None:
        await until(lambda: open_sockets() <= before)


async def test_a_second_cancellation_waits_for_the_workers_all_the_same():
    """Impatient cancelling leaves nobody behind either: work that cleans up is awaited."""
    cleaned = []

    async def source():
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            await turns(10)
            cleaned.append(True)

    async with fake_client() as client:

        async def consume():
            async with client.stream_calls(source()) as outcomes:
                assert isinstance(await anext(outcomes), Fetched | Failed)
                await anext(outcomes)

        task = asyncio.ensure_future(consume())
        await turns(20)
        for _ in range(3):
            task.cancel()
            await turns(2)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == [True]
        assert client.statistics().in_flight == 0
