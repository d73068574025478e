"""The verdict, the heart of the client; the rule: what came back alone decides what comes next.

Pure: (what came back, how far the call is, policy, the caller's opinion, a random number) becomes
`Done`, `RetryIn` or `Fail`. `assess` says what an attempt brought, `judge` whether a failure is
followed by another try. No clock, no randomness and no I/O, so that every branch is a plain test.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import attrs
from multidict import istr

from calls_async._backoff import full_jitter
from calls_async._codec import decode_call
from calls_async._headers import NO_HINT, Hint, read_hint
from calls_async.errors import (
    AuthenticationError,
    CallsError,
    DeadlineExceededError,
    DecodeError,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    ServerError,
    StatusError,
    StoppedBy,
    amended,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from calls_async._wire import Answer
    from calls_async.config import RetryPolicy
    from calls_async.models import Call

BATCH_ATTEMPTS: Final = 20
"""Transient failures of one id at most that a batch puts up with, while there is patience. Fewer
would lose ids in the moment before an outage is known to be one."""
BATCH_THROTTLED_ATTEMPTS: Final = 50
"""The same for throttled answers. A hundred clients that share one limit have every second request
refused until each has learnt its part, and ten refusals in a row are no rarity then."""
BODY_EXCERPT: Final = 500
"""Characters of an answer's text that a `StatusError` keeps."""


class Done(NamedTuple):
    """The record that was asked for is here.

    It is a tuple because every call makes one, and no other frozen class is made as fast.

    Attributes:
        call: The record.
        answer: What it came in.
        hint: What the answer says about sending more.
    """

    call: Call
    answer: Answer
    hint: Hint = NO_HINT


@attrs.frozen(kw_only=True)
class Fault:
    """The attempt failed; whether the call did is for `judge` to say.

    Attributes:
        error: What it failed with.
        status: The answer's HTTP status code; `None` if no answer arrived.
        hint: What the answer says about sending more.
    """

    error: CallsError
    status: int | None = None
    hint: Hint = NO_HINT


@attrs.frozen(kw_only=True)
class RetryIn:
    """Try again.

    Attributes:
        delay: Seconds to wait at least.
        counted: The part of `delay` that counts against the time of a batch's call: its own
            backoff after a failure. The server's wish does not, and neither does what follows on a
            throttled answer: that call waits with all others, as long as the batch is patient.
        error: What the attempt failed with.
        cool_down: Seconds for which the server asks everyone for silence from now on; 0 if it
            names none. How long the gate is closed after that is for the gate to say.
    """

    delay: float
    counted: float
    error: CallsError
    cool_down: float = 0.0


@attrs.frozen(kw_only=True)
class Fail:
    """Give up, with the final error."""

    error: CallsError
    cool_down: float = 0.0


Verdict: TypeAlias = Done | RetryIn | Fail


@attrs.frozen(kw_only=True)
class Progress:
    """How far a call is, the attempt that has just failed included.

    Attributes:
        call_id: The id asked for.
        attempts: Requests started.
        transient: Transient failures among them.
        throttled: Throttled answers among them.
        probes: An outage's probes among them, which count for nothing else. What is none of these
            was a key that could be renewed.
        elapsed: Seconds since the call began.
        left: Seconds of its time that are left.
        in_batch: Whether it is part of a batch, whose patience is the batch's.
        mismatched: Whether an earlier attempt brought another id's record.
        key_renewed: Whether the key was refused and there is a new one, not yet tried.
    """

    call_id: str
    attempts: int
    transient: int
    throttled: int
    elapsed: float
    left: float
    in_batch: bool = False
    mismatched: bool = False
    key_renewed: bool = False
    probes: int = 0


@attrs.frozen(kw_only=True)
class Opinion:
    """What the caller's own tenacity strategies say of a failure; `None`: not asked."""

    retry: bool | None = None
    stop: bool | None = None
    wait: float | None = None


NO_OPINION: Final = Opinion()


# --- What an attempt brought ---------------------------------------------------------------------


def assess(
    call_id: str,
    came: Answer | CallsError,
    now: float,
    scrub: Callable[[bytes], bytes],
) -> Done | Fault:
    """Read what one attempt brought.

    Args:
        call_id: The id asked for.
        came: The answer, or what kept it from arriving.
        now: The wall clock, in seconds since the epoch, for hints in answers without a date.
        scrub: Takes the key out of all that is told but the record itself.
    """
    if isinstance(came, CallsError):
        return Fault(error=came)
    status, headers, body, silent = came
    hint = NO_HINT if silent else read_hint(status, headers, now)
    if status != _OK:
        error = _status_error(came, hint, now, scrub)
        return Fault(error=error, status=status, hint=hint)
    try:
        call = decode_call(body)
    except DecodeError as error:
        undecoded = amended(
            error,
            call_id=call_id,  # not the id that the document gives itself
            raw=scrub(error.raw),
            request_id=request_id_of(came, scrub),
        )
        return Fault(error=undecoded, status=status, hint=hint)
    if call.id != call_id:
        # Answers can be swapped on the way: aiohttp hands an unsolicited answer on an idle
        # connection to the next request, and caches mix up keys. The record stays here.
        received_id = _scrubbed(call.id, scrub)
        mismatch = MismatchedCallError(
            f"the answer is the record of call {received_id[:80]!a}",
            received_id=received_id,
            raw=scrub(body),
            request_id=request_id_of(came, scrub),
        )
        return Fault(error=mismatch, status=status, hint=hint)
    # The record is what was asked for, so it is exact, whatever is in it.
    return _done(Done, (call, came, hint))


def request_id_of(answer: Answer, scrub: Callable[[bytes], bytes]) -> str | None:
    """The server's `x-request-id`, without the key: unlike a record it is shown, and logged."""
    return _field(answer, _REQUEST_ID, scrub)


_OK: Final = 200
_REQUEST_ID: Final = istr("x-request-id")  # not to be folded with each answer
# What `Done(...)` comes to, without a call in between.
_done: Final = cast(
    "Callable[[type[Done], tuple[Any, ...]], Done]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)

_STATUS_ERRORS: Final[dict[int, type[StatusError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    429: RateLimitedError,
}


def _status_error(
    answer: Answer, hint: Hint, now: float, scrub: Callable[[bytes], bytes]
) -> StatusError:
    status = answer.status
    try:
        message = f"the server answered {status} {HTTPStatus(status).phrase}"
    except ValueError:  # 520 and its like are nobody's standard, but proxies send them
        message = f"the server answered {status}"
    about: dict[str, Any] = {
        "status": status,
        "request_id": request_id_of(answer, scrub),
        # No character takes more than four bytes, so this is enough of a page of any length.
        "body": scrub(answer.body[: 4 * BODY_EXCERPT]).decode(errors="replace")[:BODY_EXCERPT],
        "retry_after": hint.wait,
        "retry_at": _later(now, hint.wait),
    }
    if 300 <= status < 400:
        location = _field(answer, "location", scrub)
        return RedirectError(message, location=location, **about)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and hint.wait is not None:
        return RateLimitedError(message, **about)
    default = ServerError if 500 <= status < 600 else StatusError
    return _STATUS_ERRORS.get(status, default)(message, **about)


def _later(now: float, wait: float | None) -> datetime | None:
    # No wait is longer than `LONGEST_WAIT`, so the calendar has room for it.
    return None if wait is None else datetime.fromtimestamp(now + wait, UTC)


def _field(answer: Answer, name: str, scrub: Callable[[bytes], bytes]) -> str | None:
    value = answer.headers.get(name)
    return None if value is None else _scrubbed(value, scrub)


def _scrubbed(text: str, scrub: Callable[[bytes], bytes]) -> str:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        # In a header, bytes that are no UTF-8 arrive as lone surrogates; they pass as they are.
        data = text.encode("utf-8", "surrogatepass")
    scrubbed = scrub(data)
    return text if scrubbed is data else scrubbed.decode("utf-8", "surrogatepass")


# --- What comes next -----------------------------------------------------------------------------


def judge(
    fault: Fault,
    progress: Progress,
    policy: RetryPolicy,
    *,
    rnd: float,
    opinion: Opinion = NO_OPINION,
) -> RetryIn | Fail:
    """Say whether a failed attempt is followed by another.

    Args:
        fault: What the attempt failed with.
        progress: How far the call is.
        policy: The call's policy.
        rnd: A random number between 0 and 1, for the jitter.
        opinion: What the caller's own strategies say; they replace the set of retried failures,
            the counts and the backoff, while the server's word and the deadline still bind.
    """
    throttled = isinstance(fault.error, RateLimitedError)
    backoff = opinion.wait
    if backoff is None:
        backoff = _backoff(progress, policy, throttled=throttled, rnd=rnd)
    wait = fault.hint.wait
    delay = max(backoff, wait or 0.0)
    counted = 0.0 if throttled and progress.in_batch else backoff
    cool_down = _cool_down(fault)
    stopped_by = _stopped_by(
        fault, progress, policy, opinion, counted=counted if progress.in_batch else delay
    )
    error = amended(
        fault.error,
        call_id=progress.call_id,
        attempts=progress.attempts,
        elapsed=progress.elapsed,
        stopped_by=stopped_by,
    )
    if stopped_by is not None:
        return Fail(error=error, cool_down=cool_down)
    return RetryIn(delay=delay, counted=counted, error=error, cool_down=cool_down)


def _backoff(progress: Progress, policy: RetryPolicy, *, throttled: bool, rnd: float) -> float:
    if progress.key_renewed:
        return 0.0
    nth = progress.throttled if throttled else progress.transient
    base = policy.throttle_backoff_base if throttled else policy.backoff_base
    cap = policy.max_backoff
    if progress.in_batch and not throttled:
        # The backoff of twenty attempts, doubled each time, would take minutes, and the id would
        # run out of its time long before. So the time left is shared among the tries left.
        waits = _most_transient(progress, policy) - progress.transient
        cap = min(cap, max(0.0, progress.left) / max(1, waits + 1))
    return full_jitter(nth, base=base, factor=policy.backoff_factor, cap=cap, rnd=rnd)


def _cool_down(fault: Fault) -> float:
    """Seconds of silence that the answer asks of everyone; 0 if it names none."""
    # Another failure's Retry-After is about that request, unless it announces quotas.
    for_all = isinstance(fault.error, RateLimitedError) or fault.hint.budgets
    return (fault.hint.wait or 0.0) if for_all else 0.0


def _stopped_by(
    fault: Fault, progress: Progress, policy: RetryPolicy, opinion: Opinion, *, counted: float
) -> StoppedBy | None:
    """The first reason against another try; `None` if there is none."""
    reason = (
        (None if progress.key_renewed else _helpless(fault, progress, opinion))
        or _exhausted(fault, progress, policy, opinion)
        or _too_late(fault, progress, policy, counted=counted)
    )
    # Whatever else speaks against another try: a refused key is what a batch must hear of.
    refused = isinstance(fault.error, AuthenticationError) and not progress.key_renewed
    return StoppedBy.KEY_REFUSED if reason and refused else reason


def _helpless(fault: Fault, progress: Progress, opinion: Opinion) -> StoppedBy | None:
    """Whether trying again cannot help."""
    error, hint = fault.error, fault.hint
    if isinstance(error, DeadlineExceededError):
        return StoppedBy.DEADLINE
    if hint.should_retry is False:
        return StoppedBy.SERVER
    if opinion.retry is not None:
        return None if opinion.retry else StoppedBy.STRATEGY
    if isinstance(error, MismatchedCallError):  # once, for its headers may be another's as well
        return StoppedBy.FINAL if progress.mismatched else None
    return None if hint.should_retry or error.retryable else StoppedBy.FINAL


def _exhausted(
    fault: Fault, progress: Progress, policy: RetryPolicy, opinion: Opinion
) -> StoppedBy | None:
    """Whether the call has had its attempts; throttled ones and renewals are counted apart."""
    if opinion.stop is not None:
        return StoppedBy.STRATEGY if opinion.stop else None
    if isinstance(fault.error, RateLimitedError):
        most = policy.max_throttled_attempts
        if progress.in_batch:
            most = max(most, BATCH_THROTTLED_ATTEMPTS)
        return StoppedBy.THROTTLED_ATTEMPTS if progress.throttled >= most else None
    if progress.key_renewed:
        # A provider that mints a key each time it is asked would otherwise go on for ever.
        counted = progress.transient + progress.throttled + progress.probes
        renewals = progress.attempts - counted
        return StoppedBy.KEY_REFUSED if renewals > policy.max_attempts else None
    most = _most_transient(progress, policy)
    return StoppedBy.ATTEMPTS if progress.transient >= most else None


def _most_transient(progress: Progress, policy: RetryPolicy) -> int:
    """Transient failures that end the call."""
    if progress.in_batch:
        return max(policy.max_attempts, BATCH_ATTEMPTS)
    return policy.max_attempts


def _too_late(
    fault: Fault, progress: Progress, policy: RetryPolicy, *, counted: float
) -> StoppedBy | None:
    """Whether the wait is longer than the server may ask for, or than there is time."""
    # In a batch a throttled call waits at the gate with all others, within the batch's patience.
    at_gate = progress.in_batch and isinstance(fault.error, RateLimitedError)
    if not at_gate and (fault.hint.wait or 0.0) > policy.max_server_wait:
        return StoppedBy.SERVER_WAIT
    return StoppedBy.DEADLINE if counted >= progress.left else None
