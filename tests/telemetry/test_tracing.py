"""Spans and what travels with a request, as the SDK's in-memory exporter has them."""

from __future__ import annotations

import asyncio
import pickle
import re

import pytest

pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import (
    TraceContextTextMapPropagator,
)

from calls_async import CallsClient, CallsError, Limits, RetryPolicy, ServerError, events
from calls_async.telemetry import OpenTelemetryHook
from calls_async.testing import FakeTransport, Fault, Sandbox, fake_client
from tests.kit import call_ids, in_virtual_time
from tests.rawserver import http, raw_server, record
from tests.telemetry.kit import Memory, seconds, virtual_clock

ID = "call-1"
KEY = "sk_test_traced"
SLOW = Fault.status(429, headers={"Retry-After": "3"})
AT_ONCE = RetryPolicy(backoff_base=0.0)


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture(autouse=True)
def _clock(monkeypatch, request):
    if "way" not in request.fixturenames and "raw" not in request.fixturenames:
        virtual_clock(monkeypatch)


# --- Spans ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_call_is_a_span_and_each_request_a_child_of_it(memory):
    """The call's span lasts as long as the call, and each request's as long as the request."""
    transport = FakeTransport(latency=1.0, faults={ID: [Fault.status(500)]})
    async with fake_client(transport, hooks=(memory.hook(),), retry=AT_ONCE) as client:
        await asyncio.sleep(5.0)
        await client.get_call(ID)
    (call,), (first, second) = memory.calls, memory.requests
    assert (call.kind, first.kind, second.kind) == (SpanKind.INTERNAL, *[SpanKind.CLIENT] * 2)
    assert call.parent is None
    assert {first.parent.span_id, second.parent.span_id} == {call.context.span_id}
    assert {first.context.trace_id, second.context.trace_id} == {call.context.trace_id}
    times = [(seconds(span.start_time), seconds(span.end_time)) for span in (call, first, second)]
    assert times == [(5.0, 7.0), (5.0, 6.0), (6.0, 7.0)]


@in_virtual_time
async def test_a_request_has_what_the_conventions_ask_for(memory):
    """Names and values are those of OpenTelemetry's semantic conventions for HTTP clients."""
    transport = FakeTransport(faults={"a b": [Fault.status(503)]})
    options = {"base_url": "https://Api.Example.com/gateway", "retry": AT_ONCE}
    async with fake_client(transport, hooks=(memory.hook(),), **options) as client:
        await client.get_call("a b")
    first, second = memory.requests
    always = {
        "http.request.method": "GET",
        "server.address": "api.example.com",
        "server.port": 443,
        "url.full": "https://Api.Example.com/gateway/v1/calls/a%20b",
        "url.scheme": "https",
        "url.template": "/gateway/v1/calls/{id}",
    }
    assert first.name == second.name == "GET /gateway/v1/calls/{id}"
    assert first.attributes == always | {"http.response.status_code": 503, "error.type": "503"}
    assert second.attributes == always | {
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }
    # A status speaks for itself, and what went well has no status, as the conventions have it.
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, None)
    assert second.status.status_code is StatusCode.UNSET


@in_virtual_time
@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault.reset, None, "ProtocolError"),
        (Fault.stall, None, "AttemptTimeoutError"),
        (Fault.wrong_id, 200, "MismatchedCallError"),
        (Fault.status(404), 404, "404"),
        (Fault.status(302), 302, "RedirectError"),
    ],
    ids=str,
)
async def test_what_was_wrong_with_a_request_has_a_name(memory, fault, status, kind):
    """It is the status, where that is what is wrong, or else the name of the error's class."""
    transport = FakeTransport(faults={ID: fault})
    policy = RetryPolicy(max_attempts=1)
    async with fake_client(transport, hooks=(memory.hook(),), retry=policy) as client:
        with pytest.raises(CallsError):
            await client.get_call(ID)
    request = memory.requests[0]
    assert request.attributes["error.type"] == kind
    assert request.attributes.get("http.response.status_code") == status
    assert request.status.status_code is StatusCode.ERROR


@in_virtual_time
async def test_a_call_s_span_says_what_became_of_it(memory):
    """Its outcome, its attempts, the server's name for the last request, and why it ended."""
    transport = FakeTransport(faults={"gone": Fault.status(404)})
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        outcome = await client.fetch_call(ID)
        with pytest.raises(CallsError) as caught:
            await client.get_call("gone")
    fetched, failed = memory.calls
    assert fetched.attributes == {
        "calls.call.id": ID,
        "calls.call.index": 0,
        "calls.attempts": 1,
        "calls.outcome": "fetched",
        "calls.request_id": outcome.request_id,
    }
    assert fetched.status.status_code is StatusCode.UNSET
    assert failed.attributes == {
        "calls.call.id": "gone",
        "calls.call.index": 0,
        "calls.attempts": 1,
        "calls.outcome": "failed",
        "calls.request_id": caught.value.request_id,
        "calls.stopped_by": "final",
        "error.type": "NotFoundError",
    }
    assert failed.status.description == caught.value.message


@in_virtual_time
async def test_what_a_call_waits_for_is_told_on_its_span(memory):
    """Each wait behind the gate and each retry is an event, at its time."""
    transport = FakeTransport(latency=1.0, faults={"a": [SLOW]})
    limits = Limits(max_concurrency=1)
    async with fake_client(transport, hooks=(memory.hook(),), limits=limits) as client:
        await client.gather_calls(["a", "b"])
    told = {
        call.attributes["calls.call.id"]: [
            (event.name, seconds(event.timestamp), dict(event.attributes)) for event in call.events
        ]
        for call in memory.calls
    }
    (retry, *_) = told["a"]
    assert retry == (
        "calls.retry_scheduled",
        1.0,
        {"calls.attempt": 1, "calls.retry.delay": 3.0, "error.type": "RateLimitedError"},
    )
    parked, admitted = told["b"]
    assert parked == ("calls.parked", 1.0, {"calls.wait.reason": "cool_down"})
    assert admitted[0] == "calls.admitted"
    assert admitted[1] == pytest.approx(1.0 + admitted[2]["calls.wait.duration"])
    assert admitted[1] >= 4.0


@in_virtual_time
async def test_a_cancelled_call_leaves_no_span_open(memory):
    """Who cancels has met with no error, and nothing is kept of the call."""
    hook = memory.hook()
    async with fake_client(FakeTransport(latency=9.0), hooks=(hook,)) as client:
        call = asyncio.create_task(client.get_call(ID))
        await asyncio.sleep(2.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    (ended,), (request,) = memory.calls, memory.requests
    assert ended.attributes["calls.outcome"] == "cancelled"
    assert request.attributes["calls.cancelled"] is True
    assert "error.type" not in request.attributes
    assert ended.status.status_code is request.status.status_code is StatusCode.UNSET
    assert hook._tracing._calls == {}


@in_virtual_time
async def test_a_hedge_is_a_request_like_any_other(memory):
    """It has a span of its own that says so, and the one that loses has an end."""
    transport = FakeTransport()
    options = {"hooks": (memory.hook(),), "limits": Limits(hedge=0.05)}
    async with fake_client(transport, **options) as client:
        await client.gather_calls(call_ids(60))
        transport.faults = {"late": [Fault.slow(5.0)]}
        await client.get_call("late")
    rival, loser = (span for span in memory.requests if span.attributes["url.full"][-4:] == "late")
    assert (loser.attributes["calls.cancelled"], rival.attributes["calls.hedge"]) == (True, True)
    assert rival.attributes["http.request.resend_count"] == 1


@in_virtual_time
async def test_calls_of_the_same_id_have_spans_of_their_own(memory):
    """Two calls of one id at the same time are not mixed up."""
    transport = FakeTransport(latency=1.0)
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        await asyncio.gather(client.get_call(ID), client.get_call(ID))
    parents = [span.parent.span_id for span in memory.requests]
    assert len(set(parents)) == 2
    assert set(parents) == {span.context.span_id for span in memory.calls}


@in_virtual_time
async def test_what_nobody_could_export_is_made_harmless(memory):
    """A lone surrogate in a refused id would make an exporter fail, and lose the others' spans."""
    async with fake_client(hooks=(memory.hook(),)) as client:
        for call_id in ("\ud800", "x" * 9999, 5):
            with pytest.raises(CallsError):
                await client.get_call(call_id)
    ids = [span.attributes["calls.call.id"] for span in memory.calls]
    assert ids == ["?", "x" * 1024, "5"]


# --- Context -------------------------------------------------------------------------------------


async def read(client, ids, way):
    """All ids, by one of the ways in which many are fetched."""
    if way == "gather":
        return await client.gather_calls(ids)
    async with client.stream_calls(ids) as outcomes:
        return [outcome async for outcome in outcomes]


@in_virtual_time
@pytest.mark.parametrize("bulk", ["gather", "stream"])
async def test_a_batch_s_calls_are_children_of_what_was_current(memory, bulk):
    """All of them: those that are begun later, or that stand in for one that sleeps, too."""
    tracer = memory.tracers.get_tracer("test")
    transport = FakeTransport(latency=0.1, fault_share=0.3)
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        with tracer.start_as_current_span("export") as export:
            await read(client, call_ids(200), bulk)
        await client.get_call(ID)
    *batch, single = memory.calls
    assert len(batch) == 200
    assert {call.parent.span_id for call in batch} == {export.get_span_context().span_id}
    assert single.parent is None


@in_virtual_time
async def test_a_call_does_not_become_the_current_span(memory):
    """After a call, and while it runs, its caller's context is what it was."""
    tracer = memory.tracers.get_tracer("test")
    seen = []

    def look(_):
        seen.append(trace.get_current_span())
        return False

    transport = FakeTransport(faults={ID: [Fault.reset]})
    policy = RetryPolicy(stop=look)
    async with fake_client(transport, hooks=(memory.hook(),), retry=policy) as client:
        with tracer.start_as_current_span("mine") as mine:
            await client.get_call(ID)
            assert trace.get_current_span() is mine
    assert seen == [mine]


@pytest.fixture
async def raw():
    answers = iter((http(status="500 Oops"), http(record())))
    async with raw_server(lambda _: next(answers)) as server:
        yield server


@pytest.mark.usefixtures("way")
async def test_each_request_carries_its_own_span(memory, raw):
    """`traceparent` names the span of this very request, so the server's spans hang below it."""
    async with CallsClient(KEY, base_url=raw.url, hooks=(memory.hook(),)) as client:
        await client.get_call(ID)
    sent = [exchange.headers["traceparent"] for exchange in raw.requests]
    spans = [span.context for span in memory.requests]
    assert sent == [
        f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" for span in spans
    ]
    assert {span.trace_flags.sampled for span in spans} == {True}
    assert len(set(sent)) == 2


async def test_baggage_travels_as_well(memory, raw):
    """What the application put into its context, the configured propagator sends along."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        async with CallsClient(KEY, base_url=raw.url, hooks=(memory.hook(),)) as client:
            await client.get_call(ID)
    finally:
        context.detach(token)
    assert {exchange.headers["baggage"] for exchange in raw.requests} == {"tenant=acme"}


async def test_another_propagator_may_be_given(memory, raw):
    """The hook's own one is used in the place of the global one."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    hook = memory.hook(propagator=TraceContextTextMapPropagator())
    try:
        async with CallsClient(KEY, base_url=raw.url, hooks=(hook,)) as client:
            await client.get_call(ID)
    finally:
        context.detach(token)
    assert all("traceparent" in exchange.headers for exchange in raw.requests)
    assert not any("baggage" in exchange.headers for exchange in raw.requests)


async def test_what_is_not_sampled_is_not_told_and_travels_all_the_same(memory, raw):
    """The server learns that it need not record either."""
    hook = OpenTelemetryHook(
        tracer_provider=TracerProvider(ALWAYS_OFF, shutdown_on_exit=False),
        meter_provider=memory.meters,
    )
    async with CallsClient(KEY, base_url=raw.url, hooks=(hook,)) as client:
        await client.get_call(ID)
    for exchange in raw.requests:
        sent = exchange.headers["traceparent"]
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", sent)
        assert not int(sent[-2:], 16) & TraceFlags.SAMPLED


# --- The key, and the rest -----------------------------------------------------------------------


@pytest.mark.usefixtures("way")
async def test_the_key_is_in_no_span(memory):
    """Neither what was sent nor what a server echoes brings it there."""
    key = "sk_live_0123456789abcdef"
    echo = Fault.status(403, body=f"no {key}", headers={"X-Request-Id": f"for {key}"})
    async with (
        Sandbox(api_keys=(key,), faults={"b": echo}) as sandbox,
        CallsClient(key, base_url=sandbox.base_url, hooks=(memory.hook(),)) as client,
    ):
        await client.gather_calls(["a", "b", "c"], return_exceptions=True)
    told = "".join(span.to_json() for span in memory.exporter.get_finished_spans())
    assert len(memory.calls) == 3
    assert "0123456789abcdef" not in told


def test_a_hook_goes_along_when_its_client_is_sent_to_another_process():
    """It pickles as its options, and tells the other side's global providers."""
    hook = OpenTelemetryHook(attributes={"calls.client": "nightly"})
    client = CallsClient(KEY, base_url="http://127.0.0.1:1", hooks=(hook,))
    (copy,) = pickle.loads(pickle.dumps(client._config.hooks))
    assert copy._given == hook._given
    assert KEY.encode() not in pickle.dumps(client)


@in_virtual_time
async def test_without_an_sdk_nothing_comes_of_it():
    """The API alone tells nobody, and breaks nothing."""
    async with fake_client(hooks=(OpenTelemetryHook(),)) as client:
        assert (await client.get_call(ID)).id == ID


def test_what_belongs_to_no_call_is_left_alone(memory):
    """Events that somebody makes up, or that come after the end, make no span and break nothing."""
    hook = memory.hook()
    error = ServerError("no", status=500)
    for event in (
        events.CallParked(at=1.0, call_id=ID, reason=events.WaitReason.PACE, serial=9),
        events.AttemptStarted(at=1.0, call_id=ID, attempt=1, serial=9),
        events.AttemptFinished(
            at=1.0, call_id=ID, attempt=2, duration=1.0, status=200, error=None, serial=9
        ),
        events.AttemptCancelled(at=1.0, call_id=ID, attempt=2, duration=1.0, serial=9),
        events.RetryScheduled(at=1.0, call_id=ID, attempt=1, delay=1.0, error=error, serial=9),
        events.CallCancelled(at=1.0, call_id=ID, serial=9),
    ):
        hook(event)
        assert hook.headers_for(events.AttemptStarted(at=1.0, call_id=ID, attempt=1)) == {}
    assert memory.exporter.get_finished_spans() == ()
