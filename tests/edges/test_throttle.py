"""The permits and the gate in the loop: first come, first served, and everything given back."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from calls_async import CallsError, Limits, RateLimitedError, events
from calls_async._headers import NO_HINT, Hint
from calls_async._pace import SLACK
from calls_async._scope import Scope
from calls_async._throttle import Permit, Throttle
from calls_async._verdict import Done
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, timers, turns


def throttle_of(limit=1, *, max_rate=None, max_cool_down=300.0):
    limits = Limits(max_concurrency=limit, max_rate=max_rate)
    return Throttle(limits, max_cool_down=max_cool_down, loop=asyncio.get_running_loop())


def now():
    return asyncio.get_running_loop().time()


def ask_for_silence(throttle, seconds):
    """Let an answer that is no failure ask for so many seconds of silence; what that changed."""
    answer = Done(call=None, answer=None, hint=Hint(wait=seconds))
    return throttle.learn(answer, Permit(now()))


# --- Permits -------------------------------------------------------------------------------------


@in_virtual_time
async def test_permits_are_limited_and_given_in_turn():
    """No more than the limit are out; those who wait are served first come, first served."""
    throttle, scope, served = throttle_of(2), Scope(), []

    async def work(number):
        assert await throttle.admit(scope)
        served.append(number)
        assert throttle.in_flight <= 2
        await asyncio.sleep(1)
        throttle.release()

    async with asyncio.TaskGroup() as group:
        for number in range(7):
            group.create_task(work(number))
        await turns(3)
        assert (throttle.in_flight, throttle.waiting) == (2, 5)
    assert served == list(range(7))
    assert (throttle.in_flight, throttle.waiting) == (0, 0)
    assert now() == 4.0


@in_virtual_time
async def test_nobody_overtakes_the_queue():
    """Who comes when the gate has just opened waits behind those who came before."""
    throttle, scope, served = throttle_of(9), Scope(), []

    async def work(name):
        assert await throttle.admit(scope)
        served.append(name)
        throttle.release()

    ask_for_silence(throttle, 10)
    early = asyncio.create_task(work("early"))
    await turns(2)
    asyncio.get_running_loop().jump(10.5)  # a loop that was busy: its timers are late
    await work("late")
    await early
    assert served == ["early", "late"]


@in_virtual_time
async def test_cancelled_in_any_turn_all_permits_are_back():
    """A call that is cancelled while it waits, or just as it is served, keeps no permit."""
    for turn in range(6):
        throttle, scope = throttle_of(), Scope()
        assert await throttle.admit(scope)
        first = asyncio.create_task(throttle.admit(scope))
        second = asyncio.create_task(throttle.admit(scope))
        for step in range(6):
            if step == 2:
                throttle.release()  # the first is served in this turn, and awake in the next
            if step == turn:
                first.cancel()
            await turns(1)
        if not first.cancelled():
            assert await first == Permit(now())
            throttle.release()
        assert await second == Permit(now())
        throttle.release()
        assert (throttle.in_flight, throttle.waiting) == (0, 0), turn


@pytest.mark.parametrize("how", ["cancel", "stop"])
@in_virtual_time
async def test_a_permit_that_comes_too_late_goes_to_the_next(how):
    """Cancelled or stopped in the very turn in which it is served, a call passes the permit on."""
    throttle, mine, other = throttle_of(), Scope(), Scope()
    assert await throttle.admit(other)
    first = asyncio.create_task(throttle.admit(mine))
    second = asyncio.create_task(throttle.admit(other))
    await turns(2)
    throttle.release()
    if how == "cancel":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        mine.stop(CallsError("over"))
        assert await first is None
    assert await second == Permit(now())
    assert throttle.in_flight == 1


@in_virtual_time
async def test_a_permit_knows_when_it_was_granted():
    """A call that starts later than that (the loop was busy) belongs to the wave that it was of.

    Otherwise its refusal would pass for a second one, and teach a second, much slower pace.
    """
    throttle, scope = throttle_of(), Scope()
    await throttle.admit(scope)
    waiting = asyncio.create_task(throttle.admit(scope))
    await asyncio.sleep(1.0)
    throttle.release()
    asyncio.get_running_loop().jump(0.5)
    assert await waiting == Permit(1.0)
    assert now() == 1.5


@in_virtual_time
async def test_at_once_or_not_at_all():
    """`admit_at_once` gives a permit if nothing stands against it, and overtakes nobody."""
    throttle, scope = throttle_of(2), Scope()
    assert throttle.admit_at_once(scope) == throttle.admit_at_once(scope) == Permit(0.0)
    assert throttle.admit_at_once(scope) is None
    waiting = asyncio.create_task(throttle.admit(scope))
    await turns(2)
    throttle.release()
    assert throttle.admit_at_once(scope) is None
    assert await waiting == Permit(0.0)
    throttle.release()
    throttle.release()
    ask_for_silence(throttle, 10)
    assert throttle.admit_at_once(scope) is None
    await asyncio.sleep(10.0)
    assert throttle.admit_at_once(scope) is None  # not before an answer shows that all is well
    assert await throttle.admit(scope) == Permit(10.0)
    throttle.release()
    scope.stop(CallsError("over"))
    assert throttle.admit_at_once(scope) is None


def carries_on(throttle, scope, hint=NO_HINT):
    """Bring a record; whether its permit is kept."""
    return throttle.carry_on(scope, hint, now(), now())


AGAINST = {
    "nothing": lambda *_: None,
    "silence": lambda throttle, _: ask_for_silence(throttle, 10),
    "a lower limit": lambda throttle, _: throttle._concurrency.overloaded(started=0.5, now=1.0),
    "an outage": lambda throttle, _: [
        throttle._outage.failed(started=now(), now=at, lasting=True) for at in (1.0, 2.0, 99.0)
    ],
    "the end": lambda _, scope: scope.shut(CallsError("closed")),
}


@pytest.mark.parametrize("against", AGAINST)
@in_virtual_time
async def test_a_permit_is_kept_as_long_as_nothing_stands_against_it(against):
    """Who keeps one is asked what who takes one is asked; the permit itself counts as one."""
    throttle, scope = throttle_of(20), Scope()
    assert all(throttle.take(scope) for _ in range(20))
    assert not throttle.take(scope)
    assert carries_on(throttle, scope)
    AGAINST[against](throttle, scope)
    assert carries_on(throttle, scope) == (against == "nothing")
    assert throttle.in_flight == 20


@in_virtual_time
async def test_what_a_record_says_counts_before_its_permit_is_kept():
    """The server may ask for silence with the very answer that would send another request."""
    throttle, scope = throttle_of(), Scope()
    assert throttle.take(scope)
    assert not carries_on(throttle, scope, Hint(wait=7.0))
    assert throttle.closed_for() == 7.0


@in_virtual_time
async def test_no_permit_is_kept_from_those_who_wait():
    """First come, first served: a relay does not hold its permit against a queue."""
    throttle, scope = throttle_of(), Scope()
    assert throttle.take(scope)
    waiting = asyncio.ensure_future(throttle.admit(scope))
    await turns(2)
    assert not carries_on(throttle, scope)
    throttle.release()
    assert await waiting is not None
    assert carries_on(throttle, scope)


@in_virtual_time
async def test_a_stopped_scope_gets_no_permit():
    """Who belongs to a stopped scope is not even queued, and who waits is sent away at once."""
    throttle, scope = throttle_of(), Scope()
    assert await throttle.admit(scope)
    waiting = asyncio.create_task(throttle.admit(scope))
    await turns(2)
    scope.stop(CallsError("over"))
    throttle.release()  # before those who were sent away have run
    assert await throttle.admit(scope) is None
    assert await waiting is None
    assert (throttle.in_flight, throttle.waiting) == (0, 0)


@in_virtual_time
async def test_waiting_ends_when_it_is_no_use_any_more():
    """Past `until` there is no permit, and the place in the queue is given up."""
    throttle, scope = throttle_of(), Scope()
    assert await throttle.admit(scope)
    assert await throttle.admit(scope, until=now() + 3) is None
    assert now() == 3.0
    assert throttle.waiting == 0
    assert timers() == []


# --- The gate ------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_cool_down_parks_everyone():
    """While the gate is closed nobody starts, whoever asks, and no permit is held."""
    throttle, scope, starts = throttle_of(4), Scope(), []

    async def work():
        assert await throttle.admit(scope)
        starts.append(now())
        throttle.release()

    assert ask_for_silence(throttle, 10) == [events.CoolDownEntered(at=0.0, seconds=10.0)]
    assert ask_for_silence(throttle, 5) == []
    assert throttle.closed_for() == 10
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(work())
        await asyncio.sleep(3)
        assert (throttle.in_flight, throttle.waiting) == (0, 5)
        ask_for_silence(throttle, 9)  # longer, while they wait
    assert min(starts) == pytest.approx(12)
    gaps = [later - sooner for sooner, later in itertools.pairwise(starts)]
    assert min(gaps) > 0.005  # staggered: a herd would start at once
    assert throttle.closed_for() == 0


@in_virtual_time
async def test_who_has_no_time_for_the_cool_down_does_not_wait():
    """If the gate opens after `until`, the wait ends before it begins."""
    throttle, scope = throttle_of(), Scope()
    ask_for_silence(throttle, 10)
    assert await throttle.admit(scope, until=9.9) is None
    assert now() == 0.0
    assert await throttle.admit(scope, until=10.1) == Permit(10.0)


@in_virtual_time
async def test_starts_are_paced():
    """`max_rate` spaces the starts evenly, however many permits are free."""
    throttle, scope, starts = throttle_of(100, max_rate=2.0), Scope(), []
    for _ in range(5):
        assert await throttle.admit(scope)
        starts.append(now())
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0], abs=SLACK)


@in_virtual_time
async def test_one_refusal_silences_the_whole_client():
    """A 429 of one call holds all others of the client, single calls and batches alike."""
    slow = Fault.status(429, headers={"Retry-After": "20"})
    transport = FakeTransport(faults={"call-0": [slow]})
    limits = Limits(max_concurrency=2)
    async with fake_client(transport, limits=limits) as client, asyncio.TaskGroup() as group:
        group.create_task(client.gather_calls(call_ids(4)))
        await turns(20)
        before = len(transport.ledger)
        group.create_task(client.get_call("single"))
        sibling = client.with_options()
        group.create_task(sibling.get_call("sibling"))
        await asyncio.sleep(19.9)
        assert len(transport.ledger) == before <= 2
        assert client.statistics().in_flight == 0
        assert 0 < client.statistics().cool_down < 0.2
    starts = [entry.at for entry in transport.ledger.entries[before:]]
    assert min(starts) >= 20.0
    assert len(set(starts)) == len(starts)


@in_virtual_time
async def test_parked_calls_burn_no_attempt():
    """A call that waited at the gate still needs one attempt, and its single-call time counts."""
    slow = Fault.status(429, headers={"Retry-After": "20"})
    transport = FakeTransport(faults={"throttled": [slow], "hopeless": slow})
    async with fake_client(transport) as client, asyncio.TaskGroup() as group:
        group.create_task(client.get_call("throttled"))
        await asyncio.sleep(1)
        outcome = await client.fetch_call("parked")
        assert outcome.attempts == 1
        # The silence, and its place behind the other call in a pace of one in two seconds.
        assert 19.0 <= outcome.elapsed <= 23.0
        with pytest.raises(RateLimitedError) as caught:
            await client.get_call("hopeless")
        assert caught.value.attempts == 2


class Turning:
    """A loop that only knows the time, and takes as long for a turn as it is told."""

    def __init__(self):
        self.now = 100.0
        self.soon = []

    def time(self):
        return self.now

    def call_soon(self, callback):
        self.soon.append(callback)

    def turn(self, seconds):
        self.now += seconds
        for callback in self.soon:
            callback()
        self.soon.clear()


@pytest.mark.parametrize(("seconds", "left"), [(0.0, 5), (0.15, 20)])
def test_what_a_busy_loop_takes_for_a_turn_is_no_queue(seconds, left):
    """A suspicion has the throttle measure one turn of its loop; two of 0.15 s explain 0.4 s."""
    loop = Turning()
    throttle = Throttle(Limits(max_concurrency=20), max_cool_down=1.0, loop=loop)
    throttle.in_flight = 20
    throttle.learn_record(NO_HINT, 0.0, 0.1)
    for answer in range(1, 12):
        throttle.learn_record(NO_HINT, float(answer), answer + 0.4)
        loop.turn(seconds)
    assert throttle.concurrency == left
