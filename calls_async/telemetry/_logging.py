"""The hook for `logging`; the rule: a line for what somebody may have to act on, not one a call.

An outage, a silence and a pace concern all calls, so each is one line. A call that fails for good
is a warning, and of many that fail alike a few are lines, and the others a number in the next one.
Everything else (requests, waits, retries) is for who looks for a fault, at DEBUG.

What is logged are ids, statuses, durations and the errors' own messages, which never hold a key; a
body is logged at no level. The message is for people. What it says is also in fields of the record,
whose names all begin with `calls_`.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import attrs

from calls_async import events
from calls_async.errors import ConfigurationError, StatusError
from calls_async.outcomes import Failed
from calls_async.telemetry._words import clean, error_type

if TYPE_CHECKING:
    from calls_async.errors import CallsError
    from calls_async.events import Event

Fields: TypeAlias = "dict[str, Any]"


class _Line(NamedTuple):
    """A line of the log.

    Attributes:
        level: Its level.
        kind: What it is about; many of a kind are a few lines and a number.
        message: The message, with a placeholder for each argument.
        args: The arguments.
        fields: The fields of the record.
        often: Whether there may be one for each call, so that few are not enough to be told apart.
    """

    level: int
    kind: str
    message: str
    args: tuple[Any, ...]
    fields: Fields
    often: bool = False


@attrs.define
class _Tally:
    """The lines of one kind in one period.

    Attributes:
        level: Their level.
        since: When the period began, by the event loop's clock.
        logged: How many were logged in it.
        held: How many were not.
    """

    level: int
    since: float
    logged: int = 0
    held: int = 0


class LoggingHook:
    """Logs what a client does, under `calls_async`.

    One hook may serve any number of clients. What repeats itself is logged a few times in each
    period and then counted; the number is in the next line of its kind, and `flush` logs the rest.

    Args:
        logger: Where to log; `None`: the logger `calls_async`.
        period: Seconds of a period.
        burst: Failed calls that are logged in a period, for each kind of error. A silence and a new
            pace are logged once in a period, an outage always.

    Raises:
        ConfigurationError: An option cannot be used.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, period: float = 60.0, burst: int = 5
    ) -> None:
        if not 0.0 <= period < math.inf:
            raise ConfigurationError(f"LoggingHook(period=...) must be seconds, not {period!r}")
        if burst < 1:
            raise ConfigurationError(f"LoggingHook(burst=...) must be at least 1, not {burst!r}")
        self._logger = logging.getLogger("calls_async") if logger is None else logger
        self._period = period
        self._burst = burst
        self._tallies: dict[str, _Tally] = {}

    def __call__(self, event: Event) -> None:
        """A hook; see `calls_async.events.Hook`."""
        if isinstance(event, _DETAILS) and not self._logger.isEnabledFor(logging.DEBUG):
            return  # nearly all events, where nobody looks for a fault
        line = _line(event)
        if line is None or not self._logger.isEnabledFor(line.level):
            return
        held = 0
        if line.level > logging.DEBUG and line.kind not in _ALWAYS:
            tally = self._tally(line, event.at)
            if tally.logged >= (self._burst if line.often else 1):
                tally.held += 1
                return
            tally.logged += 1
            held, tally.held = tally.held, 0
        message, args = line.message, line.args
        if held:
            message, args = message + _MORE, (*args, held)
        extra = {"calls_event": line.kind.partition(":")[0], **line.fields, "calls_held": held}
        self._logger.log(line.level, message, *args, extra=extra)

    def flush(self) -> None:
        """Log how many lines of each kind were held back; for the end of a job."""
        for kind, tally in self._tallies.items():
            held, tally.held = tally.held, 0
            if held:
                extra = {"calls_event": "held", "calls_kind": kind, "calls_held": held}
                self._logger.log(
                    tally.level, "%d more of %s were not logged one by one", held, kind, extra=extra
                )

    def _tally(self, line: _Line, at: float) -> _Tally:
        """The tally of this period."""
        tally = self._tallies.get(line.kind)
        if tally is None:
            tally = self._tallies[line.kind] = _Tally(line.level, at)
        elif at >= tally.since + self._period:
            tally.since, tally.logged = at, 0
        return tally


_MORE: Final = " (%d more like this since the last line)"
_ALWAYS: Final = frozenset({"outage_entered", "outage_left"})
_DETAILS: Final = (
    events.CallStarted,
    events.CallParked,
    events.AttemptStarted,
    events.AttemptFinished,
    events.AttemptCancelled,
    events.RetryScheduled,
    events.CallCancelled,
)


def _line(event: Event) -> _Line | None:
    """What an event is worth; `None`: not even a line at DEBUG."""
    match event:
        case events.CallFinished(outcome=Failed() as failed):
            return _failure(failed, event.serial)
        case events.CallFinished() | events.CallParked() | events.CallCancelled():
            return _of_call(event)
        case events.AttemptFinished() | events.AttemptCancelled() | events.RetryScheduled():
            return _of_attempt(event)
        case events.CallStarted() | events.AttemptStarted():
            return None  # the end says it all
        case _:
            return _of_client(event)


def _of_client(
    event: events.CoolDownEntered | events.PaceChanged | events.OutageEntered | events.OutageLeft,
) -> _Line:
    match event:
        case events.CoolDownEntered(seconds=seconds):
            kind, message = "cool_down", "the server asks for silence: nothing is sent for %.1f s"
            return _Line(logging.INFO, kind, message, (seconds,), {"calls_seconds": seconds})
        case events.PaceChanged(rate=None):
            kind, message = "pace", "requests are sent at full speed again"
            return _Line(logging.INFO, kind, message, (), {"calls_rate": None})
        case events.PaceChanged(rate=rate):
            kind, message = "pace", "%.3g requests are sent per second from now on"
            return _Line(logging.INFO, kind, message, (rate,), {"calls_rate": rate})
        case events.OutageEntered(seconds=seconds):
            kind, message = "outage_entered", "nobody has answered for %.1f s: batches hold"
            return _Line(logging.WARNING, kind, message, (seconds,), {"calls_seconds": seconds})
        case events.OutageLeft(seconds=seconds):
            kind, message = "outage_left", "the server answers again, after %.1f s: batches go on"
            return _Line(logging.WARNING, kind, message, (seconds,), {"calls_seconds": seconds})


def _failure(failed: Failed, serial: int) -> _Line:
    error = failed.error
    family = type(error).__name__
    fields = {
        **_about(failed.id, serial),
        **_why(error),
        "calls_attempts": failed.attempts,
        "calls_elapsed": failed.elapsed,
        "calls_stopped_by": None if error.stopped_by is None else error.stopped_by.value,
    }
    args = (_shown(failed.id), failed.elapsed, failed.attempts, family, clean(error.message))
    message = "call %s failed after %.2f s (attempts: %d): %s: %s"
    return _Line(logging.WARNING, f"call_failed:{family}", message, args, fields, often=True)


def _of_call(event: events.CallFinished | events.CallParked | events.CallCancelled) -> _Line:
    args: tuple[Any, ...]
    match event:
        case events.CallFinished(outcome=outcome):
            fields = {
                **_about(outcome.id, event.serial),
                "calls_attempts": outcome.attempts,
                "calls_elapsed": outcome.elapsed,
            }
            args = _shown(outcome.id), outcome.elapsed, outcome.attempts
            message = "call %s fetched in %.2f s (attempts: %d)"
            return _Line(logging.DEBUG, "call_fetched", message, args, fields)
        case events.CallParked(reason=reason):
            fields = {**_about(event.call_id, event.serial), "calls_reason": reason.value}
            args = _shown(event.call_id), reason.value
            return _Line(logging.DEBUG, "call_parked", "call %s waits: %s", args, fields)
        case events.CallCancelled():
            fields = _about(event.call_id, event.serial)
            args = (_shown(event.call_id),)
            return _Line(logging.DEBUG, "call_cancelled", "call %s was cancelled", args, fields)


def _of_attempt(
    event: events.AttemptFinished | events.AttemptCancelled | events.RetryScheduled,
) -> _Line:
    fields = {**_about(event.call_id, event.serial), "calls_attempt": event.attempt}
    start = _shown(event.call_id), event.attempt
    match event:
        case events.AttemptFinished(error=error, duration=duration):
            came = "a record" if error is None else error_type(error, event.status)
            fields |= {"calls_duration": duration, **({} if error is None else _why(error))}
            fields["calls_status"] = None if event.status is None else int(event.status)
            message = "call %s, request %d: %s in %.3f s"
            return _Line(
                logging.DEBUG, "attempt_finished", message, (*start, came, duration), fields
            )
        case events.AttemptCancelled(duration=duration):
            fields["calls_duration"] = duration
            message = "call %s, request %d: given up after %.3f s"
            return _Line(logging.DEBUG, "attempt_cancelled", message, (*start, duration), fields)
        case events.RetryScheduled(error=error, delay=delay):
            fields |= {"calls_delay": delay, **_why(error)}
            message = "call %s, request %d: tried again in %.2f s: %s"
            args = *start, delay, clean(error.message)
            return _Line(logging.DEBUG, "retry_scheduled", message, args, fields)


def _about(call_id: str, serial: int) -> Fields:
    return {"calls_id": clean(call_id), "calls_serial": serial}


def _why(error: CallsError) -> Fields:
    fields: Fields = {"calls_error": type(error).__name__}
    if isinstance(error, StatusError):
        fields["calls_status"] = error.status
        fields["calls_request_id"] = None if error.request_id is None else clean(error.request_id)
    return fields


def _shown(call_id: str) -> str:
    """An id within a line: one that has a line break shall not look like two lines."""
    return ascii(clean(call_id))
