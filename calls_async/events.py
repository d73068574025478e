"""What a client tells about itself: events while it works, and a snapshot when asked.

The rule: telling never costs or breaks a call. Without hooks no event is made; a hook that raises
is logged and the call goes on. Hooks are called synchronously in the event loop: keep them short.
Times are the event loop's clock (`loop.time()`), in seconds; durations are in seconds. Events of a
call are told in the task, and so in the context, in which it is made. What belongs to one call has
the same `serial`: the number of the call, from 1, counted over all clients of the process.

Kinds of events, and members of them, may be added in any release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import attrs

if TYPE_CHECKING:
    from calls_async.errors import CallsError
    from calls_async.outcomes import Outcome

__all__ = [
    "AttemptCancelled",
    "AttemptFinished",
    "AttemptStarted",
    "CallCancelled",
    "CallFinished",
    "CallParked",
    "CallStarted",
    "CoolDownEntered",
    "Event",
    "HeaderHook",
    "Hook",
    "ObservingHook",
    "OutageEntered",
    "OutageLeft",
    "PaceChanged",
    "RetryScheduled",
    "Statistics",
    "WaitReason",
]


class WaitReason(StrEnum):
    """What stood against a request when its call began to wait."""

    COOL_DOWN = "cool_down"
    """The server asked for silence."""
    PACE = "pace"
    """Requests are spaced: by `Limits.max_rate`, by what was learnt, by a quota that the server
    announced, or by the pace of a fleet."""
    CONCURRENCY = "concurrency"
    """As many requests are in flight as the server takes, or as `Limits` allows."""
    OUTAGE = "outage"
    """Nobody answers, and a batch holds."""
    BUDGET = "budget"
    """The retry budget is empty."""


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call was taken up. It is the first event of each call.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for, even where it is no valid id.
        index: The position among the ids given; 0 for single calls.
        serial: The call's number.
    """

    at: float
    call_id: str
    index: int
    serial: int


@attrs.frozen(kw_only=True)
class CallParked:
    """A call cannot send its next request yet. `AttemptStarted.waited` says when that was over.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        reason: What stood against it at that moment; others may have followed.
        serial: The call's number.
    """

    at: float
    call_id: str
    reason: WaitReason
    serial: int


@attrs.frozen(kw_only=True)
class AttemptStarted:
    """A request is about to be sent.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which request of this call, from 1.
        hedge: Whether it is a second request, because the first is late.
        serial: The call's number.
        url: Where it goes. There is never a key in it.
        waited: Seconds since `CallParked`; 0 if there was nothing to wait for.
    """

    at: float
    call_id: str
    attempt: int
    hedge: bool = False
    serial: int = 0
    url: str = ""
    waited: float = 0.0


@attrs.frozen(kw_only=True)
class AttemptFinished:
    """A request has its answer, or will not get one.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which attempt of this call, from 1.
        duration: Seconds from dispatch to the last byte of the answer, or to the failure.
        status: The HTTP status code; `None` if no answer arrived.
        error: What was wrong with it, as it came, before anything followed from it; `None` if the
            record was fetched.
        serial: The call's number.
    """

    at: float
    call_id: str
    attempt: int
    duration: float
    status: int | None
    error: CallsError | None
    serial: int = 0


@attrs.frozen(kw_only=True)
class AttemptCancelled:
    """A request was given up before its answer was complete, and has no `AttemptFinished`.

    Its call was cancelled, its rival was quicker, or the client was closed.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which attempt of this call, from 1.
        duration: Seconds from dispatch until it was given up.
        serial: The call's number.
    """

    at: float
    call_id: str
    attempt: int
    duration: float
    serial: int


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """A failed attempt will be followed by another.

    Attributes:
        at: When this was decided, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which attempt failed, from 1.
        delay: Seconds before the next one at the earliest; the gate may make it wait longer.
        error: What the attempt failed with.
        serial: The call's number.
    """

    at: float
    call_id: str
    attempt: int
    delay: float
    error: CallsError
    serial: int = 0


@attrs.frozen(kw_only=True)
class CoolDownEntered:
    """The server asked for silence: no request is started until it is over.

    Attributes:
        at: When, by the event loop's clock.
        seconds: How long the gate stays closed from now on.
    """

    at: float
    seconds: float


@attrs.frozen(kw_only=True)
class PaceChanged:
    """The client learnt how fast it may send, or that nothing holds it back any more.

    Attributes:
        at: When, by the event loop's clock.
        rate: Requests started per second from now on; `None`: at full speed.
    """

    at: float
    rate: float | None


@attrs.frozen(kw_only=True)
class OutageEntered:
    """Nobody answers any more: batches hold, and send nothing but a probe now and then.

    Attributes:
        at: When this was decided, by the event loop's clock.
        seconds: For how long nobody had answered by then.
    """

    at: float
    seconds: float


@attrs.frozen(kw_only=True)
class OutageLeft:
    """Somebody answers again: batches go on, gently.

    Attributes:
        at: When, by the event loop's clock.
        seconds: For how long nobody had answered.
    """

    at: float
    seconds: float


@attrs.frozen(kw_only=True)
class CallFinished:
    """A call has its outcome.

    Attributes:
        at: When, by the event loop's clock.
        outcome: The outcome; its `index` is 0 for single calls.
        serial: The call's number.
    """

    at: float
    outcome: Outcome
    serial: int = 0


@attrs.frozen(kw_only=True)
class CallCancelled:
    """A call ended without an outcome, and has no `CallFinished`.

    Its task was cancelled, or a tenacity strategy of the caller's own raised.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        serial: The call's number.
    """

    at: float
    call_id: str
    serial: int


Event: TypeAlias = (
    CallStarted
    | CallParked
    | AttemptStarted
    | AttemptFinished
    | AttemptCancelled
    | RetryScheduled
    | CoolDownEntered
    | PaceChanged
    | OutageEntered
    | OutageLeft
    | CallFinished
    | CallCancelled
)
"""Everything that a hook may be called with."""

Hook: TypeAlias = Callable[[Event], object]
"""Called with each event; what it returns is ignored."""


@runtime_checkable
class HeaderHook(Protocol):
    """A hook that also adds header fields to each request, such as `traceparent`."""

    def __call__(self, event: Event, /) -> object:
        """See `Hook`."""
        ...

    def headers_for(self, request: AttemptStarted, /) -> Mapping[str, str]:
        """The fields to add to a request, of whose start all hooks have been told.

        What could not be sent, or belongs to the client, is refused as it is in
        `CallsClient(headers=...)`, and logged; the request goes without it. A field that the
        client sends already (by default, by `headers=` or by `user_agent=`) stays as it is.

        Args:
            request: The event of its start.
        """
        ...


@runtime_checkable
class ObservingHook(Protocol):
    """A hook that also looks at the client's statistics, whenever it likes."""

    def __call__(self, event: Event, /) -> object:
        """See `Hook`."""
        ...

    def observe(self, statistics: Callable[[], Statistics], /) -> object:
        """Take note of a client that begins to work.

        Args:
            statistics: The bound method that gives them, in any thread; it compares equal for a
                client and its `with_options` children. It keeps the client alive: hold it weakly.
        """
        ...


@attrs.frozen(kw_only=True)
class Statistics:
    """A client's state at one moment, its `with_options` children included.

    Attributes:
        fetched: Calls fetched since the client was made.
        failed: Calls that failed for good, those refused unsent included.
        requests: Requests put on the wire; one that was cut while connecting counts too.
        retries: Requests that followed on a failed one of their call.
        hedges: Second requests, because the first was late; see `Limits.hedge`.
        throttled: Answers that asked for fewer requests (429, 503 with a hint).
        in_flight: Requests in flight now.
        waiting: Calls that wait now, for a permit or for the gate to open.
        cool_down: Seconds until the gate opens; 0 when it is open.
        pace: Requests that may be started per second; `None`: at full speed.
        concurrency: Requests that may be in flight now; it moves below `max_concurrency`.
        max_concurrency: The limit that was set.
        budget: Tokens that are left for retries, of 500.
        outage: Seconds for which nobody has answered, while that holds batches back; else 0.
        transport: What carries the requests now: `"lane"`, the quick way over connections of
            aiohttp's; or `"session"`, where only an `aiohttp.ClientSession` will do (one that was
            injected or mocked, or plain http through a proxy).
    """

    fetched: int
    failed: int
    requests: int
    retries: int
    hedges: int
    throttled: int
    in_flight: int
    waiting: int
    cool_down: float
    pace: float | None
    concurrency: int
    max_concurrency: int
    budget: int
    outage: float
    transport: str
