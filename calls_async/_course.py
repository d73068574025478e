"""One call on its way; the rule: attempts and waits as the verdicts say, within the call's time.

A course knows what its call has spent and met with, and asks the parts in their order: is there
still a reason, a key, a permit; what did the attempt bring; what follows from that. The permit is
given back before any sleep, so a call that waits keeps nobody from working.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

import attrs

from calls_async import events
from calls_async._attempt import Attempt, Line, carry_out
from calls_async._outage import PROBE_TIMEOUT
from calls_async._verdict import NO_OPINION, Done, Fail, Progress, RetryIn, judge
from calls_async.errors import (
    AuthenticationError,
    CallsError,
    DeadlineExceededError,
    MismatchedCallError,
    RateLimitedError,
    StoppedBy,
    amended,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from calls_async._attempt import Brought
    from calls_async._credentials import Credentials
    from calls_async._retry import Strategies
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._throttle import Permit
    from calls_async._verdict import Fault, Verdict
    from calls_async.config import RetryPolicy
    from calls_async.events import WaitReason

K = TypeVar("K")


@attrs.define(kw_only=True)
class Course:
    """What one call has spent, and what it has met with.

    Attributes:
        line: The way to the server.
        credentials: Where its key comes from.
        policy: When it is tried again.
        strategies: The caller's own, if there are any.
        scope: What it is part of, and is called off with.
        call_id: The id.
        began: When it began, by the event loop's clock.
        most: Seconds for one attempt.
        total: Seconds for all of it; what counts of a batch's call is its attempts and backoffs.
        serial: Its number, for those who are told.
        attempts: Requests sent.
    """

    line: Line
    credentials: Credentials
    policy: RetryPolicy
    strategies: Strategies | None
    scope: Scope
    call_id: str
    began: float
    most: float
    total: float
    serial: int = 0
    attempts: int = 0
    _transient: int = 0
    _throttled: int = 0
    _probes: int = 0
    _spent: float = 0.0
    _mismatched: bool = False
    key: ApiKey | None = None
    """The key that the last attempt carried."""
    _last: CallsError | None = None
    _first: tuple[Brought, ApiKey] | None = None
    # Of the next attempt: what a single call has paid for it, and what a batch's call will have to.
    _paid: int | None = None
    _owes: bool | None = None
    _parked: float | None = None

    def begun(self, attempts: int, key: ApiKey, brought: Brought) -> None:
        """Go on from a first attempt that was carried out without a course.

        Args:
            attempts: Requests sent for it.
            key: The key that they carried.
            brought: What came of it.
        """
        self.attempts = attempts
        self._spent = self.line.loop.time() - self.began
        self._first = (brought, key)

    async def attempt(self) -> Verdict:
        """One attempt, from the wait for its permit to the verdict."""
        if self._first is not None:
            begun, self._first = self._first, None
            return await self._weighed(*begun)
        line = self.line
        if not self.attempts and (closing := self.scope.closing) is not None:
            # It comes too late. Where the scope is shut and not stopped, calls under way go on.
            return Fail(error=self._final(closing, closing.stopped_by))
        if self._is_stopped():
            return Fail(error=self._called_off())
        try:
            key = self.credentials.held
            if key is None:
                key = await self._asked(self.credentials.current())
        except CallsError as exc:
            return Fail(error=self._final(exc, exc.stopped_by or StoppedBy.KEY_REFUSED))
        self._parked = None
        permit = await line.throttle.admit(
            self.scope,
            self._deadline(),
            owes=self._owes,
            paid=self._paid,
            on_wait=None if line.tell is None else self._tell_of_wait,
        )
        if permit is None:
            return Fail(error=self._called_off())
        # Others may have been refused this key while the call was parked.
        key = self.credentials.held or key
        return await self._weighed(await self._sent(permit, key), key, probe=permit.probe)

    async def _asked(self, question: Awaitable[K]) -> K:
        """What the caller's key provider answers, within the call's time."""
        now = self.line.loop.time()
        try:
            async with asyncio.timeout_at(now + self._left(now)) as timeout:
                with self.scope.question(timeout):
                    return await question
        except TimeoutError:
            raise self._unanswered() from None

    def _unanswered(self) -> CallsError:
        if self._is_stopped():
            return self._called_off()
        late = DeadlineExceededError(
            f"the api_key provider gave no key within the {self.total:g} s for the whole call"
        )
        late.__cause__ = self._last
        return self._final(late, StoppedBy.DEADLINE)

    async def _sent(self, permit: Permit, key: ApiKey) -> Brought:
        """Carry an attempt out, within its time and the call's.

        A probe's time is short, and costs the call nothing.
        """
        loop = self.line.loop
        started = loop.time()
        attempt = Attempt(
            call_id=self.call_id,
            key=key,
            scope=self.scope,
            most=min(self.most, PROBE_TIMEOUT) if permit.probe else self.most,
            total=self.total,
            left=self._left(started),
            number=self.attempts,
            # What brought another id's record may be a connection that lags one answer behind.
            fresh=isinstance(self._last, MismatchedCallError),
            serial=self.serial,
            waited=0.0 if self._parked is None else permit.at - self._parked,
        )
        brought = await carry_out(self.line, attempt, permit)
        self.attempts = attempt.number
        if not permit.probe:
            self._spent += loop.time() - started
        return brought

    async def _weighed(self, brought: Brought, key: ApiKey, *, probe: bool = False) -> Verdict:
        """The verdict on what an attempt brought."""
        self.key = key
        if brought is None:
            return Fail(error=self._called_off())
        if isinstance(brought, Done):
            self.scope.answered()
            return brought
        if isinstance(brought.error, DeadlineExceededError):
            brought.error.__cause__ = self._last
        verdict = await self._judge(brought, key, probe=probe)
        self._report(brought, verdict)
        return verdict

    async def _judge(self, fault: Fault, key: ApiKey, *, probe: bool) -> RetryIn | Fail:
        """Count a failed attempt, and ask what comes of the call."""
        error = fault.error
        self._owes = self._paid = None
        try:
            renewed = await self._renewed(error, key)
        except CallsError as exc:
            return Fail(error=self._final(exc, exc.stopped_by or StoppedBy.KEY_REFUSED))
        if probe:
            self._probes += 1
        elif isinstance(error, RateLimitedError):
            self._throttled += 1
        elif not renewed:
            self._transient += 1
        opinion = NO_OPINION
        if self.strategies is not None:
            opinion = await self.strategies.opinion(error, self.attempts)
        now = self.line.loop.time()
        progress = Progress(
            call_id=self.call_id,
            attempts=self.attempts,
            transient=self._transient,
            throttled=self._throttled,
            probes=self._probes,
            elapsed=now - self.began,
            left=self._left(now),
            in_batch=self.scope.in_batch,
            mismatched=self._mismatched,
            key_renewed=renewed,
        )
        verdict = judge(
            fault,
            progress,
            self.policy,
            rnd=random.random(),  # noqa: S311 (jitter is no secret)
            opinion=opinion,
        )
        self._mismatched |= isinstance(error, MismatchedCallError)
        self._last = verdict.error
        if not isinstance(verdict, RetryIn):
            return verdict
        if probe:
            # The outage spaces its probes, and the gate knows of any silence that was asked for.
            return attrs.evolve(verdict, delay=0.0, counted=0.0)
        self._spent += verdict.counted
        if self.strategies is not None:
            self.strategies.slept(verdict.delay)
        # A new key is no retry: the server has not failed.
        return verdict if renewed else self._charged(verdict)

    async def _renewed(self, error: CallsError, key: ApiKey) -> bool:
        """Whether the key was refused and there is another by now."""
        if not isinstance(error, AuthenticationError) or self._is_stopped():
            return False
        return await self._asked(self.credentials.renewed(key)) is not None

    def _charged(self, verdict: RetryIn) -> RetryIn | Fail:
        """A single call pays for its retry at once, or has none; a batch's when it is admitted."""
        throttled = isinstance(verdict.error, RateLimitedError)
        if self.scope.in_batch:
            self._owes = throttled
            return verdict
        self._paid = self.line.throttle.budget.take(throttled=throttled)
        if self._paid is not None:
            return verdict
        return Fail(error=self._final(verdict.error, StoppedBy.BUDGET), cool_down=verdict.cool_down)

    def _tell_of_wait(self, reason: WaitReason) -> None:
        """Tell the hooks that the next request cannot be sent yet."""
        line = self.line
        self._parked = line.loop.time()
        if line.tell is not None:
            line.tell(
                events.CallParked(
                    at=self._parked, call_id=self.call_id, reason=reason, serial=self.serial
                )
            )

    def _report(self, fault: Fault, verdict: RetryIn | Fail) -> None:
        """Tell the batch and the hooks what comes of a failed attempt."""
        line, error = self.line, verdict.error
        if fault.status is None or error.retryable:
            self.scope.failed(error, verdict.cool_down)
        else:
            self.scope.answered()
        line.counters.throttled += isinstance(error, RateLimitedError)
        if line.tell is not None and isinstance(verdict, RetryIn):
            line.tell(
                events.RetryScheduled(
                    at=line.loop.time(),
                    call_id=self.call_id,
                    attempt=self.attempts,
                    delay=verdict.delay,
                    error=error,
                    serial=self.serial,
                )
            )

    def _is_stopped(self) -> bool:
        return self.scope.stopped is not None

    def _deadline(self) -> float | None:
        """When waiting is no use any more; a batch's waits are bounded by its patience instead."""
        return None if self.scope.in_batch else self.began + self.total

    def _left(self, now: float) -> float:
        """Seconds of the call's time that are left."""
        return self.total - (self._spent if self.scope.in_batch else now - self.began)

    def _called_off(self) -> CallsError:
        """Why there is no further attempt, when it was not the verdict that said so."""
        stopped, last = self.scope.stopped, self._last
        if stopped is None:
            return self._final(last or self._parked_too_long(), StoppedBy.DEADLINE)
        if last is not None and stopped.stopped_by is StoppedBy.PATIENCE:
            return self._final(last, StoppedBy.PATIENCE)
        return self._final(stopped, stopped.stopped_by)

    def _parked_too_long(self) -> DeadlineExceededError:
        error = DeadlineExceededError(f"not sent within the {self.total:g} s for the whole call")
        if closed_for := self.line.throttle.closed_for():
            error.add_note(
                f"The server asked for silence; it may be asked again in {closed_for:.1f} s."
            )
        if (unpaced := self.line.throttle.unpaced) is not None:
            error.add_note(f"The fleet's pace gives no slots: {unpaced.message}.")
        return error

    def _final(self, error: CallsError, stopped_by: StoppedBy | None) -> CallsError:
        return amended(
            error,
            call_id=self.call_id,
            attempts=self.attempts,
            elapsed=self.line.loop.time() - self.began,
            stopped_by=stopped_by,
        )
