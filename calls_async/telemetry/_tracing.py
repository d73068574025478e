"""Spans; the rule: one for each call, and below it one for each request on the wire.

The span of a request is HTTP's: kind client, with the attributes of OpenTelemetry's semantic
conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/). These ask for a
span for each request that is sent, and against another client span around them; so the span of a
call is an internal one. What a call waited for is told by events on its span.

A call's span is the child of what was current when the call was made or, in a batch, when the batch
began: the tasks of a batch inherit that. It is never made current itself, because a hook is told of
moments and cannot wrap what happens between them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from calls_async import __version__, events
from calls_async.errors import StatusError
from calls_async.outcomes import Failed
from calls_async.telemetry._words import METHOD, Target, clean, error_type

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

    from calls_async.events import Event
    from calls_async.outcomes import Outcome

SCOPE: Final = "calls_async"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
CALL: Final = "calls.fetch"

Attributes: TypeAlias = "dict[str, str | int | float | bool]"


@attrs.define(eq=False)
class _Call:
    """A call under way.

    Attributes:
        span: Its span.
        context: The context of its requests.
        offset: Nanoseconds from the event loop's clock to the time of day. Taken once for each
            call, so that its spans fit each other, whatever is done to the clock meanwhile.
        parked: When it began to wait; `None` if it does not.
        requests: The spans of its requests in flight, with their contexts.
    """

    span: Span
    context: Context
    offset: int
    parked: float | None = None
    requests: dict[int, tuple[Span, Context]] = attrs.field(
        factory=dict[int, "tuple[Span, Context]"]
    )

    def time(self, at: float) -> int:
        """A moment of the event loop's clock, as spans have it."""
        return self.offset + round(at * 1e9)


class Tracing:
    """Makes the spans of all calls of which it is told.

    Args:
        provider: Where spans go; `None`: the global provider.
        propagator: What writes headers; `None`: the global one.
    """

    def __init__(
        self, provider: TracerProvider | None, propagator: TextMapPropagator | None
    ) -> None:
        self._tracer = trace.get_tracer(SCOPE, __version__, provider, SCHEMA)
        self._propagator = propagator
        self._calls: dict[int, _Call] = {}
        self._targets: dict[str, Target] = {}

    def told(self, event: Event) -> Context | None:
        """Note an event.

        Returns:
            The context of the span that it belongs to; `None` if it belongs to none.
        """
        match event:
            case events.CallStarted():
                return self._started(event)
            case (
                events.CoolDownEntered()
                | events.PaceChanged()
                | events.OutageEntered()
                | events.OutageLeft()
            ):
                return None
            case _:
                call = self._calls.get(event.serial)
                return None if call is None else self._of_call(event, call)

    def _of_call(self, event: Event, call: _Call) -> Context | None:
        match event:
            case events.CallParked():
                call.parked = event.at
                note: Attributes = {"calls.wait.reason": event.reason.value}
                call.span.add_event("calls.parked", note, call.time(event.at))
            case events.AttemptStarted():
                return self._sent(event, call)
            case events.AttemptFinished():
                return self._answered(event, call)
            case events.AttemptCancelled():
                return self._given_up(event, call)
            case events.RetryScheduled():
                note = {
                    "calls.attempt": event.attempt,
                    "calls.retry.delay": event.delay,
                    "error.type": error_type(event.error),
                }
                call.span.add_event("calls.retry_scheduled", note, call.time(event.at))
            case events.CallFinished():
                del self._calls[event.serial]
                _settle(call.span, event.outcome)
                call.span.end(call.time(event.at))
            case events.CallCancelled():
                del self._calls[event.serial]
                call.span.set_attribute("calls.outcome", "cancelled")
                call.span.end(call.time(event.at))
            case _:
                pass
        return call.context

    def headers_for(self, request: events.AttemptStarted) -> dict[str, str]:
        """What tells the server which span it serves."""
        carrier: dict[str, str] = {}
        call = self._calls.get(request.serial)
        if call is not None and (sent := call.requests.get(request.attempt)) is not None:
            propagator = self._propagator or propagate.get_global_textmap()
            # The type of its default setter is wrong in the API.
            propagator.inject(carrier, sent[1])  # pyright: ignore[reportArgumentType]
        return carrier

    # --- Calls ---------------------------------------------------------------------------------

    def _started(self, event: events.CallStarted) -> Context:
        around = contexts.get_current()
        offset = time.time_ns() - round(event.at * 1e9)
        span = self._tracer.start_span(
            CALL,
            around,
            SpanKind.INTERNAL,
            {"calls.call.id": clean(event.call_id), "calls.call.index": event.index},
            start_time=offset + round(event.at * 1e9),
        )
        context = trace.set_span_in_context(span, around)
        self._calls[event.serial] = _Call(span, context, offset)
        return context

    # --- Requests ------------------------------------------------------------------------------

    def _sent(self, event: events.AttemptStarted, call: _Call) -> Context:
        if call.parked is not None and not event.hedge:
            waited: Attributes = {"calls.wait.duration": event.waited}
            call.span.add_event("calls.admitted", waited, call.time(event.at))
            call.parked = None
        calls_url = event.url.rpartition("/")[0]
        target = self._targets.get(calls_url)
        if target is None:
            target = self._targets[calls_url] = Target.of(calls_url)
        attributes: Attributes = {
            "http.request.method": METHOD,
            "server.address": target.address,
            "server.port": target.port,
            "url.full": event.url,
            "url.scheme": target.scheme,
            "url.template": target.template,
        }
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        if event.hedge:
            attributes["calls.hedge"] = True
        span = self._tracer.start_span(
            f"{METHOD} {target.template}",
            call.context,
            SpanKind.CLIENT,
            attributes,
            start_time=call.time(event.at),
        )
        context = trace.set_span_in_context(span, call.context)
        call.requests[event.attempt] = span, context
        return context

    def _answered(self, event: events.AttemptFinished, call: _Call) -> Context | None:
        found = call.requests.pop(event.attempt, None)
        if found is None:
            return None
        span, context = found
        if event.status is not None:
            span.set_attribute("http.response.status_code", int(event.status))
        if event.error is not None:
            span.set_attribute("error.type", error_type(event.error, event.status))
            # A status speaks for itself, as the conventions have it.
            says_all = event.status is not None and event.status >= 400
            told = None if says_all else clean(event.error.message)
            span.set_status(Status(StatusCode.ERROR, told))
        span.end(call.time(event.at))
        return context

    def _given_up(self, event: events.AttemptCancelled, call: _Call) -> Context | None:
        found = call.requests.pop(event.attempt, None)
        if found is None:
            return None
        span, context = found
        # Who gives up on purpose has met with no error, say the conventions.
        span.set_attribute("calls.cancelled", True)  # noqa: FBT003 (an attribute's value)
        span.end(call.time(event.at))
        return context


def _settle(span: Span, outcome: Outcome) -> None:
    """Put on a call's span what became of it."""
    span.set_attribute("calls.attempts", outcome.attempts)
    if not isinstance(outcome, Failed):
        span.set_attribute("calls.outcome", "fetched")
        if outcome.request_id is not None:
            span.set_attribute("calls.request_id", clean(outcome.request_id))
        return
    error = outcome.error
    span.set_attribute("calls.outcome", "failed")
    span.set_attribute("error.type", type(error).__name__)
    if error.stopped_by is not None:
        span.set_attribute("calls.stopped_by", error.stopped_by.value)
    if isinstance(error, StatusError) and error.request_id is not None:
        span.set_attribute("calls.request_id", clean(error.request_id))
    span.set_status(Status(StatusCode.ERROR, clean(error.message)))
