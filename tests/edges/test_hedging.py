"""Hedging: a late request gets a rival, the first that settles the call wins, nothing is left over.

The server is the fake transport and time is virtual; everything between is the client that ships.
"""

from __future__ import annotations

import asyncio

import attrs
import pytest

from calls_async import (
    AttemptTimeoutError,
    ClientClosedError,
    ConfigurationError,
    Limits,
    NotFoundError,
    RetryPolicy,
    ServerError,
    Timeouts,
    events,
)
from calls_async._budget import CAPACITY, COST_TRANSIENT
from calls_async._hedge import BURST, ENOUGH
from calls_async._scope import Scope
from calls_async._throttle import Permit, Throttle
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns

USUAL = 0.1
"""Seconds that a request takes, as a rule."""
PERCENTILE = 1.2 * USUAL
"""Seconds after which a request is late."""
LATE = Fault.slow(5.0)
LATE_500 = attrs.evolve(Fault.status(500), delay=0.5 * USUAL)
HEDGED = Limits(hedge=0.05)


def hedging(transport, **options):
    """A client that knows how long a request takes, and can afford some hedges."""
    client = fake_client(transport, **{"limits": HEDGED} | options)
    hedge = client._core.bind().hedge
    for _ in range(max(ENOUGH, int(BURST / 0.05))):
        if hedge is not None:
            hedge.started()
            hedge.observed(PERCENTILE)
    return client


def scripted(*faults, call_id="late"):
    return FakeTransport(faults={call_id: list(faults)}, latency=USUAL)


def sent(transport, call_id="late"):
    return [entry for entry in transport.ledger.entries if entry.call_id == call_id]


@in_virtual_time
async def test_a_late_request_is_overtaken():
    """After the 95th percentile a second request is sent, and its record is the call's."""
    transport = scripted(LATE)
    told = []
    client = hedging(transport, hooks=[told.append])
    fetched = await client.fetch_call("late")
    assert fetched.call.id == "late"
    assert fetched.attempts == len(sent(transport)) == 2
    assert fetched.elapsed == pytest.approx(PERCENTILE + USUAL)
    statistics = client.statistics()
    assert (statistics.hedges, statistics.retries) == (1, 0)
    assert statistics.requests == len(transport.ledger)
    starts = [event for event in told if isinstance(event, events.AttemptStarted)]
    assert [(start.attempt, start.hedge) for start in starts[-2:]] == [(1, False), (2, True)]
    finished = [event for event in told if isinstance(event, events.AttemptFinished)]
    assert [event.attempt for event in finished if event.call_id == "late"] == [2]


@in_virtual_time
async def test_the_loser_is_cancelled_cleanly():
    """After the call no request, task or permit of it is left, and no timer after the client."""
    transport = scripted(LATE)
    client = hedging(transport)
    await client.get_call("late")
    assert transport.ledger.in_flight == client.statistics().in_flight == 0
    assert other_tasks() == set()
    await client.close()
    assert timers() == []


@in_virtual_time
async def test_without_the_option_nothing_is_hedged():
    """A late request is simply waited for."""
    transport = scripted(LATE)
    client = hedging(transport, limits=Limits())
    assert (await client.fetch_call("late")).attempts == 1
    assert client.statistics().hedges == 0


@in_virtual_time
async def test_too_little_is_known_at_first():
    """Before fifty answers nothing is late."""
    async with fake_client(scripted(LATE), limits=HEDGED) as client:
        await client.gather_calls(call_ids(ENOUGH - 1))
        assert (await client.fetch_call("late")).attempts == 1


@in_virtual_time
async def test_hedges_are_at_most_their_share():
    """However many requests are late, hedging adds no more than 5% to the load."""
    ids = call_ids(1000)
    faults = {call_id: [LATE] for call_id in ids[200::3]}
    transport = FakeTransport(faults=faults, latency=USUAL)
    async with fake_client(transport, limits=HEDGED) as client:
        await client.gather_calls(ids)
    assert len(ids) < len(transport.ledger) <= 1.05 * len(ids)


@in_virtual_time
async def test_a_hedge_is_paid_from_the_retry_budget():
    """It costs as much as a retry, and only its own success brings that back."""
    transport = scripted(LATE)
    client = hedging(transport)
    budget = client._core.bind().budget
    late = asyncio.create_task(client.get_call("late"))
    await asyncio.sleep(1.5 * USUAL)
    assert budget.level == CAPACITY - COST_TRANSIENT
    await late
    assert budget.level == CAPACITY
    budget.level = COST_TRANSIENT - 1
    transport.faults["poor"] = [LATE]
    assert (await client.fetch_call("poor")).attempts == 1


@pytest.mark.parametrize("script", [[Fault.slow(0.3), Fault.status(503)], [LATE_500]])
@in_virtual_time
async def test_a_failure_decides_nothing_while_the_other_may_succeed(script):
    """The rival's 503 does not end the call, nor does the first one's late 500."""
    client = hedging(scripted(*script))
    fetched = await client.fetch_call("late")
    assert fetched.attempts == 2
    assert client.statistics().retries == 0


@in_virtual_time
async def test_when_both_fail_it_is_one_failure():
    """Two failed requests of one attempt count once against the call's attempts."""
    client = hedging(scripted(LATE_500, LATE_500), retry=RetryPolicy(max_attempts=2))
    assert (await client.fetch_call("late")).attempts > 2
    client = hedging(scripted(LATE_500, LATE_500), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ServerError) as caught:
        await client.get_call("late")
    assert caught.value.attempts == 2


@in_virtual_time
async def test_a_final_answer_of_either_ends_the_call():
    """That there is no such call is an answer like a record."""
    client = hedging(scripted(LATE, Fault.status(404)))
    with pytest.raises(NotFoundError):
        await client.get_call("late")
    assert client.statistics().in_flight == 0


@in_virtual_time
async def test_what_the_rival_is_told_binds_the_client():
    """Its 429 closes the gate for all, although the first request wins."""
    refusal = Fault.status(429, headers={"Retry-After": "20"})
    client = hedging(scripted(Fault.slow(0.3), refusal))
    await client.get_call("late")
    assert client.statistics().cool_down > 19.0


@in_virtual_time
async def test_both_end_with_the_attempt():
    """The rival has no more time than the request that it is to overtake."""
    transport = scripted(LATE, LATE)
    policy = RetryPolicy(max_attempts=1)
    client = hedging(transport, retry=policy, timeouts=Timeouts(attempt=1.0))
    began = asyncio.get_running_loop().time()
    with pytest.raises(AttemptTimeoutError):
        await client.get_call("late")
    assert asyncio.get_running_loop().time() == pytest.approx(began + 1.0)
    assert client.statistics().in_flight == transport.ledger.in_flight == 0


@pytest.mark.parametrize("seconds", [0.0, 0.5 * USUAL, USUAL, 1.5 * USUAL, 2.0 * USUAL])
@in_virtual_time
async def test_cancelled_at_any_time_nothing_is_left(seconds):
    """Cancellation passes at once, and takes both requests with it."""
    for turn in range(8):
        transport = scripted(LATE)
        client = hedging(transport)
        late = asyncio.create_task(client.get_call("late"))
        await asyncio.sleep(seconds)
        await turns(turn)
        late.cancel()
        await asyncio.wait([late])
        await turns(3)
        assert client.statistics().in_flight == transport.ledger.in_flight == 0
        assert other_tasks() == set()


@in_virtual_time
async def test_closing_the_client_ends_both():
    """A hedged call that is in flight ends with the client."""
    transport = scripted(LATE, LATE)
    client = hedging(transport)
    late = asyncio.create_task(client.get_call("late"))
    await asyncio.sleep(1.5 * USUAL)
    await client.close()
    assert isinstance((await asyncio.gather(late, return_exceptions=True))[0], Exception)
    assert other_tasks() == set()


@in_virtual_time
async def test_a_request_that_has_not_begun_when_the_client_is_closed_is_not_sent():
    """Requests that may be overtaken are tasks; one that was made in the turn of `close()` ends."""
    transport = FakeTransport()
    client = hedging(transport)
    call = asyncio.create_task(client.get_call("a"))
    await asyncio.sleep(0)  # the call has begun, and its request has not
    await client.close()
    with pytest.raises(ClientClosedError):
        await call
    assert len(transport.ledger) == 0
    assert other_tasks() == set()


# --- When there is none ---------------------------------------------------------------------------


def ready():
    """A throttle of two permits, one of them out, that could afford a hedge."""
    loop = asyncio.get_running_loop()
    limits = Limits(max_concurrency=2, hedge=0.05)
    throttle = Throttle(limits, max_cool_down=300.0, loop=loop)
    for _ in range(20):
        throttle.hedge.started()
    return throttle


@in_virtual_time
async def test_a_hedge_takes_what_nobody_else_wants():
    """It needs a free permit, and never waits for one."""
    throttle, scope = ready(), Scope()
    assert await throttle.admit(scope)
    assert throttle.admit_hedge() == Permit(0.0, hedge=True, earns=COST_TRANSIENT)
    throttle.hedge.started()
    assert throttle.admit_hedge() is None
    assert throttle.in_flight == 2


@in_virtual_time
async def test_no_hedge_in_a_cool_down():
    """While the server wants silence, lateness is no reason to ask twice."""
    throttle = ready()
    throttle._gate.cool_down(0.0, 10.0)
    assert throttle.admit_hedge() is None
    await asyncio.sleep(10.0)
    assert throttle.admit_hedge() is not None


@in_virtual_time
async def test_no_hedge_in_a_hold():
    """While nobody answers there is nothing to overtake."""
    throttle = ready()
    throttle._outage.holding = True
    assert throttle.admit_hedge() is None


@pytest.mark.parametrize("share", [0.0, -0.01, 0.051, 1, True, float("nan")])
def test_the_share_is_checked(share):
    """More than 5% would be a second load, not a hedge."""
    with pytest.raises(ConfigurationError, match="hedge"):
        Limits(hedge=share)
