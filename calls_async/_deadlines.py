"""Time limits of requests; the rule: one timer for all of them.

Nearly every request is over long before its time is. `asyncio.timeout` makes and cancels a timer
for each, which costs more than all that gate and policies do for a call. Here one timer waits for
the earliest limit that there was, and then for the earliest one that there is.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Deadlines:
    """The requests in flight of one scope."""

    def __init__(self) -> None:
        self._running: set[Limited] = set()
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, until: float) -> Limited:
        """A block of code that has to be over by then.

        Args:
            until: When, by the event loop's clock.
        """
        if until < self._due:
            self._wake_at(until)
        return Limited(self._running, until)

    def end_all(self) -> None:
        """End every block now, whatever time it has left."""
        self._rest()
        for limited in self._running:
            limited.end()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, inf

    def _wake_at(self, due: float) -> None:
        self._rest()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._sweep)

    def _sweep(self) -> None:
        """End what is over its time, and come back for the next."""
        now = max(self._due, asyncio.get_running_loop().time())
        self._timer, self._due = None, inf
        for limited in self._running:
            if limited.until <= now:
                limited.end()
            elif limited.until < self._due:
                self._due = limited.until
        if self._due < inf:
            self._wake_at(self._due)


class Limited:
    """A block of code with a time limit, for `with`; it raises `TimeoutError` if it was ended.

    It does what `asyncio.timeout` does, and as that does: the task is cancelled, and a cancellation
    by somebody else in the same turn goes on.

    Args:
        running: Where it is listed while it runs.
        until: When its time is over, by the event loop's clock.
    """

    __slots__ = ("_cancelling", "_running", "_task", "ended", "until")

    def __init__(self, running: set[Limited], until: float) -> None:
        self.until = until
        self.ended = False
        self._running = running

    def end(self) -> None:
        """End the block now, whatever time it has left."""
        if not self.ended:
            self.ended = True
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._task = task
        self._cancelling = task.cancelling()
        self._running.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.discard(self)
        if self.ended:
            only_ours = self._task.uncancel() <= self._cancelling
            if only_ours and isinstance(exc, asyncio.CancelledError):
                raise TimeoutError from exc
