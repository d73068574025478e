"""One id to its outcome; the rule: whatever happens on the way, it is a `Fetched` or a `Failed`.

Nearly all calls of a healthy server go the straight way: nothing to wait for, nobody to tell, and a
record at the first try. It is in one frame, because every coroutine on the way to an answer costs
each time that the answer is waited for. Only who leaves it needs a course.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from calls_async import events
from calls_async._attempt import Attempt, carry_out, late, learnt, noted, outcome_of, read
from calls_async._course import Course
from calls_async._ids import check_call_id
from calls_async._relay import Relay
from calls_async._retry import Strategies, until_settled
from calls_async._throttle import Permit
from calls_async._transport import RelayTransport
from calls_async._verdict import Done
from calls_async.errors import StoppedBy
from calls_async.outcomes import Failed, Outcome

if TYPE_CHECKING:
    from calls_async._attempt import Brought, Line
    from calls_async._credentials import Credentials
    from calls_async._relay import HandOn
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async.config import RetryPolicy, Timeouts
    from calls_async.errors import CallsError
    from calls_async.outcomes import Fetched

_serials: Final = itertools.count(1)
"""The numbers of the calls of which somebody is told."""


class Fetcher:
    """Brings ids to their outcomes, by one policy over shared parts.

    Args:
        line: The way to the server.
        credentials: Where keys come from.
        policy: When a call is tried again.
        timeouts: How long it may take.
    """

    def __init__(
        self, *, line: Line, credentials: Credentials, policy: RetryPolicy, timeouts: Timeouts
    ) -> None:
        self.line = line
        self._credentials = credentials
        self._policy = policy
        self._most, self._total = timeouts.attempt, timeouts.total
        # What the straight way needs of these, at hand.
        self._loop = line.loop
        self._now = line.loop.time
        self._get = line.transport.get
        self._throttle = line.throttle
        self._counters = line.counters
        self._is_plain = line.throttle.hedge is None
        # What relays are run on, where nobody has to be told and no request may have a rival.
        self._transport = (
            line.transport
            if isinstance(line.transport, RelayTransport) and self._is_plain and line.tell is None
            else None
        )

    async def fetch(  # noqa: C901, PLR0912 (in one frame, see above)
        self, call_id: str, index: int, scope: Scope, total: float | None = None
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
        began = self._now()
        if total is None:
            total = self._total
        if (problem := check_call_id(call_id)) is not None:
            return self._failed(call_id, index, problem, 0, began)
        if in_batch := scope.in_batch:  # otherwise nobody takes note
            scope.began()
        try:
            key = self._credentials.held
            throttle = self._throttle
            if key is None or not self._is_plain or not throttle.take(scope):
                return await self._led(call_id, index, scope, began, total)
            # This is `carry_out`, which see, for one request with nobody to tell.
            brought: Brought = None
            try:
                self._counters.requests += 1
                most = self._most
                until = began + most
                if total < most:
                    until = began + total
                task = scope.begin_request(until, self._loop)
                try:
                    came = await self._get(call_id, key)
                except BaseException as exc:
                    if not scope.end_request(task, exc) and not isinstance(exc, TimeoutError):
                        raise
                    if not scope.aborted:
                        brought = read(call_id, key, late(most, total, total))
                else:
                    scope.end_request(task)
                    brought = read(call_id, key, came)
                if type(brought) is Done:
                    elapsed = noted(self.line, scope, brought, began)
                    return outcome_of(call_id, index, brought, 1, elapsed, key)
                learnt(self.line, brought, Permit(began), again=False)
            finally:
                throttle.release()
            course = self._course(call_id, scope, began, total)
            course.begun(1, key, brought)
            return await self._settled(course, index)
        finally:
            if in_batch:
                scope.ended()

    async def relay(
        self, call_id: str, index: int, scope: Scope, hand_on: HandOn
    ) -> Outcome | None:
        """Fetch one call and, while all is ordinary, those behind it.

        Args:
            call_id: A valid id.
            index: The position among the ids given.
            scope: The batch.
            hand_on: Takes a record, and gives what is to be fetched behind it.

        Returns:
            The last outcome; `None` if `hand_on` has taken that too. Only what the caller's own
            code raises is raised.
        """
        key, transport = self._credentials.held, self._transport
        if (
            key is None
            or transport is None
            or check_call_id(call_id) is not None
            or not self._throttle.take(scope)
        ):
            return await self.fetch(call_id, index, scope)
        scope.began()
        try:
            relay = Relay(
                line=self.line,
                credentials=self._credentials,
                scope=scope,
                key=key,
                most=self._most,
                total=self._total,
                hand_on=hand_on,
            )
            try:
                await relay.run(transport, call_id, index)
            finally:
                self._throttle.release()
            if relay.is_over:
                return None if relay.is_handed_on else relay.outcome()
            course = self._course(relay.call_id, scope, relay.began, self._total)
            course.begun(1, key, relay.brought)
            return await self._settled(course, relay.index)
        finally:
            scope.ended()

    async def _led(  # noqa: PLR0917 (nobody else calls it)
        self, call_id: str, index: int, scope: Scope, began: float, total: float, serial: int = 0
    ) -> Outcome:
        """Fetch a call that has to wait, or of whose first attempt somebody is told."""
        key = self._credentials.held
        if key is None or (permit := self._throttle.admit_at_once(scope)) is None:
            return await self._settled(self._course(call_id, scope, began, total, serial), index)
        attempt = Attempt(call_id, key, scope, self._most, total, total, serial=serial)
        brought = await carry_out(self.line, attempt, permit)
        if isinstance(brought, Done):
            scope.answered()
            return self._fetched(call_id, index, brought, attempt.number, began, key)
        course = self._course(call_id, scope, began, total, serial)
        course.begun(attempt.number, key, brought)
        return await self._settled(course, index)

    async def _settled(self, course: Course, index: int) -> Outcome:
        """Follow a course to its outcome."""
        scope, call_id, began = course.scope, course.call_id, course.began
        settled = await until_settled(course.attempt, scope.sleep)
        if isinstance(settled, Done):
            assert course.key is not None  # noqa: S101 (some attempt carried it)
            return self._fetched(call_id, index, settled, course.attempts, began, course.key)
        if settled.error.stopped_by is StoppedBy.KEY_REFUSED:
            scope.refused(settled.error)
        return self._failed(call_id, index, settled.error, course.attempts, began)

    def _course(
        self, call_id: str, scope: Scope, began: float, total: float, serial: int = 0
    ) -> Course:
        return Course(
            line=self.line,
            credentials=self._credentials,
            policy=self._policy,
            strategies=Strategies.of(self._policy),
            scope=scope,
            call_id=call_id,
            began=began,
            most=self._most,
            total=total,
            serial=serial,
        )

    def _fetched(  # noqa: PLR0917 (as `outcome_of` has it)
        self, call_id: str, index: int, done: Done, attempts: int, began: float, key: ApiKey
    ) -> Fetched:
        self._counters.fetched += 1
        return outcome_of(call_id, index, done, attempts, self._now() - began, key)

    def _failed(
        self, call_id: str, index: int, error: CallsError, attempts: int, began: float
    ) -> Failed:
        elapsed = self._now() - began
        failed = Failed(id=call_id, index=index, error=error, attempts=attempts, elapsed=elapsed)
        self._counters.failed += 1
        return failed


class ToldFetcher(Fetcher):
    """Brings ids to their outcomes, and tells the hooks of it from the first moment to the last."""

    async def fetch(
        self, call_id: str, index: int, scope: Scope, total: float | None = None
    ) -> Outcome:
        """See `Fetcher.fetch`."""
        began, tell, serial = self._now(), self.line.tell, next(_serials)
        assert tell is not None  # noqa: S101 (or it would be a plain fetcher)
        if total is None:
            total = self._total
        tell(events.CallStarted(at=began, call_id=call_id, index=index, serial=serial))
        if in_batch := scope.in_batch:
            scope.began()
        try:
            outcome: Outcome
            if (problem := check_call_id(call_id)) is not None:
                outcome = self._failed(call_id, index, problem, 0, began)
            else:
                outcome = await self._led(call_id, index, scope, began, total, serial)
        except BaseException:
            tell(events.CallCancelled(at=self._now(), call_id=call_id, serial=serial))
            raise
        else:
            tell(events.CallFinished(at=self._now(), outcome=outcome, serial=serial))
            return outcome
        finally:
            if in_batch:
                scope.ended()
