"""One id to its outcome; the rule: whatever happens on the way, it is a `Fetched` or a `Failed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from calls_async import events
from calls_async._attempt import Attempt, carry_out
from calls_async._course import Course
from calls_async._ids import check_call_id
from calls_async._retry import Strategies, until_settled
from calls_async._verdict import Done
from calls_async.errors import StoppedBy
from calls_async.outcomes import Failed, Fetched, Outcome

if TYPE_CHECKING:
    from calls_async._attempt import Line
    from calls_async._credentials import Credentials
    from calls_async._scope import Scope
    from calls_async._telling import Teller
    from calls_async.config import RetryPolicy, Timeouts
    from calls_async.errors import CallsError


@attrs.frozen(kw_only=True)
class Fetcher:
    """Brings ids to their outcomes, by one policy over shared parts."""

    line: Line
    credentials: Credentials
    policy: RetryPolicy
    timeouts: Timeouts

    async def fetch(
        self, call_id: str, *, index: int = 0, scope: Scope, total: float | None = None
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
        line = self.line
        began = line.loop.time()
        if total is None:
            total = self.timeouts.total
        if (problem := check_call_id(call_id)) is not None:
            return self._failed(call_id, index, problem, 0, began)
        scope.began()
        try:
            # The straight way, which nearly all calls of a healthy server go: nothing to wait for,
            # and a record at the first try. Only who leaves it needs a course.
            key = self.credentials.held
            if key is None or (permit := line.throttle.admit_at_once(scope)) is None:
                course = self._course(call_id, scope, began, total)
            else:
                attempt = Attempt(call_id, key, scope, self.timeouts.attempt, total, total)
                brought = await carry_out(line, attempt, permit)
                if isinstance(brought, Done):
                    scope.answered()
                    return self._fetched(call_id, index, brought, attempt.number, began)
                course = self._course(call_id, scope, began, total)
                course.begun(attempt, brought)
            settled = await until_settled(course.attempt, scope.sleep)
        finally:
            scope.ended()
        if isinstance(settled, Done):
            return self._fetched(call_id, index, settled, course.attempts, began)
        if settled.error.stopped_by is StoppedBy.KEY_REFUSED:
            scope.refused(settled.error)
        return self._failed(call_id, index, settled.error, course.attempts, began)

    def _course(self, call_id: str, scope: Scope, began: float, total: float) -> Course:
        return Course(
            line=self.line,
            credentials=self.credentials,
            policy=self.policy,
            strategies=Strategies.of(self.policy),
            scope=scope,
            call_id=call_id,
            began=began,
            most=self.timeouts.attempt,
            total=total,
        )

    def _fetched(
        self, call_id: str, index: int, done: Done, attempts: int, began: float
    ) -> Fetched:
        line = self.line
        line.counters.fetched += 1
        fetched = Fetched(
            id=call_id,
            index=index,
            call=done.call,
            raw=done.raw,
            attempts=attempts,
            elapsed=line.loop.time() - began,
            request_id=done.request_id,
        )
        if line.tell is not None:
            self._tell(line.tell, fetched)
        return fetched

    def _failed(
        self, call_id: str, index: int, error: CallsError, attempts: int, began: float
    ) -> Failed:
        line = self.line
        line.counters.failed += 1
        elapsed = line.loop.time() - began
        failed = Failed(id=call_id, index=index, error=error, attempts=attempts, elapsed=elapsed)
        if line.tell is not None:
            self._tell(line.tell, failed)
        return failed

    def _tell(self, tell: Teller, outcome: Outcome) -> None:
        tell(events.CallFinished(at=self.line.loop.time(), outcome=outcome))
