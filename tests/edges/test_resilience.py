"""The whole client in bad times: outages, sick servers, overload, and what it tells of them.

The server is the fake transport and time is virtual; everything between is the client that ships.
"""

from __future__ import annotations

import asyncio
import itertools

import attrs
import pytest

from calls_async import (
    AttemptTimeoutError,
    Call,
    CallsError,
    ConnectError,
    Failed,
    Fetched,
    Limits,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    StoppedBy,
    Timeouts,
    events,
)
from calls_async._budget import CAPACITY, COST_THROTTLED, COST_TRANSIENT
from calls_async._concurrency import START
from calls_async._outage import FIRST_PROBE, MANY, PROBE_INTERVAL, PROBE_TIMEOUT
from calls_async._scope import Batch, Scope
from calls_async._throttle import Permit, Throttle
from calls_async._verdict import BATCH_ATTEMPTS, Done
from calls_async._verdict import Fault as Failure
from calls_async.testing import SANDBOX_KEY, FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns

AWAY = 60.0
"""Seconds that an outage lasts."""
AT_ONCE = RetryPolicy(backoff_base=0.0)
OOPS = Fault.status(500)
BUSY = Fault.status(503)


def now():
    return asyncio.get_running_loop().time()


def one_permit():
    """A throttle that lets one request go at a time."""
    loop = asyncio.get_running_loop()
    return Throttle(Limits(max_concurrency=1), max_cool_down=300.0, loop=loop)


def told_of(told, kind):
    """The events of a kind."""
    return [event for event in told if isinstance(event, kind)]


def later(seconds, transport, **changes):
    """Change a transport in so many seconds."""

    def change():
        for name, value in changes.items():
            setattr(transport, name, value)

    asyncio.get_running_loop().call_later(seconds, change)


@attrs.define(kw_only=True, eq=False)
class Flaky(FakeTransport):
    """A fake that also says when it was asked, reachable or not, and how many were inside."""

    knocks: list[float] = attrs.field(factory=list)
    inside: int = 0
    silent: bool = False

    async def get(self, call_id, key, headers=None, *, fresh=False):
        """Answer, or, when silent, let the request hang."""
        self.knocks.append(now())
        self.inside += 1
        try:
            if self.silent:
                await asyncio.Event().wait()
            return await super().get(call_id, key, headers, fresh=fresh)
        finally:
            self.inside -= 1

    def since(self, moment):
        """How many requests were tried after it."""
        return sum(at > moment for at in self.knocks)


# --- Outages: batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["unreachable", "silent", "sick"])
@in_virtual_time
async def test_a_batch_loses_nothing_in_an_outage(way):
    """A minute without the server costs a minute: no id, few requests, and a gentle return."""
    told = []
    ids = call_ids(2000)
    transport = Flaky(latency=0.2)
    outage, normal = {
        "unreachable": ({"reachable": False}, {"reachable": True}),
        "silent": ({"silent": True}, {"silent": False}),
        "sick": ({"faults": dict.fromkeys(ids, Fault.status(502))}, {"faults": {}}),
    }[way]
    async with fake_client(transport, hooks=(told.append,)) as client:
        later(3.0, transport, **outage)
        later(3.0 + AWAY, transport, **normal)
        async with client.stream_calls(ids) as outcomes:
            seen = [outcome async for outcome in outcomes]
        statistics = client.statistics()
    assert {type(outcome) for outcome in seen} == {Fetched}
    assert sorted(outcome.index for outcome in seen) == list(range(2000))
    assert sum(3.0 + 2.0 < at < 3.0 + AWAY for at in transport.knocks) <= 60

    (entered,), (left,) = told_of(told, events.OutageEntered), told_of(told, events.OutageLeft)
    assert 3.0 < entered.at < 16.0
    assert 3.0 + AWAY <= left.at <= 3.0 + AWAY + 5.0
    assert left.seconds == pytest.approx(left.at - entered.at + entered.seconds)
    # It goes on with one request after the other, and only then with more.
    after = [at for at in transport.knocks if at >= left.at]
    assert after[1] - after[0] == pytest.approx(0.2)
    assert statistics.outage == 0.0
    assert statistics.concurrency > 1


@in_virtual_time
async def test_after_an_outage_concurrency_starts_at_one():
    """What the server takes when it is back is not known, whatever it took before."""
    transport = FakeTransport(latency=0.2)
    limits_told = []

    def look(event):
        if isinstance(event, events.OutageLeft):
            limits_told.append(client.statistics().concurrency)

    async with fake_client(transport, hooks=(look,)) as client:
        later(1.0, transport, reachable=False)
        later(31.0, transport, reachable=True)
        await client.gather_calls(call_ids(1000))
        assert client.statistics().concurrency > START
    assert limits_told == [1]


@in_virtual_time
async def test_an_outage_longer_than_patience_fails_the_rest_unsent():
    """When patience ends, what was tried keeps its last error; the rest fails with the batch's."""
    transport = Flaky(latency=0.2)
    limits = Limits(patience=50.0)
    async with fake_client(transport, limits=limits) as client:
        later(1.0, transport, reachable=False)
        results = await client.gather_calls(call_ids(2000), return_exceptions=True)
        ended = now()
        assert client.statistics().waiting == client.statistics().in_flight == 0
    errors = [result for result in results if isinstance(result, CallsError)]
    assert {type(error) for error in errors} == {ConnectError}
    assert {error.stopped_by for error in errors} == {StoppedBy.PATIENCE}
    assert sum(error.attempts == 0 for error in errors) > 1000
    assert [r.call_id for r in results if isinstance(r, CallsError)] == [
        call_id for call_id, r in zip(call_ids(2000), results, strict=True) if r in errors
    ]
    assert 51.0 <= ended <= 51.0 + 6.0  # the failed probe after it; probes are up to 4 s apart
    assert transport.since(3.0) <= 60


@in_virtual_time
async def test_a_final_answer_ends_an_outage():
    """A 404 is no record, but somebody is at home."""
    told = []
    transport = FakeTransport(reachable=False, missing=set(call_ids(30)))
    async with fake_client(transport, hooks=(told.append,)) as client:
        later(20.0, transport, reachable=True)
        results = await client.gather_calls(call_ids(30), return_exceptions=True)
    assert {type(result) for result in results} == {NotFoundError}
    assert len(told_of(told, events.OutageEntered)) == len(told_of(told, events.OutageLeft)) == 1


@in_virtual_time
async def test_probes_are_short_few_and_burn_no_attempt():
    """A probe takes 2 s at most, one is out at a time, and an id may be asked about for hours."""
    told = []
    transport = Flaky(reachable=False)
    limits = Limits(max_concurrency=2, patience=100_000.0)
    away = 3600.0
    async with fake_client(transport, hooks=(told.append,), limits=limits) as client:
        later(600.0, transport, reachable=True, silent=True)
        later(away, transport, silent=False)
        (outcome,) = [outcome async for outcome in client.stream_calls(["patient"])]
    assert isinstance(outcome, Fetched)
    assert outcome.attempts > 10 * BATCH_ATTEMPTS
    (entered,), (left,) = told_of(told, events.OutageEntered), told_of(told, events.OutageLeft)
    probes = [
        event for event in told_of(told, events.AttemptFinished) if entered.at < event.at < left.at
    ]
    assert max(probe.duration for probe in probes) == pytest.approx(PROBE_TIMEOUT)
    assert {type(probe.error) for probe in probes} == {ConnectError, AttemptTimeoutError}
    starts = [at for at in transport.knocks if at > entered.at]
    # The first waits for the backoff of the id, which had failed before there was an outage.
    assert entered.at + FIRST_PROBE <= starts[0] <= entered.at + 4.0
    gaps = [later - sooner for sooner, later in itertools.pairwise(starts)]
    assert all(2.0 <= gap <= 4.0 + 1e-9 for gap in gaps)


@in_virtual_time
async def test_throttled_probes_burn_no_attempt_either():
    """A server that comes back with ten minutes of 429 has sent nobody away for good."""
    transport = FakeTransport(reachable=False, faults={"patient": [Fault.status(429)] * 200})
    limits = Limits(max_concurrency=1, patience=100_000.0)
    async with fake_client(transport, limits=limits) as client:
        later(30.0, transport, reachable=True)
        (call,) = await client.gather_calls(["patient"])
    assert isinstance(call, Call)


@in_virtual_time
async def test_probes_are_no_renewals_of_the_key():
    """After an outage full of probes, a key that was changed meanwhile is still asked for anew."""
    keys = iter(["sk_test_old", SANDBOX_KEY])
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, api_key=lambda: next(keys)) as client:
        later(60.0, transport, reachable=True)
        (outcome,) = [outcome async for outcome in client.stream_calls(["patient"])]
    assert isinstance(outcome, Fetched)
    assert outcome.attempts > 10


@pytest.mark.parametrize("moment", [0.5, 10.0, 12.3, 30.0])
@in_virtual_time
async def test_cancelled_while_holding_a_batch_leaves_nothing(moment):
    """Neither a task, nor a permit, nor a timer, nor a place in the queue is left."""
    transport = Flaky(silent=True)
    client = fake_client(transport, timeouts=Timeouts(attempt=5.0))
    batch = asyncio.create_task(client.gather_calls(call_ids(500)))
    await asyncio.sleep(moment)
    assert (client.statistics().outage > 0.0) is (moment >= 10.0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    statistics = client.statistics()
    assert (statistics.in_flight, statistics.waiting, transport.inside) == (0, 0, 0)
    assert other_tasks() == set()
    assert timers() == []
    # The hold is still there, and so is the way out of it.
    transport.silent = False
    assert [call.id for call in await client.gather_calls(["later"])] == ["later"]
    assert client.statistics().outage == 0.0
    await client.close()


# --- Outages: single calls -----------------------------------------------------------------------


@in_virtual_time
async def test_a_single_call_in_an_outage_fails_fast():
    """It is not held with the batches: it is sent, and fails with what it met with."""
    transport = FakeTransport(reachable=False)
    async with fake_client(transport) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(500)))
        await asyncio.sleep(20.0)
        assert client.statistics().outage > 0.0
        assert client.statistics().waiting > 0
        before = now()
        with pytest.raises(ConnectError) as caught:
            await client.get_call("single")
        assert now() - before <= 0.05 + 0.1 + 0.2  # its backoff, if there is a budget for it
        assert caught.value.stopped_by in {StoppedBy.ATTEMPTS, StoppedBy.BUDGET}
        batch.cancel()


@in_virtual_time
async def test_a_single_calls_success_frees_the_batch():
    """Any answer ends the hold, not only a probe's."""
    told = []
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, hooks=(told.append,)) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(50)))
        await asyncio.sleep(1.5)
        assert client.statistics().outage > 0.0
        transport.reachable = True
        await client.get_call("single")
        assert client.statistics().outage == 0.0
        assert len(await batch) == 50
    (left,) = told_of(told, events.OutageLeft)
    assert left.at == 1.5


@in_virtual_time
async def test_single_calls_alone_hold_nobody():
    """A client that sends no batch never waits for a probe, however long nobody answers."""
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, retry=RetryPolicy(max_attempts=1)) as client:
        for _ in range(2 * MANY):
            await asyncio.sleep(1.0)
            before = now()
            with pytest.raises(ConnectError):
                await client.get_call("single")
            assert now() == before
        transport.reachable = True
        assert (await client.get_call("single")).id == "single"
        assert now() == before


# --- The retry budget ----------------------------------------------------------------------------


@in_virtual_time
async def test_a_server_that_fails_everything_sees_35_retries():
    """Then single calls fail at once with their last error, which says that the budget is empty."""
    transport = FakeTransport(faults=dict.fromkeys(call_ids(50), OOPS))
    errors = []
    async with fake_client(transport, retry=AT_ONCE) as client:
        for call_id in call_ids(50):
            with pytest.raises(ServerError) as caught:
                await client.get_call(call_id)
            errors.append(caught.value)
        statistics = client.statistics()
    assert statistics.retries == CAPACITY // COST_TRANSIENT == 35
    assert statistics.budget == CAPACITY - 35 * COST_TRANSIENT
    # Eleven calls had their three retries, the twelfth had two.
    assert [error.attempts for error in errors] == [4] * 11 + [3] + [1] * 38
    assert [error.stopped_by for error in errors] == (
        [StoppedBy.ATTEMPTS] * 11 + [StoppedBy.BUDGET] * 39
    )


@pytest.mark.parametrize(
    ("fault", "cost"), [(OOPS, COST_TRANSIENT), (Fault.status(429), COST_THROTTLED)]
)
@in_virtual_time
async def test_a_retry_that_succeeds_is_refunded(fault, cost):
    """It gets back what it cost, and no more; a first try earns one. A failed retry costs."""
    transport = FakeTransport(faults={"fails": OOPS, "retried": [fault]})
    async with fake_client(transport, retry=AT_ONCE) as client:
        with pytest.raises(ServerError):
            await client.get_call("fails")
        spent = CAPACITY - 3 * COST_TRANSIENT
        assert client.statistics().budget == spent
        call = asyncio.create_task(client.get_call("retried"))
        await turns(4)
        if fault is not OOPS:  # it waits for its retry, and has paid for it
            assert client.statistics().budget == spent - cost
        await call
        assert client.statistics().budget == spent
        await client.get_call("healthy")
        assert client.statistics().budget == spent + 1


@in_virtual_time
async def test_a_new_key_costs_no_retry():
    """A refused key is no failure of the server, so its second request is not charged."""
    keys = iter(["sk_test_old", SANDBOX_KEY, "sk_test_never"])
    async with fake_client(api_key=lambda: next(keys)) as client:
        assert (await client.fetch_call("call-1")).attempts == 2
        assert client.statistics().budget == CAPACITY


@in_virtual_time
async def test_a_batch_with_an_empty_budget_still_gets_one_retry_a_second():
    """It loses nothing; only its retries take their turn, and its new ids go on meanwhile."""
    number = 10
    transport = FakeTransport(faults={call_id: [OOPS] * 2 for call_id in call_ids(number)})
    async with fake_client(transport, retry=AT_ONCE) as client:
        budget = client._core.bind().budget
        while budget.take(throttled=True) is not None:
            pass
        # Nothing that succeeds may earn anything, or the budget would not stay empty.
        budget._capacity = 0
        calls = await client.gather_calls([*call_ids(number), *(f"new-{n}" for n in range(100))])
        assert len(calls) == number + 100
    entries = transport.ledger.entries
    assert all(entry.at == 0.0 for entry in entries if entry.attempt == 1)
    retries = [entry.at for entry in entries if entry.attempt > 1]
    assert retries == pytest.approx([float(second) for second in range(2 * number)])


@in_virtual_time
async def test_who_waits_in_a_hold_leaves_the_budget_alone():
    """A batch's retries pay when they are sent, and in a hold that is one probe now and then."""
    transport = FakeTransport(reachable=False)
    async with fake_client(transport) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(200)))
        await asyncio.sleep(3.0)
        statistics = client.statistics()
        assert statistics.outage > 0.0
        assert statistics.waiting > 100
        spent = CAPACITY - statistics.budget
        await asyncio.sleep(60.0)
        probes = (CAPACITY - client.statistics().budget - spent) / COST_TRANSIENT
        assert probes <= 60.0 / PROBE_INTERVAL
        batch.cancel()


@in_virtual_time
async def test_new_ids_overtake_a_retry_that_cannot_be_paid():
    """It waits for its second, and keeps nobody else from being sent."""
    transport = FakeTransport(faults={"call-0": [OOPS, OOPS]}, latency=0.001)
    limits = Limits(max_concurrency=1)
    async with fake_client(transport, limits=limits, retry=AT_ONCE) as client:
        budget = client._core.bind().budget
        budget.level = 0
        budget._capacity = 0
        await client.gather_calls(call_ids(100))
    first = [
        position for position, entry in enumerate(transport.ledger.entries) if entry.attempt > 1
    ]
    assert first[0] < 5  # granted
    assert first[1] > 50  # waits a second, in which the others go


@in_virtual_time
async def test_a_batch_outlasts_many_refusals_of_one_id():
    """Throttled again and again while others are answered, an id is not given up."""
    busy = Fault.status(429, headers={"retry-after-ms": "1"})
    transport = FakeTransport(faults={"call-7": [busy] * 15})
    async with fake_client(transport) as client:
        calls = await client.gather_calls(call_ids(20))
    assert [call.id for call in calls] == call_ids(20)


@in_virtual_time
async def test_who_waits_for_the_budget_is_called_off_with_the_batch():
    """Closing the client ends that wait as it ends every other."""
    transport = FakeTransport(faults=dict.fromkeys(call_ids(5), OOPS))
    client = fake_client(transport)
    client._core.bind().budget.level = 0
    batch = asyncio.create_task(client.gather_calls(call_ids(5), return_exceptions=True))
    await asyncio.sleep(0.5)
    await client.close()
    assert {error.stopped_by for error in await batch} == {StoppedBy.CLOSED}
    assert now() == 0.5
    assert timers() == []


# --- Attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [OOPS, Fault.reset, Fault.not_json])
@in_virtual_time
async def test_in_a_batch_an_id_may_fail_often(fault):
    """Twelve failures in a row cost a batch's id nothing but time, while others succeed."""
    transport = FakeTransport(faults={"unlucky": [fault] * 12}, latency=0.1)
    async with fake_client(transport) as client:
        ids = ["unlucky", *call_ids(5000)]
        outcomes = [outcome async for outcome in client.stream_calls(ids)]
    (unlucky,) = [outcome for outcome in outcomes if outcome.id == "unlucky"]
    assert isinstance(unlucky, Fetched)
    assert unlucky.attempts == 13
    assert {type(outcome) for outcome in outcomes} == {Fetched}


@in_virtual_time
async def test_in_a_batch_the_attempts_end_as_well():
    """An id that always fails is given up after twenty attempts, and holds nobody else up."""
    transport = FakeTransport(faults={"hopeless": OOPS}, latency=0.1)

    async def source():
        yield "hopeless"
        for call_id in call_ids(1000):
            await asyncio.sleep(0.1)
            yield call_id

    async with fake_client(transport) as client:
        outcomes = [outcome async for outcome in client.stream_calls(source())]
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert (failed.id, failed.attempts) == ("hopeless", BATCH_ATTEMPTS)
    assert failed.error.stopped_by is StoppedBy.ATTEMPTS
    assert len(outcomes) == 1001


@in_virtual_time
async def test_a_single_call_gives_up_after_max_attempts():
    """Somebody waits for it: the policy's few attempts are all it has."""
    transport = FakeTransport(faults={"unlucky": [OOPS] * 12})
    async with fake_client(transport, retry=RetryPolicy(max_attempts=3)) as client:
        with pytest.raises(ServerError) as caught:
            await client.get_call("unlucky")
    assert (caught.value.attempts, caught.value.stopped_by) == (3, StoppedBy.ATTEMPTS)
    assert len(transport.ledger) == 3


# --- Concurrency ---------------------------------------------------------------------------------


@in_virtual_time
async def test_successes_raise_concurrency_to_the_limit():
    """It starts at twenty and grows with use, up to what the user allows."""
    transport = FakeTransport(latency=0.1)
    async with fake_client(transport, limits=Limits(max_concurrency=40)) as client:
        assert client.statistics().concurrency == START == 20
        await client.gather_calls(call_ids(1000))
        assert client.statistics().concurrency == client.statistics().max_concurrency == 40
    first = [entry for entry in transport.ledger.entries if entry.at < 0.1]
    assert len(first) == START
    assert transport.ledger.max_in_flight == 40


@in_virtual_time
async def test_unused_concurrency_does_not_grow():
    """A quiet hour says nothing about what the server takes."""
    async with fake_client(FakeTransport(latency=0.1)) as client:
        for call_id in call_ids(100):
            await client.get_call(call_id)
        assert client.statistics().concurrency == START


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("timeout", AttemptTimeoutError),
        ("refused", ConnectError),
        ("429", RateLimitedError),
        ("503", ServerError),
    ],
)
@in_virtual_time
async def test_overload_cuts_concurrency_once_a_wave(how, kind):
    """Twenty requests that fail together are one signal: nine tenths of twenty are left."""
    transport = Flaky(latency=0.5, silent=how == "timeout", reachable=how != "refused")
    if how.isdigit():
        transport.faults = dict.fromkeys(call_ids(START), Fault.status(int(how)))
    timeouts = Timeouts(attempt=1.0)
    once = RetryPolicy(max_attempts=1, max_throttled_attempts=1)
    async with fake_client(transport, retry=once, timeouts=timeouts) as client:
        calls = (client.get_call(call_id) for call_id in call_ids(START))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {kind}
        assert client.statistics().concurrency == 18


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(OOPS, ServerError), (Fault.status(502), ServerError), (Fault.reset, ProtocolError)],
)
@in_virtual_time
async def test_failures_that_are_no_overload_cut_nothing(fault, kind):
    """A bug on the server or a lost connection does not get better by asking less at once."""
    transport = FakeTransport(latency=0.5, faults=dict.fromkeys(call_ids(START), fault))
    async with fake_client(transport, retry=RetryPolicy(max_attempts=1)) as client:
        calls = (client.get_call(call_id) for call_id in call_ids(START))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {kind}
        assert client.statistics().concurrency == START


@pytest.mark.parametrize(("probe", "limit"), [(False, 18), (True, START)])
@in_virtual_time
async def test_a_failed_probe_cuts_nothing(probe, limit):
    """That nobody answers is known already, and says nothing about how many may ask at once."""
    throttle = Throttle(Limits(), max_cool_down=300.0, loop=asyncio.get_running_loop())
    failure = Failure(error=AttemptTimeoutError("no complete answer"))
    throttle.learn(failure, Permit(0.0, probe=probe))
    assert throttle.concurrency == limit


# --- The gate ------------------------------------------------------------------------------------


@in_virtual_time
async def test_nobody_slips_through_a_closing_gate():
    """The gate closes before the throttled call's permit goes to the next in the queue."""
    slow = Fault.status(429, headers={"Retry-After": "20"})
    transport = FakeTransport(faults={"call-0": [slow]}, latency=0.5)
    async with fake_client(transport, limits=Limits(max_concurrency=1)) as client:
        await client.gather_calls(call_ids(5))
    assert transport.ledger.entries[0].at == 0.0
    assert min(entry.at for entry in transport.ledger.entries[1:]) >= 20.5


@in_virtual_time
async def test_a_hold_that_begins_lets_nobody_slip_through():
    """The same for the last failure that makes an outage: its permit goes to no other."""
    throttle = one_permit()
    batch = Batch(Scope(), patience=300.0)
    for failures in range(1, 4):
        assert await throttle.admit(batch)
        waiting = asyncio.create_task(throttle.admit(batch))
        started = now()
        await asyncio.sleep(2.0)
        failure = Failure(error=ConnectError("refused"))
        changes = throttle.learn(failure, Permit(started))
        throttle.release()
        await turns(2)
        assert waiting.done() is (failures < 3)
        if waiting.done():
            throttle.release()
    assert [type(change) for change in changes] == [events.OutageEntered]
    assert await waiting
    assert now() == 6.0 + FIRST_PROBE


@in_virtual_time
async def test_a_single_call_behind_a_held_batch_has_its_own_turn():
    """In a hold, a single call that waits for a permit gets the next one, wherever it stands."""
    throttle = one_permit()
    single, batch = Scope(), Batch(Scope(), patience=300.0)
    assert await throttle.admit(single)
    held = asyncio.create_task(throttle.admit(batch))
    behind = asyncio.create_task(throttle.admit(single))
    await turns(2)
    for seconds in (3.0, 2.0, 0.0):
        await asyncio.sleep(seconds)
        failure = Failure(error=ConnectError("refused"))
        throttle.learn(failure, Permit(0.0))
    assert throttle.holding
    assert throttle.silent_for() == 5.0
    throttle.release()
    assert await behind == Permit(now())
    assert not held.done()
    answer = Done(call=None, answer=None)
    (left,) = throttle.learn(answer, Permit(now()))
    assert left == events.OutageLeft(at=5.0, seconds=5.0)
    throttle.release()
    assert await held == Permit(now())


# --- Statistics ----------------------------------------------------------------------------------


@in_virtual_time
async def test_statistics_of_a_client_that_has_done_nothing():
    """Before the first call they tell what it will begin with."""
    limits = Limits(max_concurrency=7, max_rate=5.0)
    client = fake_client(limits=limits)
    before = client.statistics()
    assert (before.pace, before.concurrency, before.max_concurrency) == (5.0, 7, 7)
    assert (before.budget, before.outage, before.cool_down) == (CAPACITY, 0.0, 0.0)
    await client.get_call("call-1")
    after = client.statistics()
    assert (after.pace, after.concurrency, after.budget) == (5.0, 7, CAPACITY)
    await client.close()
    assert fake_client().statistics().pace is None


@in_virtual_time
async def test_statistics_tell_the_pace_that_was_learnt():
    """After a throttled answer there is one, and it is the one that `PaceChanged` told."""
    told = []
    transport = FakeTransport(max_rate=20.0, burst=1, latency=0.01)
    async with fake_client(transport, hooks=(told.append,)) as client:
        assert client.statistics().pace is None
        batch = asyncio.create_task(client.gather_calls(call_ids(300)))
        await asyncio.sleep(12.0)
        statistics = client.statistics()
        assert statistics.pace is not None
        assert 5.0 < statistics.pace < 40.0
        assert statistics.waiting > 0
        await batch
    rates = [event.rate for event in told_of(told, events.PaceChanged)]
    assert rates
    assert all(rate is None or rate > 0.0 for rate in rates)


@in_virtual_time
async def test_statistics_tell_an_outage_while_it_lasts():
    """`outage` is how long nobody has answered, and `concurrency`, `budget` are what they are."""
    transport = FakeTransport(reachable=False, faults={"call-0": [BUSY]})
    async with fake_client(transport) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(50)))
        await asyncio.sleep(0.5)
        assert client.statistics().outage == 0.0  # too soon to call it that
        await asyncio.sleep(9.5)
        statistics = client.statistics()
        assert statistics.outage == pytest.approx(10.0)
        assert 1 <= statistics.concurrency < START
        assert statistics.budget < COST_TRANSIENT
        assert statistics.requests == 0  # nothing got as far as the wire
        assert statistics.waiting > 0
        await asyncio.sleep(30.0)
        assert client.statistics().outage == pytest.approx(40.0)
        transport.reachable = True
        await batch
        assert client.statistics().outage == 0.0
        assert client.statistics().budget > COST_TRANSIENT
