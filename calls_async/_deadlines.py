"""Time limits of requests; the rule: one timer for all of them.

Nearly every request is over long before its time is. `asyncio.timeout` makes and cancels a timer
for each, which costs more than all that gate and policies do for a call. Here one timer waits for
the earliest limit that there was, and then for the earliest one that there is.

What a limit ends it ends as `asyncio.timeout` does: the task is cancelled, and a cancellation by
somebody else in the same turn goes on.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

_ENDED: Final = -inf
"""In place of the time of who was ended."""


class Deadlines:
    """The requests in flight of one scope; a task has one at a time."""

    def __init__(self) -> None:
        # When each one's time is over. There is no object for one that ends by itself.
        self._until: dict[asyncio.Task[Any], float] = {}
        self._running = self._until.keys()
        # How often those had been cancelled before who go on after a cancellation: hardly any.
        self._cancelled: dict[asyncio.Task[Any], int] = {}
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(
        self, until: float, loop: asyncio.AbstractEventLoop | None = None
    ) -> asyncio.Task[Any]:
        """Limit what the current task does from now on.

        Args:
            until: When it has to be over, by the event loop's clock.
            loop: The event loop, for who knows it: then it need not be looked for.

        Returns:
            The task, to be handed to `end`, whatever comes.
        """
        task = current_task(loop)
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        if until < self._due:
            self._wake_at(until)
        if before := task.cancelling():
            self._cancelled[task] = before
        self._until[task] = until
        return task

    def renew(self, task: asyncio.Task[Any], until: float) -> None:
        """Give a task whose time is not over more of it.

        Args:
            task: What `begin` gave.
            until: Later than before.
        """
        self._until[task] = until  # the timer comes back for it when it is due for the old time

    def end(self, task: asyncio.Task[Any], exc: BaseException | None = None) -> bool:
        """Note that it is over.

        Args:
            task: What `begin` gave.
            exc: What it raised.

        Returns:
            Whether it was the limit that ended it, and nothing else.
        """
        before = self._cancelled.pop(task, 0) if self._cancelled else 0
        if self._until.pop(task) != _ENDED:
            return False
        return task.uncancel() <= before and isinstance(exc, asyncio.CancelledError)

    def limit(self, until: float) -> Limited:
        """A block of code that has to be over by then, for `with`.

        Args:
            until: When, by the event loop's clock.
        """
        return Limited(self, until)

    def end_all(self) -> None:
        """End everything now, whatever time it has left."""
        self._rest()
        for task in self._running:
            self._end(task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        if self._until[task] != _ENDED:
            self._until[task] = _ENDED
            task.cancel()

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
        for task, until in self._until.items():
            if until <= now:
                self._end(task)
            elif until < self._due:
                self._due = until
        if self._due < inf:
            self._wake_at(self._due)


class Limited:
    """A block of code with a time limit; it raises `TimeoutError` if that ended it.

    Args:
        deadlines: What ends it.
        until: When its time is over, by the event loop's clock.
    """

    __slots__ = ("_deadlines", "_task", "_until")

    def __init__(self, deadlines: Deadlines, until: float) -> None:
        self._deadlines = deadlines
        self._until = until

    def __enter__(self) -> None:
        self._task = self._deadlines.begin(self._until)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._deadlines.end(self._task, exc):
            raise TimeoutError from exc
