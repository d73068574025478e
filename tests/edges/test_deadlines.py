"""Time limits of requests: as `asyncio.timeout` has them, with one timer for all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from calls_async._deadlines import Deadlines
from tests.kit import in_virtual_time, timers, turns


def now():
    return asyncio.get_running_loop().time()


async def limited(deadlines, seconds, takes):
    """Take some time within a limit; when the time, or the limit, was over."""
    with deadlines.limit(now() + seconds):
        await asyncio.sleep(takes)
    return now()


def started(*works):
    return [asyncio.create_task(work) for work in works]


@in_virtual_time
async def test_what_is_over_its_time_is_ended():
    """Each block ends at its own limit, in whatever order the limits were set."""
    deadlines = Deadlines()
    ends = []

    async def work(seconds):
        with pytest.raises(TimeoutError):
            await limited(deadlines, seconds, 60.0)
        ends.append((seconds, now()))

    await asyncio.gather(*map(work, (3.0, 1.0, 2.0, 1.0, 7.0)))
    assert ends == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (7.0, 7.0)]
    assert timers() == []


@in_virtual_time
async def test_what_is_over_in_time_is_left_alone():
    """A block that ends before its limit does not hear of it, and neither does its task later."""
    deadlines = Deadlines()
    assert await limited(deadlines, 2.0, 1.0) == 1.0
    await asyncio.sleep(5.0)
    assert await limited(deadlines, 2.0, 1.9) == 7.9


@in_virtual_time
async def test_a_limit_that_is_renewed_ends_what_it_limits_later():
    """Each time from the new limit on; the timer that was due for the old one harms nobody."""
    deadlines = Deadlines()
    task = deadlines.begin(2.0)
    for until in (3.5, 5.0, 6.5):
        await asyncio.sleep(1.5)
        deadlines.renew(task, until)
    with pytest.raises(asyncio.CancelledError) as caught:
        await asyncio.sleep(60.0)
    assert deadlines.end(task, caught.value)
    assert now() == 6.5
    assert timers() == []


@in_virtual_time
async def test_one_timer_serves_all():
    """However many blocks there are, and have been, one timer waits for the earliest limit."""
    deadlines = Deadlines()
    tasks = started(*(limited(deadlines, 10.0 + number, 5.0) for number in range(50)))
    await turns(2)
    assert sum(timer.when() >= 10.0 for timer in timers()) == 1
    await asyncio.gather(*tasks)
    for _ in range(50):
        await limited(deadlines, 10.0, 0.1)
    assert len(timers()) == 1
    await asyncio.sleep(30.0)
    assert timers() == []


@in_virtual_time
async def test_an_earlier_limit_moves_the_timer():
    """A shorter limit that is set later is kept as well."""
    deadlines = Deadlines()
    long, short = started(limited(deadlines, 10.0, 60.0), limited(deadlines, 2.0, 60.0))
    with pytest.raises(TimeoutError):
        await short
    assert now() == 2.0
    with pytest.raises(TimeoutError):
        await long
    assert now() == 10.0


@in_virtual_time
async def test_a_cancellation_from_outside_passes():
    """Cancelled by somebody else around its limit, a block raises no `TimeoutError`."""
    for turn in range(4):
        deadlines = Deadlines()
        (task,) = started(limited(deadlines, 1.0, 60.0))
        await turns(2)
        asyncio.get_running_loop().call_at(now() + 1.0, task.cancel)
        await asyncio.sleep(1.0)
        await turns(turn)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@in_virtual_time
async def test_the_task_is_not_left_cancelled():
    """After its `TimeoutError` a task goes on as if nothing had happened."""
    deadlines = Deadlines()

    async def work():
        with pytest.raises(TimeoutError):
            await limited(deadlines, 1.0, 60.0)
        await asyncio.sleep(1.0)
        return asyncio.current_task().cancelling()

    assert await asyncio.create_task(work()) == 0
    assert now() == 2.0


@in_virtual_time
async def test_an_earlier_cancellation_that_was_survived_does_not_count():
    """A task that goes on after a cancellation has its limits all the same."""
    deadlines = Deadlines()

    async def work():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60.0)
        with pytest.raises(TimeoutError):
            await limited(deadlines, 1.0, 60.0)
        assert await limited(deadlines, 1.0, 0.5) == 1.5
        return asyncio.current_task().cancelling()

    (task,) = started(work())
    await turns(1)
    task.cancel()
    assert await task == 1
    assert deadlines._cancelled == {}


@in_virtual_time
async def test_a_block_that_is_over_as_it_is_ended_goes_on():
    """What swallows the end of its time has none of it left behind in its task."""
    deadlines = Deadlines()

    async def work():
        with deadlines.limit(now() + 1.0), suppress(asyncio.CancelledError):
            await asyncio.sleep(60.0)
        return asyncio.current_task().cancelling()

    assert await asyncio.create_task(work()) == 0


@in_virtual_time
async def test_an_error_of_the_block_s_own_passes():
    """What the block raises while it is being ended is not hidden by a `TimeoutError`."""
    deadlines = Deadlines()

    async def work():
        with deadlines.limit(now() + 1.0):
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError):
        await work()


@in_virtual_time
async def test_all_can_be_ended_at_once():
    """`end_all` ends every block in the same turn, and leaves no timer."""
    deadlines = Deadlines()
    tasks = started(*(limited(deadlines, 10.0, 60.0) for _ in range(3)))
    await asyncio.sleep(1.0)
    deadlines.end_all()
    deadlines.end_all()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError] * 3
    assert now() == 1.0
    assert timers() == []


@in_virtual_time
async def test_a_late_loop_ends_all_that_is_due():
    """Limits that have passed while the loop was busy are kept in one go."""
    deadlines = Deadlines()
    tasks = started(*(limited(deadlines, 1.0 + number, 60.0) for number in range(3)))
    await turns(2)
    asyncio.get_running_loop().jump(10.0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError] * 3
    assert now() == pytest.approx(10.0, abs=0.1)
