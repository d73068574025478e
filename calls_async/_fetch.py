"""One id to its outcome; the rule: [gate → permit → timeout → request → verdict], repeated as told.

The permit and the answer are given back before any sleep, so a call that waits keeps nobody from
working. The parts are handed in; this room only walks from one to the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from math import inf
from typing import TYPE_CHECKING, TypeVar

import attrs

from calls_async import events
from calls_async._ids import check_call_id
from calls_async._outage import PROBE_TIMEOUT
from calls_async._retry import Strategies, until_settled
from calls_async._verdict import (
    NO_OPINION,
    Done,
    Fail,
    Fault,
    Progress,
    RetryIn,
    Verdict,
    assess,
    judge,
)
from calls_async.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    CallsError,
    ConnectError,
    DeadlineExceededError,
    MismatchedCallError,
    RateLimitedError,
    StoppedBy,
    TLSError,
    amended,
)
from calls_async.outcomes import Failed, Fetched, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from calls_async._credentials import Credentials
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._throttle import Throttle
    from calls_async._transport import Transport
    from calls_async._wire import Answer
    from calls_async.config import RetryPolicy, Timeouts
    from calls_async.events import Event, Hook

_log = logging.getLogger("calls_async")

K = TypeVar("K")


@attrs.define
class Counters:
    """What a client has done so far; see `Statistics` for their base."""

    fetched: int = 0
    failed: int = 0
    requests: int = 0
    retries: int = 0
    throttled: int = 0


@attrs.frozen(kw_only=True)
class Fetcher:
    """Brings ids to their outcomes, by one policy over shared parts."""

    transport: Transport
    throttle: Throttle
    credentials: Credentials
    counters: Counters
    policy: RetryPolicy
    timeouts: Timeouts
    hooks: tuple[Hook, ...]
    loop: asyncio.AbstractEventLoop

    async def fetch(
        self,
        call_id: str,
        *,
        index: int = 0,
        scope: Scope,
        total: float | None = None,
    ) -> Outcome:
        """Fetch one call.

        Args:
            call_id: A valid id.
            index: The position among the ids given.
            scope: What the call is part of, and is called off with.
            total: Seconds for the call, in place of the policy's. In a batch, waits at the gate are
                free, because the batch's patience bounds them.

        Returns:
            The outcome. Only what the caller's own strategies raise is raised.
        """
        course = _Course(
            fetcher=self,
            call_id=call_id,
            scope=scope,
            began=self.loop.time(),
            total=self.timeouts.total if total is None else total,
            strategies=Strategies.of(self.policy),
        )
        if (problem := check_call_id(call_id)) is not None:
            settled: Done | Fail = Fail(error=problem)
        else:
            scope.began()
            try:
                settled = await until_settled(course.attempt, scope.sleep)
            finally:
                scope.ended()
        outcome = self._outcome(course, index, settled)
        if self.hooks:
            self.tell(events.CallFinished(at=self.loop.time(), outcome=outcome))
        return outcome

    def _outcome(self, course: _Course, index: int, settled: Done | Fail) -> Outcome:
        elapsed = self.loop.time() - course.began
        if isinstance(settled, Done):
            self.counters.fetched += 1
            self.throttle.budget.refund(course.paid)
            return Fetched(
                id=course.call_id,
                index=index,
                call=settled.call,
                raw=settled.raw,
                attempts=course.attempts,
                elapsed=elapsed,
                request_id=settled.request_id,
            )
        self.counters.failed += 1
        if settled.error.stopped_by is StoppedBy.KEY_REFUSED:
            course.scope.refused(settled.error)
        return Failed(
            id=course.call_id,
            index=index,
            error=settled.error,
            attempts=course.attempts,
            elapsed=elapsed,
        )

    def tell(self, event: Event) -> None:
        """Call the hooks; one that raises is logged, and breaks nothing."""
        for hook in self.hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 (the rule of events: a hook breaks nothing)
                _log.exception("a hook of calls_async raised on %s", type(event).__name__)


@attrs.define(kw_only=True)
class _Course:
    """One call on its way: what it has spent, and what it has met with."""

    fetcher: Fetcher
    call_id: str
    scope: Scope
    began: float
    total: float
    strategies: Strategies | None
    attempts: int = 0
    transient: int = 0
    throttled: int = 0
    probes: int = 0
    spent: float = 0.0
    mismatched: bool = False
    last: CallsError | None = None
    paid: int | None = None
    _owes: bool = False
    _took: float = 0.0

    async def attempt(self) -> Verdict:
        """One attempt, from the gate to the verdict."""
        fetcher = self.fetcher
        if self._is_stopped():
            return Fail(error=self._called_off())
        try:
            key = fetcher.credentials.held
            if key is None:
                key = await self._asked(fetcher.credentials.current())
        except CallsError as exc:
            return Fail(error=self._final(exc, exc.stopped_by or StoppedBy.KEY_REFUSED))
        throttle = fetcher.throttle
        if not (await self._pay() and await throttle.admit(self.scope, self._deadline())):
            return Fail(error=self._called_off())
        # Others may have been refused this key while the call was parked.
        key = fetcher.credentials.held or key
        probe = self.scope.in_batch and throttle.holding
        started = fetcher.loop.time()
        try:
            came = await self._exchange(key, started, probe=probe)
            if came is None:
                return Fail(error=self._called_off())
            found = assess(self.call_id, came, now=time.time(), scrub=key.scrub)
            status = None if isinstance(came, CallsError) else came.status
            changes = throttle.learn(found, status=status, started=started, probe=probe)
        finally:
            throttle.release()
        if isinstance(found, Done):
            verdict: Verdict = found
        else:
            verdict = await self._judge(found, key, probe=probe)
        self._report(came, verdict, changes)
        return verdict

    async def _pay(self) -> bool:
        """Wait until a batch's retry is paid for; whether there is still a reason to send it."""
        if not self._owes:
            return True
        budget, loop = self.fetcher.throttle.budget, self.fetcher.loop
        throttled = isinstance(self.last, RateLimitedError)
        while (paid := budget.grant(loop.time(), throttled=throttled)) is None:
            if not await self.scope.sleep(budget.next_grant - loop.time()):
                return False
        self.paid, self._owes = paid, False
        return True

    async def _asked(self, question: Awaitable[K]) -> K:
        """What the caller's key provider answers, within the call's time."""
        now = self.fetcher.loop.time()
        try:
            async with asyncio.timeout_at(now + self._left(now)) as timeout:
                with self.scope.pull(timeout):
                    return await question
        except TimeoutError:
            raise self._unanswered() from None

    def _unanswered(self) -> CallsError:
        if self._is_stopped():
            return self._called_off()
        late = DeadlineExceededError(
            f"the api_key provider gave no key within the {self.total:g} s for the whole call"
        )
        late.__cause__ = self.last
        return self._final(late, StoppedBy.DEADLINE)

    async def _exchange(
        self, key: ApiKey, started: float, *, probe: bool
    ) -> Answer | CallsError | None:
        """Send one request and read its answer, within the attempt's time and the call's.

        Args:
            key: The key that it carries.
            started: The time, by the event loop's clock.
            probe: Whether it is an outage's probe, whose time is short and costs the call nothing.

        Returns:
            The answer, or what kept it from arriving; `None` if the scope ended it.
        """
        fetcher, counters = self.fetcher, self.fetcher.counters
        left = self._left(started)
        most = min(fetcher.timeouts.attempt, PROBE_TIMEOUT if probe else inf)
        self.attempts += 1
        counters.requests += 1
        counters.retries += self.attempts > 1
        if fetcher.hooks:
            fetcher.tell(
                events.AttemptStarted(at=started, call_id=self.call_id, attempt=self.attempts)
            )
        # What brought another id's record may be a connection that lags one answer behind.
        fresh = isinstance(self.last, MismatchedCallError)
        came: Answer | CallsError | None
        try:
            async with asyncio.timeout_at(started + min(most, left)) as timeout:
                with self.scope.request(timeout):
                    came = await fetcher.transport.get(self.call_id, key, fresh=fresh)
        except TimeoutError:
            came = None if self.scope.aborted else self._timed_out(most, left)
        if isinstance(came, ConnectError | TLSError):
            # It never got as far as the wire.
            counters.requests -= 1
            counters.retries -= self.attempts > 1
        self._took = fetcher.loop.time() - started
        if not probe:
            self.spent += self._took
        return came

    def _timed_out(self, most: float, left: float) -> CallsError:
        if left > most:
            return AttemptTimeoutError(f"no complete answer within {most:g} s")
        error = DeadlineExceededError(f"no record within the {self.total:g} s for the whole call")
        error.__cause__ = self.last
        return error

    async def _judge(self, fault: Fault, key: ApiKey, *, probe: bool) -> RetryIn | Fail:
        """Count a failed attempt, and ask what comes of the call."""
        error = fault.error
        try:
            renewed = await self._renewed(error, key)
        except CallsError as exc:
            return Fail(error=self._final(exc, exc.stopped_by or StoppedBy.KEY_REFUSED))
        if probe:
            self.probes += 1
        elif isinstance(error, RateLimitedError):
            self.throttled += 1
        elif not renewed:
            self.transient += 1
        opinion = NO_OPINION
        if self.strategies is not None:
            opinion = await self.strategies.opinion(error, self.attempts)
        now = self.fetcher.loop.time()
        progress = Progress(
            call_id=self.call_id,
            attempts=self.attempts,
            transient=self.transient,
            throttled=self.throttled,
            probes=self.probes,
            elapsed=now - self.began,
            left=self._left(now),
            in_batch=self.scope.in_batch,
            mismatched=self.mismatched,
            key_renewed=renewed,
        )
        verdict = judge(
            fault,
            progress,
            self.fetcher.policy,
            rnd=random.random(),  # noqa: S311 (jitter is no secret)
            opinion=opinion,
        )
        self.mismatched |= isinstance(error, MismatchedCallError)
        self.last = verdict.error
        if not isinstance(verdict, RetryIn):
            return verdict
        if probe:
            # The outage spaces its probes, and the gate knows of any silence that was asked for.
            return attrs.evolve(verdict, delay=0.0, backoff=0.0)
        self.spent += verdict.backoff
        if self.strategies is not None:
            self.strategies.slept(verdict.delay)
        # A new key is no retry: the server has not failed.
        return verdict if renewed else self._charged(verdict)

    async def _renewed(self, error: CallsError, key: ApiKey) -> bool:
        """Whether the key was refused and there is another by now."""
        if not isinstance(error, AuthenticationError) or self._is_stopped():
            return False
        return await self._asked(self.fetcher.credentials.renewed(key)) is not None

    def _charged(self, verdict: RetryIn) -> RetryIn | Fail:
        """A single call pays for its retry at once, or has none; a batch's pays before it goes."""
        if self.scope.in_batch:
            self._owes = True
            return verdict
        throttled = isinstance(verdict.error, RateLimitedError)
        self.paid = self.fetcher.throttle.budget.take(throttled=throttled)
        if self.paid is not None:
            return verdict
        return Fail(error=self._final(verdict.error, StoppedBy.BUDGET), cool_down=verdict.cool_down)

    def _report(
        self, came: Answer | CallsError, verdict: Verdict, changes: Iterable[Event]
    ) -> None:
        """Tell the batch and the hooks what the attempt brought, and what it changed."""
        fetcher = self.fetcher
        now = fetcher.loop.time()
        error = None if isinstance(verdict, Done) else verdict.error
        if isinstance(verdict, Done):
            self.scope.answered()
        elif isinstance(came, CallsError) or verdict.error.retryable:
            self.scope.failed(verdict.error, verdict.cool_down)
        else:
            self.scope.answered()
        fetcher.counters.throttled += isinstance(error, RateLimitedError)
        if not fetcher.hooks:
            return
        fetcher.tell(
            events.AttemptFinished(
                at=now,
                call_id=self.call_id,
                attempt=self.attempts,
                duration=self._took,
                status=None if isinstance(came, CallsError) else came.status,
                error=error,
            )
        )
        for change in changes:
            fetcher.tell(change)
        if isinstance(verdict, RetryIn):
            fetcher.tell(
                events.RetryScheduled(
                    at=now,
                    call_id=self.call_id,
                    attempt=self.attempts,
                    delay=verdict.delay,
                    error=verdict.error,
                )
            )

    def _is_stopped(self) -> bool:
        return self.scope.stopped is not None

    def _deadline(self) -> float | None:
        """When waiting is no use any more; a batch's waits are bounded by its patience instead."""
        return None if self.scope.in_batch else self.began + self.total

    def _left(self, now: float) -> float:
        """Seconds of the call's time that are left."""
        return self.total - (self.spent if self.scope.in_batch else now - self.began)

    def _called_off(self) -> CallsError:
        """Why there is no further attempt, when it was not the verdict that said so."""
        stopped, last = self.scope.stopped, self.last
        if stopped is None:
            return self._final(last or self._parked_too_long(), StoppedBy.DEADLINE)
        if last is not None and stopped.stopped_by is StoppedBy.PATIENCE:
            return self._final(last, StoppedBy.PATIENCE)
        return self._final(stopped, stopped.stopped_by)

    def _parked_too_long(self) -> DeadlineExceededError:
        error = DeadlineExceededError(f"not sent within the {self.total:g} s for the whole call")
        if closed_for := self.fetcher.throttle.closed_for():
            error.add_note(
                f"The server asked for silence; it may be asked again in {closed_for:.1f} s."
            )
        return error

    def _final(self, error: CallsError, stopped_by: StoppedBy | None) -> CallsError:
        return amended(
            error,
            call_id=self.call_id,
            attempts=self.attempts,
            elapsed=self.fetcher.loop.time() - self.began,
            stopped_by=stopped_by,
        )
