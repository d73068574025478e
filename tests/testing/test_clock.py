"""Virtual time: it passes only while everybody waits, and then at once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async.testing import DeadlockError, VirtualTimeLoop, run_in_virtual_time


def test_hours_pass_at_once():
    """A sleep takes exactly its seconds by the loop's clock, which starts at 0."""

    async def main():
        await asyncio.sleep(7 * 3600)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == 7 * 3600


def test_no_time_passes_while_there_is_work():
    """Giving way a thousand times takes no time at all."""

    async def main():
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == 0.0


@given(st.lists(st.floats(0, 1e5, allow_subnormal=False), max_size=20))
def test_sleepers_wake_in_the_order_of_their_timers(delays):
    """Whoever sleeps shorter wakes earlier, and nobody wakes before the time."""
    woken = []

    async def sleeper(delay):
        await asyncio.sleep(delay)
        assert asyncio.get_running_loop().time() >= delay - 1e-6
        woken.append(delay)

    async def main():
        async with asyncio.TaskGroup() as group:
            for delay in delays:
                group.create_task(sleeper(delay))

    run_in_virtual_time(main())
    assert woken == pytest.approx(sorted(delays), abs=1e-6)


def test_timeouts_end_by_the_virtual_clock():
    """What asyncio times, this loop times."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == 3600


def test_a_wait_that_cannot_end_is_an_error_and_no_hang():
    """Without a timer nothing can wake anybody, and the tasks are cleaned up all the same."""
    cleaned = []

    async def main():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(DeadlockError, match=r"tasks \(1\) wait"):
        run_in_virtual_time(main())
    assert cleaned == [True]


def test_what_the_coroutine_raises_comes_out():
    """An error is the caller's, as with `asyncio.run`."""

    async def main():
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_in_virtual_time(main())


def test_callbacks_that_are_ready_run_before_the_time_jumps():
    """An event that is set wakes its waiter at the same instant."""

    async def main():
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        loop.call_later(5, event.set)
        await event.wait()
        return loop.time()

    assert run_in_virtual_time(main()) == 5


def test_the_loop_can_be_given_to_a_runner():
    """It is an ordinary loop factory."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.sleep(60))
        assert runner.get_loop().time() == 60
        runner.run(asyncio.sleep(60))
        assert runner.get_loop().time() == 120
