"""One id to its outcome; the rule: whatever happens on the way, it is a `Fetched` or a `Failed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from calls_async import events
from calls_async._course import Course
from calls_async._ids import check_call_id
from calls_async._retry import Strategies, until_settled
from calls_async._verdict import Done, Fail
from calls_async.errors import StoppedBy
from calls_async.outcomes import Failed, Fetched, Outcome

if TYPE_CHECKING:
    from calls_async._attempt import Line
    from calls_async._credentials import Credentials
    from calls_async._scope import Scope
    from calls_async.config import RetryPolicy, Timeouts


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
        course = Course(
            line=line,
            credentials=self.credentials,
            policy=self.policy,
            strategies=Strategies.of(self.policy),
            scope=scope,
            call_id=call_id,
            began=line.loop.time(),
            most=self.timeouts.attempt,
            total=self.timeouts.total if total is None else total,
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
        if line.tell:
            line.tell(events.CallFinished(at=line.loop.time(), outcome=outcome))
        return outcome

    def _outcome(self, course: Course, index: int, settled: Done | Fail) -> Outcome:
        counters = self.line.counters
        elapsed = self.line.loop.time() - course.began
        if isinstance(settled, Done):
            counters.fetched += 1
            return Fetched(
                id=course.call_id,
                index=index,
                call=settled.call,
                raw=settled.raw,
                attempts=course.attempts,
                elapsed=elapsed,
                request_id=settled.request_id,
            )
        counters.failed += 1
        if settled.error.stopped_by is StoppedBy.KEY_REFUSED:
            course.scope.refused(settled.error)
        return Failed(
            id=course.call_id,
            index=index,
            error=settled.error,
            attempts=course.attempts,
            elapsed=elapsed,
        )
