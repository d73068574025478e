"""One id to its outcome: time, counts, hooks and cancellation, over the fake transport."""

from __future__ import annotations

import asyncio
import itertools
import logging

import attrs
import pytest

from calls_async import (
    AttemptTimeoutError,
    AuthenticationError,
    Call,
    CallsError,
    ClientClosedError,
    ConnectError,
    DeadlineExceededError,
    Failed,
    Fetched,
    InvalidCallIdError,
    Limits,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    StatusError,
    StoppedBy,
    Timeouts,
    events,
)
from calls_async.testing import SANDBOX_KEY, FakeTransport, Fault, fake_client, record_body
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns

ID = "call-1"
URL = f"http://127.0.0.1/v1/calls/{ID}"
SLOW = Fault.status(429, headers={"Retry-After": "20"})
AT_ONCE = RetryPolicy(backoff_base=0.0)


def now():
    return asyncio.get_running_loop().time()


async def failure(client, call_id=ID, **options):
    """The error with which a single call fails."""
    with pytest.raises(CallsError) as caught:
        await client.get_call(call_id, **options)
    return caught.value


# --- Time ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_attempt_has_its_own_time():
    """A server that stalls costs one attempt's time, and the next attempt may succeed."""
    async with fake_client(FakeTransport(faults={ID: [Fault.stall]}), retry=AT_ONCE) as client:
        outcome = await client.fetch_call(ID)
    assert outcome.attempts == 2
    assert outcome.elapsed == now() == 10.0


@in_virtual_time
async def test_attempts_that_time_out_say_so():
    """When every attempt ran out of its time, that is the error."""
    timeouts = Timeouts(attempt=2, total=100)
    async with fake_client(FakeTransport(latency=3), timeouts=timeouts, retry=AT_ONCE) as client:
        error = await failure(client)
    assert type(error) is AttemptTimeoutError
    assert (error.attempts, error.stopped_by, now()) == (4, StoppedBy.ATTEMPTS, 8.0)


@in_virtual_time
async def test_the_total_cuts_the_last_attempt_short():
    """Past the whole call's time it is a `DeadlineExceededError`, caused by the last failure."""
    timeouts = Timeouts(attempt=4, total=10)
    async with fake_client(FakeTransport(latency=5), timeouts=timeouts, retry=AT_ONCE) as client:
        error = await failure(client)
    assert type(error) is DeadlineExceededError
    assert isinstance(error.__cause__, AttemptTimeoutError)
    assert (error.attempts, error.stopped_by, now()) == (3, StoppedBy.DEADLINE, 10.0)


@in_virtual_time
async def test_no_sleep_starts_that_would_cross_the_deadline():
    """The last failure is raised at once when the next wait would end too late."""
    async with fake_client(FakeTransport(faults={ID: SLOW})) as client:
        error = await failure(client)
    assert type(error) is RateLimitedError
    assert (error.attempts, error.stopped_by) == (2, StoppedBy.DEADLINE)
    assert 20.0 <= now() <= 22.0  # the silence, and a place in the learnt pace


@in_virtual_time
async def test_in_a_batch_the_wait_at_the_gate_is_free():
    """A batch sits out more silence than a single call has time: its patience bounds that."""
    async with fake_client(FakeTransport(faults={ID: [SLOW] * 3})) as client:
        (call,) = await client.gather_calls([ID])
    assert isinstance(call, Call)
    assert now() >= 60.0


@in_virtual_time
async def test_in_a_batch_attempts_and_backoff_count():
    """What an id itself takes is limited in a batch as well."""
    transport = FakeTransport(faults={ID: Fault.status(500)}, latency=1.0)
    policy = RetryPolicy(wait=lambda _: 9.0, stop=lambda _: False)
    async with fake_client(transport, retry=policy) as client:
        (error,) = await client.gather_calls([ID], return_exceptions=True)
    assert isinstance(error, ServerError)
    assert (error.attempts, error.stopped_by, now()) == (3, StoppedBy.DEADLINE, 21.0)


@in_virtual_time
async def test_a_parked_single_call_gives_up_in_time():
    """A call that is still parked when its time ends fails unsent, and says what it waited for."""
    transport = FakeTransport(faults={"slow": SLOW})
    async with fake_client(transport, limits=Limits(max_concurrency=1)) as client:
        held = asyncio.create_task(client.get_call("stalled", timeout=5))
        transport.faults = {**transport.faults, "stalled": Fault.stall}
        await turns(3)
        error = await failure(client, timeout=2)
        assert type(error) is DeadlineExceededError
        assert (error.attempts, now()) == (0, 2.0)
        with pytest.raises(DeadlineExceededError):
            await held
        await failure(client, "slow", timeout=1)
        error = await failure(client, timeout=3)
    assert any("asked for silence" in note for note in error.__notes__)


# --- What the server says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "word", "attempts"), [(400, "true", 4), (404, "true", 4), (500, "false", 1)]
)
@in_virtual_time
async def test_x_should_retry_is_obeyed(status, word, attempts):
    """The server knows best whether trying again helps."""
    fault = Fault.status(status, headers={"x-should-retry": word})
    async with fake_client(FakeTransport(faults={ID: fault}), retry=AT_ONCE) as client:
        error = await failure(client)
    assert isinstance(error, StatusError)
    assert (error.status, error.attempts) == (status, attempts)


@in_virtual_time
async def test_a_hint_above_the_cap_fails_a_single_call_at_once():
    """Past `max_server_wait` nobody waits, and the error says when to come back."""
    fault = Fault.status(503, headers={"Retry-After": "121"})
    async with fake_client(FakeTransport(faults={ID: fault})) as client:
        error = await failure(client, timeout=1000)
    assert (error.stopped_by, error.retry_after, now()) == (StoppedBy.SERVER_WAIT, 121, 0.0)


@in_virtual_time
async def test_when_patience_ends_each_id_has_its_own_reason():
    """Who failed gets the own last failure, who was not sent gets that of the batch."""
    transport = FakeTransport(faults={"a": SLOW, "b": Fault.status(500)}, latency=1.0)
    limits = Limits(max_concurrency=2, patience=10.0)
    policy = RetryPolicy(wait=lambda _: 5.0)
    async with fake_client(transport, limits=limits, retry=policy) as client:
        a, b, c = await client.gather_calls(["a", "b", "c"], return_exceptions=True)
    assert [type(error) for error in (a, b, c)] == [RateLimitedError, ServerError, RateLimitedError]
    assert {error.stopped_by for error in (a, b, c)} == {StoppedBy.PATIENCE}
    assert [error.call_id for error in (a, b, c)] == ["a", "b", "c"]
    assert [error.attempts for error in (a, b, c)] == [1, 1, 0]


# --- Counts --------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_never_reached_the_wire_is_not_counted():
    """A refused connection is an attempt of the call, and no request."""
    async with fake_client(FakeTransport(reachable=False), retry=AT_ONCE) as client:
        error = await failure(client)
        statistics = client.statistics()
    assert (type(error), error.attempts) == (ConnectError, 4)
    assert (statistics.requests, statistics.retries, statistics.failed) == (0, 0, 1)


@in_virtual_time
async def test_the_counts_are_those_of_the_server():
    """Requests, retries and throttled answers agree with the ledger."""
    transport = FakeTransport(faults={ID: [Fault.status(500), SLOW, Fault.reset]})
    async with fake_client(transport, timeouts=Timeouts(total=100)) as client:
        await client.get_call(ID)
        await client.get_call("call-2")
        statistics = client.statistics()
    assert len(transport.ledger) == statistics.requests == 5
    assert (statistics.fetched, statistics.failed) == (2, 0)
    assert (statistics.retries, statistics.throttled) == (3, 1)


@in_virtual_time
async def test_an_invalid_id_is_refused_unsent():
    """It is an outcome like any other, without a request."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        assert isinstance(await failure(client, ".."), InvalidCallIdError)
        assert client.statistics().failed == 1
    assert len(transport.ledger) == 0


# --- Hooks ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_hooks_are_told_everything_in_order():
    """Each step is one event, told when it happens, with what it is about."""
    told = []
    transport = FakeTransport(faults={ID: [Fault.status(500), SLOW]}, latency=1.0)
    async with fake_client(transport, hooks=(told.append,), retry=AT_ONCE) as client:
        outcome = await client.fetch_call(ID)
    oops, slow = [event.error for event in told if isinstance(event, events.RetryScheduled)]
    assert (type(oops), type(slow)) == (ServerError, RateLimitedError)
    delay = told[8].delay
    assert delay >= 20.0
    third = told[10].at
    parked = told[9].at
    assert parked == 2.0 + delay
    assert third >= parked  # after the silence comes a place in the learnt pace
    serial = told[0].serial
    assert serial > 0

    def started(at, attempt, waited=0.0):
        return events.AttemptStarted(
            at=at, call_id=ID, attempt=attempt, serial=serial, url=URL, waited=waited
        )

    def finished(at, attempt, status, error):
        return events.AttemptFinished(
            at=at,
            call_id=ID,
            attempt=attempt,
            duration=1.0,
            status=status,
            error=error,
            serial=serial,
        )

    def retried(at, attempt, delay, error):
        return events.RetryScheduled(
            at=at, call_id=ID, attempt=attempt, delay=delay, error=error, serial=serial
        )

    # An attempt's error knows nothing of the call; what comes of it is the retry's to tell.
    raw = [told[2].error, told[5].error]
    assert [(error.status, error.call_id) for error in raw] == [(500, None), (429, None)]
    assert told == [
        events.CallStarted(at=0.0, call_id=ID, index=0, serial=serial),
        started(0.0, 1),
        finished(1.0, 1, 500, raw[0]),
        retried(1.0, 1, 0.0, oops),
        started(1.0, 2),
        finished(2.0, 2, 429, raw[1]),
        events.CoolDownEntered(at=2.0, seconds=20.0),
        events.PaceChanged(at=2.0, rate=0.5),
        retried(2.0, 2, delay, slow),
        events.CallParked(at=parked, call_id=ID, reason=events.WaitReason.PACE, serial=serial),
        started(third, 3, third - parked),
        finished(third + 1.0, 3, 200, None),
        events.CallFinished(at=third + 1.0, outcome=outcome, serial=serial),
    ]


@in_virtual_time
async def test_hooks_are_told_of_failures():
    """An attempt without an answer has no status; a call that fails finishes too."""
    told = []
    transport = FakeTransport(faults={ID: Fault.reset})
    policy = RetryPolicy(max_attempts=1)
    async with fake_client(transport, hooks=[told.append], retry=policy) as client:
        error = await failure(client)
        await failure(client, "")
    _, _, finished, call, begun, invalid = told
    assert (finished.status, type(finished.error)) == (None, type(error))
    assert isinstance(call.outcome, Failed)
    assert (call.outcome.error, call.outcome.attempts, call.outcome.index) == (error, 1, 0)
    assert isinstance(invalid.outcome.error, InvalidCallIdError)
    assert begun == events.CallStarted(at=0.0, call_id="", index=0, serial=invalid.serial)


@in_virtual_time
async def test_a_cool_down_that_is_no_news_is_not_told():
    """Of many refusals at once, those that close the gate for longer are told."""
    told = []
    faults = {call_id: [SLOW] for call_id in call_ids(10)}
    async with fake_client(FakeTransport(faults=faults), hooks=(told.append,)) as client:
        await client.gather_calls(faults)
    starts = [event for event in told if isinstance(event, events.CoolDownEntered)]
    assert len(starts) < 10
    assert client.statistics().throttled == 10


@in_virtual_time
async def test_a_hint_on_a_record_closes_the_gate_and_fails_nothing():
    """A server may ask for silence with the answer that it gives."""
    told = []
    polite = Fault(
        name="polite", headers=(("Retry-After", "7"),), body=record_body
    )  # it is a fault in name alone: the record is right
    transport = FakeTransport(faults={ID: polite})
    async with fake_client(transport, hooks=(told.append,)) as client:
        assert isinstance(await client.fetch_call(ID), Fetched)
        assert client.statistics().cool_down == pytest.approx(7.0)
    assert [type(event) for event in told] == [
        events.CallStarted,
        events.AttemptStarted,
        events.AttemptFinished,
        events.CoolDownEntered,
        events.CallFinished,
    ]


@in_virtual_time
async def test_a_hook_that_raises_breaks_nothing(caplog):
    """It is logged with its traceback, the call goes on, and the other hooks are told."""
    told = []

    def broken(event):
        raise LookupError(type(event).__name__)

    async with fake_client(FakeTransport(), hooks=(broken, told.append)) as client:
        assert (await client.get_call(ID)).id == ID
    assert len(told) == 4
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 4
    assert {record.name for record in caplog.records} == {"calls_async"}
    assert "CallStarted" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info[0] is LookupError


@in_virtual_time
async def test_without_hooks_no_event_is_made(monkeypatch):
    """An attempt costs no event where nobody listens; what changes for all is rare and may."""

    def made(**fields):
        raise AssertionError(fields)

    for name in (
        "AttemptFinished",
        "AttemptStarted",
        "CallFinished",
        "CallParked",
        "CallStarted",
        "RetryScheduled",
    ):
        monkeypatch.setattr(events, name, made)
    async with fake_client(FakeTransport(faults={ID: [SLOW]})) as client:
        assert (await client.get_call(ID)).id == ID


# --- Called off ----------------------------------------------------------------------------------


@in_virtual_time
async def test_cancelled_in_any_turn_a_call_leaves_nothing():
    """No permit, no task and no timer is left, wherever a call is when it is cancelled."""
    ends = set()
    moments = (0.0, 0.25, 0.5, 0.6, 1.0, 1.1, 1.5, 1.7, 2.0, 10.0, 22.0, 22.5, 23.0, 24.0, 40.0)
    for seconds, turn in itertools.product(moments, range(4)):
        faults = {ID: [Fault.status(500), Fault.wrong_id, SLOW, Fault.reset]}
        transport = FakeTransport(faults=faults, latency=0.5)
        client = fake_client(transport, timeouts=Timeouts(total=100), limits=Limits(max_rate=5))
        call = asyncio.create_task(client.get_call(ID))
        await asyncio.sleep(seconds)
        await turns(turn)
        call.cancel()
        ends.add(type((await asyncio.gather(call, return_exceptions=True))[0]))
        statistics = client.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0), (seconds, turn)
        assert transport.ledger.in_flight == 0
        assert other_tasks() == set()
        assert client._core.scope._waits == client._core.scope._requests._running == set()
        await client.close()
        assert timers() == [], (seconds, turn)
    assert ends == {asyncio.CancelledError, Call}


@pytest.mark.parametrize("seconds", [0.5, 1.2, 3.0])
@in_virtual_time
async def test_closing_the_client_ends_a_call_wherever_it_is(seconds):
    """In flight, in its backoff or parked: the call ends at once, as closed."""
    transport = FakeTransport(faults={ID: [Fault.status(500), SLOW]}, latency=1.0)
    client = fake_client(transport, retry=RetryPolicy(wait=lambda _: 0.5))
    call = asyncio.create_task(client.get_call(ID))
    await asyncio.sleep(seconds)
    await client.close()
    with pytest.raises(ClientClosedError) as caught:
        await call
    assert now() == seconds
    assert caught.value.stopped_by is StoppedBy.CLOSED
    assert caught.value.call_id == ID
    assert client.statistics().in_flight == 0
    assert timers() == []


@in_virtual_time
async def test_closing_does_not_wait_for_the_transport():
    """Requests in flight are ended by the client itself, and end as closed, not as timed out."""

    class Deaf(FakeTransport):
        async def close(self):
            pass

    client = fake_client(Deaf(latency=1e9), retry=RetryPolicy(max_attempts=1))
    call = asyncio.create_task(client.get_call(ID))
    await asyncio.sleep(1)
    await client.close()
    with pytest.raises(ClientClosedError):
        await call
    assert now() == 1.0


@in_virtual_time
async def test_closing_twice_while_requests_end_is_no_error():
    """A close in the turn in which an attempt runs out of time finds nothing left to end."""
    client = fake_client(FakeTransport(latency=1e9), timeouts=Timeouts(attempt=3, total=3))
    calls = [asyncio.create_task(client.get_call(call_id)) for call_id in call_ids(3)]
    await turns(3)
    closing = []
    loop = asyncio.get_running_loop()
    loop.call_at(3.0, lambda: closing.append(loop.create_task(client.close())))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.gather(*closing)
    await client.close()
    assert {type(error) for error in errors} <= {ClientClosedError, DeadlineExceededError}


@in_virtual_time
async def test_a_refusal_after_the_stop_asks_for_no_key():
    """In a batch that is over, a late 401 does not bother the key's provider any more."""
    asked = []

    def provider():
        asked.append(now())
        return SANDBOX_KEY

    late = attrs.evolve(Fault.status(401), delay=5.0)
    over = Fault.status(429, headers={"Retry-After": "1000"})
    transport = FakeTransport(faults={"late": late, "over": over})
    async with fake_client(transport, api_key=provider) as client:
        errors = await client.gather_calls(["late", "over"], return_exceptions=True)
    assert [type(error) for error in errors] == [AuthenticationError, RateLimitedError]
    assert asked == [0.0]


# --- Patience ------------------------------------------------------------------------------------


@in_virtual_time
async def test_waiting_for_the_source_costs_no_patience():
    """After hours without an id, a first failure is a first failure."""

    async def source():
        for call_id in call_ids(3):
            await asyncio.sleep(10_000)
            yield call_id

    transport = FakeTransport(faults={call_id: [Fault.status(500)] for call_id in call_ids(3)})
    async with fake_client(transport) as client:
        seen = [outcome async for outcome in client.stream_calls(source())]
    assert [(type(outcome), outcome.attempts) for outcome in seen] == [(Fetched, 2)] * 3
