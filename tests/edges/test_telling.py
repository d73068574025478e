"""What hooks are told of each call, what they may add to a request, and what they may look at."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from calls_async import (
    AttemptCancelled,
    AttemptFinished,
    AttemptStarted,
    CallCancelled,
    CallFinished,
    CallParked,
    CallsClient,
    CallStarted,
    HeaderHook,
    Limits,
    ObservingHook,
    RetryPolicy,
    ServerError,
    Statistics,
    WaitReason,
)
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, turns
from tests.rawserver import http, raw_server, record

KEY = "sk_test_telling"
ID = "call-1"


def told_of(told, *kinds):
    """What was told of these kinds."""
    return [event for event in told if isinstance(event, kinds)]


def story(told, serial):
    """The kinds of what was told of one call, in order."""
    return [type(event) for event in told if getattr(event, "serial", None) == serial]


# --- Calls ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_calls_of_the_same_id_are_told_apart():
    """What belongs to one call has one serial, though two of the same id run at the same time."""
    told = []
    transport = FakeTransport(latency=1.0, faults={ID: [Fault.status(500)]})
    policy = RetryPolicy(backoff_base=0.0)
    async with fake_client(transport, hooks=(told.append,), retry=policy) as client:
        await asyncio.gather(client.get_call(ID), client.get_call(ID))
        await client.with_options(retry=policy).get_call(ID)
    first, second, third = (event.serial for event in told_of(told, CallStarted))
    assert len({first, second, third}) == 3
    whole = [CallStarted, AttemptStarted, AttemptFinished, CallFinished]
    assert story(told, second) == story(told, third) == whole
    assert story(told, first).count(AttemptStarted) == 2


@in_virtual_time
async def test_the_calls_of_a_batch_know_their_place():
    """The first event of a batch's call says which of the ids it is for."""
    told = []
    async with fake_client(hooks=(told.append,)) as client:
        await client.gather_calls(["a", "b", "a", "c"])
    places = {event.call_id: event.index for event in told_of(told, CallStarted)}
    assert places == {"a": 0, "b": 1, "c": 3}


@in_virtual_time
async def test_a_cancelled_call_is_told_of():
    """Its request and the call itself are over, and hooks know it: nothing stays open for ever."""
    told = []
    async with fake_client(FakeTransport(latency=9.0), hooks=(told.append,)) as client:
        call = asyncio.create_task(client.get_call(ID))
        await asyncio.sleep(2.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    started, _, request, ended = told
    assert request == AttemptCancelled(
        at=2.0, call_id=ID, attempt=1, duration=2.0, serial=started.serial
    )
    assert ended == CallCancelled(at=2.0, call_id=ID, serial=started.serial)


@in_virtual_time
async def test_what_a_strategy_raises_ends_a_call_without_an_outcome():
    """It passes to the caller, and hooks are told that the call is over."""
    told = []

    def oops(_):
        raise LookupError

    transport = FakeTransport(faults={ID: Fault.status(500)})
    async with fake_client(transport, hooks=(told.append,), retry=RetryPolicy(stop=oops)) as client:
        with pytest.raises(LookupError):
            await client.get_call(ID)
    assert type(told[-1]) is CallCancelled


@in_virtual_time
async def test_requests_that_the_client_s_end_cuts_off_are_told_of():
    """Closing the client ends its requests; its calls have an outcome all the same."""
    told = []
    client = fake_client(FakeTransport(latency=9.0), hooks=(told.append,))
    call = asyncio.create_task(client.get_call(ID))
    await asyncio.sleep(1.0)
    await client.close()
    await asyncio.wait([call])
    assert call.exception() is not None
    assert [type(event) for event in told] == [
        CallStarted, AttemptStarted, AttemptCancelled, CallFinished,
    ]  # fmt: skip


@in_virtual_time
async def test_the_rival_that_loses_is_told_of():
    """Of two requests for one call one wins, and the other one is over before the call is."""
    told = []
    transport = FakeTransport()
    async with fake_client(transport, hooks=(told.append,), limits=Limits(hedge=0.05)) as client:
        await client.gather_calls(call_ids(60))
        transport.faults = {"late": [Fault.slow(5.0)]}
        outcome = await client.fetch_call("late")
    assert outcome.attempts == 2
    late = [event for event in told if getattr(event, "call_id", None) == "late"]
    rival = told_of(late, AttemptStarted)[1]
    assert (rival.hedge, rival.waited) == (True, 0.0)
    assert [event.attempt for event in told_of(late, AttemptFinished)] == [2]
    assert [event.attempt for event in told_of(late, AttemptCancelled)] == [1]


# --- Waits ---------------------------------------------------------------------------------------


async def waits(client, told, *ids):
    """The reasons for which calls were parked, and how long each then waited."""
    await asyncio.gather(*(client.get_call(call_id) for call_id in ids))
    parked = {event.serial: event.reason for event in told_of(told, CallParked)}
    waited = {event.serial: event.waited for event in told_of(told, AttemptStarted)}
    return [(reason, waited[serial]) for serial, reason in parked.items()]


@in_virtual_time
async def test_a_wait_for_a_permit_has_its_reason_and_its_length():
    """Who waits because enough is in flight is told so, and how long it took."""
    told = []
    options = {"hooks": (told.append,), "limits": Limits(max_concurrency=1)}
    async with fake_client(FakeTransport(latency=1.0), **options) as client:
        assert await waits(client, told, "a", "b") == [(WaitReason.CONCURRENCY, 1.0)]


@in_virtual_time
async def test_a_wait_for_the_pace_has_its_reason_and_its_length():
    """Who waits because starts are spaced is told so."""
    told = []
    options = {"hooks": (told.append,), "limits": Limits(max_rate=0.5)}
    async with fake_client(**options) as client:
        assert await waits(client, told, "a", "b") == [(WaitReason.PACE, 2.0)]


@in_virtual_time
async def test_a_wait_for_the_end_of_a_silence_has_its_reason():
    """Who waits because the server asked for silence is told so."""
    told = []
    faults = {"a": Fault.status(429, headers={"Retry-After": "5"})}
    async with fake_client(FakeTransport(faults=faults), hooks=(told.append,)) as client:
        with contextlib.suppress(Exception):
            await client.get_call("a", timeout=2.0)
        ((reason, waited),) = await waits(client, told, "b")
    assert reason is WaitReason.COOL_DOWN
    assert waited >= 5.0


@in_virtual_time
async def test_a_wait_in_an_outage_has_its_reason():
    """A batch that holds because nobody answers parks its calls for that."""
    told = []
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, hooks=(told.append,), limits=Limits(patience=30.0)) as client:
        await client.gather_calls(call_ids(50), return_exceptions=True)
    assert WaitReason.OUTAGE in {event.reason for event in told_of(told, CallParked)}


@in_virtual_time
async def test_a_wait_for_the_budget_has_its_reason():
    """A batch's retry that cannot be paid for yet waits for that."""
    told = []
    ids = call_ids(400)
    faults = {call_id: [Fault.status(500)] * 3 for call_id in ids[::2]}
    async with fake_client(FakeTransport(faults=faults), hooks=(told.append,)) as client:
        await client.gather_calls(ids, return_exceptions=True)
    assert WaitReason.BUDGET in {event.reason for event in told_of(told, CallParked)}


@in_virtual_time
async def test_who_need_not_wait_is_not_parked():
    """A permit that is there at once is no wait."""
    told = []
    async with fake_client(hooks=(told.append,)) as client:
        await client.gather_calls(call_ids(20))
    assert told_of(told, CallParked) == []
    assert {event.waited for event in told_of(told, AttemptStarted)} == {0.0}


# --- Headers -------------------------------------------------------------------------------------


class Adding:
    """A hook that adds headers: what `given` makes of the event."""

    def __init__(self, given):
        self.given = given
        self.told = []

    def __call__(self, event):
        self.told.append(event)

    def headers_for(self, request):
        assert self.told[-1] is request
        return self.given(request)


@pytest.fixture
async def raw():
    async with raw_server(http(record())) as server:
        yield server


async def heads(raw, *hooks, ids=(ID,), **options):
    """The header fields of each request of a client with these hooks."""
    async with CallsClient(KEY, base_url=raw.url, hooks=hooks, **options) as client:
        for call_id in ids:
            with contextlib.suppress(ServerError):
                await client.get_call(call_id)
    return [exchange.headers for exchange in raw.requests]


@pytest.mark.usefixtures("way")
async def test_a_hook_adds_its_own_headers_to_each_request(raw):
    """Each request has those that were made for it, over whichever transport it goes."""
    hook = Adding(lambda event: {"traceparent": f"of-{event.call_id}", "tracestate": "a=1"})
    assert isinstance(hook, HeaderHook)
    plain = [*(await heads(raw, ids=("call-1",)))]
    raw.requests.clear()
    first, second = await heads(raw, hook, ids=("call-1", "call-1"))
    assert first == second == plain[0] | {"traceparent": "of-call-1", "tracestate": "a=1"}


@pytest.mark.usefixtures("way")
async def test_what_the_client_sends_already_stays_as_it_is(raw):
    """No hook replaces a field of the client's or of its user's, nor sends one twice."""
    hook = Adding(lambda _: {"Accept": "x", "USER-AGENT": "x", "X-Team": "x", "traceparent": "y"})
    other = Adding(lambda _: {"Traceparent": "z", "baggage": "b=1"})
    (head,) = await heads(raw, hook, other, headers={"x-team": "mine"}, user_agent="me/1")
    assert (head["accept"], head["user-agent"], head["x-team"]) == (
        "application/json",
        "me/1",
        "mine",
    )
    assert (head["traceparent"], head["baggage"]) == ("y", "b=1")
    lines = raw.requests[0].head.lower()
    assert lines.count(b"\r\ntraceparent:") == lines.count(b"\r\nx-team:") == 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "bad",
    [
        {"Authorization": "Bearer other"},
        {"Host": "other"},
        {"traceparent": "a\r\nX-Evil: 1"},
        {"trace parent": "a"},
        {"traceparent": "a\x00"},
        {"traceparent": "\xe9"},
        {"traceparent": 1},
        ["traceparent"],
        5,
    ],
    ids=repr,
)
async def test_headers_that_cannot_be_sent_are_left_out(raw, caplog, bad):
    """They are logged, and the request goes without them, and with what the other hooks gave."""
    (head,) = await heads(raw, Adding(lambda _: bad), Adding(lambda _: {"baggage": "b=1"}))
    assert head["authorization"] == f"Bearer {KEY}"
    assert head["baggage"] == "b=1"
    assert {"traceparent", "x-evil"}.isdisjoint(head)
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    assert KEY not in caplog.text


@pytest.mark.usefixtures("way")
async def test_a_hook_that_raises_instead_of_giving_headers_breaks_nothing(raw, caplog):
    """The request goes without them."""

    def oops(_):
        raise LookupError

    (head,) = await heads(raw, Adding(oops))
    assert "traceparent" not in head
    assert caplog.records[0].exc_info[0] is LookupError


async def test_an_injected_session_sends_them_too(raw):
    """The seam is the client's, whatever carries its requests."""
    import aiohttp  # noqa: PLC0415 (as in the other tests of injected sessions)

    async with aiohttp.ClientSession(headers={"X-Theirs": "1"}) as session:
        (head,) = await heads(raw, Adding(lambda _: {"traceparent": "y"}), session=session)
    assert (head["x-theirs"], head["traceparent"]) == ("1", "y")


@in_virtual_time
async def test_each_request_of_a_call_is_asked_about():
    """A retry is another request, and has headers of its own."""
    asked = []
    hook = Adding(lambda event: {"traceparent": f"{asked.append(event.attempt)}"})
    transport = FakeTransport(faults={ID: [Fault.status(500), Fault.reset]})
    async with fake_client(transport, hooks=(hook,)) as client:
        await client.get_call(ID)
    assert asked == [1, 2, 3]


# --- Statistics ----------------------------------------------------------------------------------


class Observing:
    """A hook that looks at statistics."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        pass

    def observe(self, statistics):
        self.seen.append(weakref.WeakMethod(statistics))


@in_virtual_time
async def test_a_hook_is_shown_where_the_statistics_are():
    """Once for each client that works, and the same for its children, which share them."""
    hook = Observing()
    assert isinstance(hook, ObservingHook)
    async with fake_client(hooks=(hook,)) as client:
        assert hook.seen == []
        await client.get_call(ID)
        await client.get_call(ID)
        await client.with_options(retry=RetryPolicy()).get_call(ID)
        one, other = hook.seen
        assert one == other
        told = one()()
        assert isinstance(told, Statistics)
        assert told.fetched == client.statistics().fetched == 3


@in_virtual_time
async def test_a_hook_does_not_keep_a_client_alive():
    """What it holds weakly goes with the client."""
    hook = Observing()
    async with fake_client(hooks=(hook,)) as client:
        await client.get_call(ID)
    del client
    await turns(3)
    gc.collect()
    assert hook.seen[0]() is None


@in_virtual_time
async def test_a_hook_that_raises_when_it_is_shown_breaks_nothing(caplog):
    """It is logged, and the client works."""

    class Broken(Observing):
        def observe(self, statistics):
            raise LookupError(statistics)

    async with fake_client(hooks=(Broken(),)) as client:
        assert (await client.get_call(ID)).id == ID
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
