"""What a client tells about itself: events while it works, and a snapshot when asked.

The rule: telling never costs or breaks a call. Without hooks no event is made; a hook that raises
is logged and the call goes on. Hooks are called synchronously in the event loop: keep them short.
Times are the event loop's clock (`loop.time()`), in seconds; durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from calls_async.errors import CallsError
    from calls_async.outcomes import Outcome

__all__ = [
    "AttemptFinished",
    "AttemptStarted",
    "CallFinished",
    "CoolDownEntered",
    "Event",
    "Hook",
    "OutageEntered",
    "OutageLeft",
    "PaceChanged",
    "RetryScheduled",
    "Statistics",
]


@attrs.frozen(kw_only=True)
class AttemptStarted:
    """A request is about to be sent.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which request of this call, from 1.
        hedge: Whether it is a second request, because the first is late.
    """

    at: float
    call_id: str
    attempt: int
    hedge: bool = False


@attrs.frozen(kw_only=True)
class AttemptFinished:
    """A request has its answer, or will not get one; one that was cancelled has no such event.

    Attributes:
        at: When, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which attempt of this call, from 1.
        duration: Seconds from dispatch to the last byte of the answer, or to the failure.
        status: The HTTP status code; `None` if no answer arrived.
        error: What was wrong with it, as it came, before anything followed from it; `None` if the
            record was fetched.
    """

    at: float
    call_id: str
    attempt: int
    duration: float
    status: int | None
    error: CallsError | None


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """A failed attempt will be followed by another.

    Attributes:
        at: When this was decided, by the event loop's clock.
        call_id: The id asked for.
        attempt: Which attempt failed, from 1.
        delay: Seconds before the next one at the earliest; the gate may make it wait longer.
        error: What the attempt failed with.
    """

    at: float
    call_id: str
    attempt: int
    delay: float
    error: CallsError


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
    """

    at: float
    outcome: Outcome


Event: TypeAlias = (
    AttemptStarted
    | AttemptFinished
    | RetryScheduled
    | CoolDownEntered
    | PaceChanged
    | OutageEntered
    | OutageLeft
    | CallFinished
)
"""Everything that a hook may be called with."""

Hook: TypeAlias = Callable[[Event], object]
"""Called with each event; what it returns is ignored."""


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
