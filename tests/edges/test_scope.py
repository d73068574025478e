"""What is called off together: a stopped scope lets nobody in it wait any longer."""

from __future__ import annotations

import asyncio

import pytest

from calls_async import CallsError, ConnectError, StoppedBy
from calls_async._scope import Batch, Scope
from tests.kit import in_virtual_time, timers, turns

OVER = CallsError("over")
FAILURE = ConnectError("refused", call_id="call-1", attempts=3)


def now():
    return asyncio.get_running_loop().time()


def future():
    return asyncio.get_running_loop().create_future()


# --- Waits ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_sleep_lasts_as_long_as_it_should():
    """Undisturbed, a sleep is slept out."""
    assert await Scope().sleep(7.5) is True
    assert now() == 7.5
    assert await Scope().sleep(0) is True


@in_virtual_time
async def test_stopping_ends_every_wait_at_once():
    """Waits, in this scope and in those inside it, end in the same turn; others go on."""
    client, other = Scope(), Scope()
    batch = Scope(client)
    sleeps = [asyncio.create_task(scope.sleep(60)) for scope in (client, batch, other)]
    wait = asyncio.create_task(batch.wait(future()))
    await asyncio.sleep(1)
    client.stop(OVER)
    assert [await task for task in (*sleeps[:2], wait)] == [False, False, None]
    assert now() == 1.0
    assert await sleeps[2] is True
    assert client.stopped is batch.stopped is OVER
    assert other.stopped is None


@in_virtual_time
async def test_stopping_a_batch_leaves_its_client_alone():
    """What is stopped is the scope and what is below, not what is above or beside."""
    client = Scope()
    batch, beside = Scope(client), Scope(client)
    batch.stop(OVER)
    assert (client.stopped, beside.stopped) == (None, None)


@in_virtual_time
async def test_a_stopped_scope_waits_for_nothing():
    """After the stop no wait begins, however short, and nobody is left listed."""
    scope = Scope()
    scope.stop(OVER)
    assert await scope.sleep(60) is False
    assert await scope.wait(future()) is None
    assert Scope(scope).stopped is OVER
    assert now() == 0.0
    assert timers() == []


@in_virtual_time
async def test_the_first_reason_stays():
    """A scope that is stopped twice was stopped for the first reason."""
    scope = Scope()
    scope.stop(OVER)
    scope.stop(CallsError("later"), abort=True)
    assert scope.stopped is OVER
    assert scope.aborted


@in_virtual_time
async def test_a_wait_ends_when_its_time_has_come():
    """Past `until` nobody waits any longer, and no timer is left behind."""
    assert await Scope().wait(future(), until=3.0) is None
    assert now() == 3.0
    granted = future()
    granted.set_result(True)
    assert await Scope().wait(granted, until=9.0) is True
    assert timers() == []


@in_virtual_time
async def test_a_cancelled_wait_leaves_nothing():
    """Cancellation passes at once; neither the wait nor its timers stay."""
    scope = Scope()
    sleeping = asyncio.create_task(scope.sleep(60))
    waiting = asyncio.create_task(scope.wait(future(), until=60.0))
    await turns(2)
    for task in (sleeping, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    scope.stop(OVER)
    assert timers() == []


@in_virtual_time
async def test_what_was_granted_before_the_stop_is_not_used_after_it():
    """A wait that was served in the turn of the stop counts as not served."""
    scope, granted = Scope(), future()
    waiting = asyncio.create_task(scope.wait(granted))
    await turns(2)
    granted.set_result(True)
    scope.stop(OVER)
    assert await waiting is None


@in_virtual_time
async def test_a_scope_that_was_left_is_forgotten():
    """A finished batch does not hang on its client for ever, nor hear of its end."""
    client = Scope()
    batch = Scope(client)
    batch.leave()
    batch.leave()
    client.leave()
    client.stop(OVER)
    assert batch.stopped is None


# --- Requests and pulls --------------------------------------------------------------------------


async def pulled(scope, seconds=60):
    """Wait for the caller's code under a timeout that the scope knows of; when that ended."""
    try:
        async with asyncio.timeout(seconds) as timeout:
            with scope.pull(timeout):
                await future()
    except TimeoutError:
        return now()


async def requested(scope, seconds=60):
    """Wait for an answer within a time that the scope knows of; when that ended."""
    try:
        with scope.request(now() + seconds):
            await future()
    except TimeoutError:
        return now()


@in_virtual_time
async def test_a_stop_lets_requests_finish_unless_it_aborts():
    """A plain stop ends the waits for the caller's code; `abort` ends requests in flight too."""
    scope = Scope()
    pull = asyncio.create_task(pulled(scope))
    request = asyncio.create_task(requested(scope))
    await asyncio.sleep(1)
    scope.stop(OVER)
    assert await pull == 1.0
    await asyncio.sleep(1)
    assert not request.done()
    scope.stop(OVER, abort=True)
    assert await request == 2.0


@pytest.mark.parametrize("kind", [pulled, requested])
@in_virtual_time
async def test_what_is_ending_already_is_not_ended_again(kind):
    """A stop in the very turn in which a timeout fires finds nothing left to do."""
    scope = Scope()
    tasks = [asyncio.create_task(kind(scope, 5)) for _ in range(2)]
    await turns(2)
    asyncio.get_running_loop().call_at(5.0, lambda: scope.stop(OVER, abort=True))
    assert await asyncio.gather(*tasks) == [5.0, 5.0]
    scope.stop(OVER, abort=True)


@in_virtual_time
async def test_after_the_end_of_all_requests_none_begins():
    """A request that was about to begin when the scope was aborted is over before it is sent."""
    scope = Scope()
    scope.stop(OVER, abort=True)
    assert await requested(scope) == 0.0
    assert timers() == []


# --- Shutting ------------------------------------------------------------------------------------


async def asked(scope):
    """Wait for an answer of the caller's code; when that ended."""
    try:
        async with asyncio.timeout(60) as timeout:
            with scope.question(timeout):
                await future()
    except TimeoutError:
        return now()


@in_virtual_time
async def test_a_shut_scope_ends_pulls_and_nothing_else():
    """Ids are waited for no longer; sleeps, requests and questions of calls under way go on."""
    client = Scope()
    batch = Scope(client)
    goes_on = [asyncio.create_task(kind(batch)) for kind in (requested, asked)]
    goes_on.append(asyncio.create_task(batch.sleep(60)))
    pulls = [asyncio.create_task(pulled(scope)) for scope in (client, batch)]
    await asyncio.sleep(1)
    client.shut(OVER)
    assert await asyncio.gather(*pulls) == [1.0, 1.0]
    assert await asyncio.gather(*goes_on) == [60.0, 60.0, True]
    assert client.closing is batch.closing is Scope(client).closing is OVER
    assert (client.stopped, batch.stopped) == (None, None)


@in_virtual_time
async def test_what_is_stopped_is_shut_and_the_first_reason_stays():
    """`closing` says why nothing begins, whether the scope was shut, stopped, or both."""
    stopped, both = Scope(), Scope()
    stopped.stop(OVER)
    assert stopped.closing is OVER
    both.shut(OVER)
    both.shut(CallsError("later"))
    both.stop(FAILURE)
    assert (both.closing, both.stopped) == (OVER, FAILURE)


@in_virtual_time
async def test_a_scope_is_busy_with_calls_of_its_own_and_below():
    """From a call's beginning to its end, wherever below it is."""
    client = Scope()
    batch = Batch(client, patience=10.0)
    assert not client.busy
    for scope in (client, batch):
        scope.began()
        assert client.busy
        scope.ended()
        assert not client.busy


@in_virtual_time
async def test_news_come_of_failures_and_the_last_end():
    """Who has shut a scope hears of these from anywhere below, and else when its time is over."""
    client = Scope()
    batch = Batch(client, patience=10.0)
    for scope in (client, batch, batch):
        scope.began()
    client.shut(OVER)
    loop, heard = asyncio.get_running_loop(), []
    for at, what in enumerate((batch.ended, batch.ended, client.ended), start=1):
        loop.call_at(at, what)
    loop.call_at(4, batch.failed, FAILURE, 0.0)
    loop.call_at(5, client.failed, FAILURE, 0.0)
    for _ in range(5):
        await client.news(10.0)
        heard.append(now())
    assert heard == [2.0, 3.0, 4.0, 5.0, 10.0]
    assert timers() == []


# --- Patience ------------------------------------------------------------------------------------


@in_virtual_time
async def test_patience_ends_with_the_first_failure_after_it():
    """Without a final answer for `patience` seconds, the next failure ends the batch."""
    batch = Batch(Scope(), patience=10.0)
    batch.began()
    await asyncio.sleep(10)
    batch.failed(FAILURE, 0.0)
    assert batch.stopped is None
    await asyncio.sleep(0.1)
    batch.failed(FAILURE, 0.0)
    assert isinstance(batch.stopped, ConnectError)
    assert batch.stopped.stopped_by is StoppedBy.PATIENCE
    assert (batch.stopped.call_id, batch.stopped.attempts) == (None, 0)


@in_virtual_time
async def test_an_answer_begins_patience_anew():
    """Any final answer shows that the server is there."""
    batch = Batch(Scope(), patience=10.0)
    batch.began()
    await asyncio.sleep(9)
    batch.answered()
    await asyncio.sleep(9)
    batch.failed(FAILURE, 0.0)
    assert batch.stopped is None


@pytest.mark.parametrize(("silence", "stops"), [(10.0, False), (10.1, True)])
@in_virtual_time
async def test_a_silence_that_outlasts_patience_is_not_waited_for(silence, stops):
    """As soon as it is certain that patience will end, it has ended."""
    batch = Batch(Scope(), patience=10.0)
    batch.began()
    batch.failed(FAILURE, silence)
    assert (batch.stopped is not None) is stops


@in_virtual_time
async def test_time_without_a_call_under_way_costs_no_patience():
    """While the source or the consumer takes its time, the server is not to blame."""
    batch = Batch(Scope(), patience=10.0)
    batch.began()
    batch.began()
    batch.failed(FAILURE, 0.0)
    batch.ended()
    batch.ended()
    await asyncio.sleep(1000)
    batch.began()
    batch.failed(FAILURE, 0.0)
    assert batch.stopped is None
    await asyncio.sleep(6)
    batch.began()  # one is under way still: patience goes on
    await asyncio.sleep(6)
    batch.failed(FAILURE, 0.0)
    assert batch.stopped is not None


@in_virtual_time
async def test_a_refused_key_ends_the_batch_and_no_more():
    """The rest of a batch would be refused as well; other calls of the client ask themselves."""
    client = Scope()
    batch = Batch(client, patience=10.0)
    batch.refused(OVER)
    client.refused(OVER)
    assert batch.stopped is OVER
    assert client.stopped is None


@in_virtual_time
async def test_a_single_call_has_no_patience_of_its_own():
    """For the client's scope failures and answers are no news: its calls have their own time."""
    scope = Scope()
    scope.began()
    scope.failed(FAILURE, 1e9)
    scope.answered()
    scope.ended()
    assert scope.stopped is None
