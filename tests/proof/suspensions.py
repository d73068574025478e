"""Striking at await points; the rule: each suspension of the work counts, in whichever task it is.

A coroutine can only be interrupted where it waits, and most of a client's waits are in tasks that
its user never sees. So the task factory of the loop counts how often any task of the work is
suspended, and at one of these moments something is done to the work: it is cancelled, or its client
is closed. The work is what is begun inside `Watch.watching`, and all that comes of it; a server in
the same loop is none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

_watched: ContextVar[bool] = ContextVar("watched", default=False)


class Moment(Enum):
    """When at a suspension."""

    BEFORE = "before it waits"
    """What it waits for is not there yet."""
    AFTER = "as it goes on"
    """In the very turn of the loop in which what it waits for has come."""


class Watch:
    """Counts the suspensions of one piece of work, and strikes once.

    Args:
        loop: The loop, whose task factory it becomes.
        number: At which suspension, from 1.
        moment: When at it.
        strike: What is done then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        moment: Moment,
        strike: Callable[[], object],
    ) -> None:
        self._number = number
        self._moment = moment
        self._strike = strike
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.count = 0
        """Suspensions so far."""
        loop.set_task_factory(self._make)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """Tasks of the work that are not done."""
        return {task for task in asyncio.all_tasks() if task in self._tasks or _is_watched(task)}

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """Timers of the work that are still set."""
        loop: Any = asyncio.get_running_loop()
        return [
            timer
            for timer in loop._scheduled
            if not timer.cancelled() and timer._context.get(_watched)
        ]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What is begun in here is part of the work."""
        token = _watched.set(True)
        try:
            yield
        finally:
            _watched.reset(token)

    def counted(self, coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """A coroutine whose suspensions count, for who awaits it without a task of its own."""
        return _Counted(self, coro)

    def stop(self) -> None:
        """Count no further."""
        self._number = 0

    def suspended(self, awaited: Any) -> None:
        """A task of the work waits now."""
        if not self._number:
            return
        self.count += 1
        if self.count != self._number:
            return
        if self._moment is Moment.AFTER and hasattr(awaited, "add_done_callback"):
            # The task's own callback is added after this one, so this one comes before it.
            awaited.add_done_callback(lambda _: self._strike())
        else:
            self._strike()

    def _make(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Any,
        *,
        context: Context | None = None,
        **kw: Any,
    ) -> asyncio.Task[Any]:
        if not (copy_context() if context is None else context).get(_watched):
            return asyncio.Task(coro, loop=loop, context=context, **kw)
        task = asyncio.Task(_Counted(self, coro), loop=loop, context=context, **kw)
        self._tasks.add(task)
        return task


def _is_watched(task: asyncio.Task[Any]) -> bool:
    # aiohttp makes some tasks without the factory. Python 3.11 does not tell, and has none of them.
    get_context = getattr(task, "get_context", None)
    return get_context is not None and bool(get_context().get(_watched))


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that reports each of its suspensions."""

    def __init__(self, watch: Watch, inner: Coroutine[Any, Any, Any]) -> None:
        self._watch = watch
        self._inner = inner

    def send(self, value: Any) -> Any:
        awaited = self._inner.send(value)
        self._watch.suspended(awaited)
        return awaited

    def throw(self, *raised: Any) -> Any:
        awaited = self._inner.throw(*raised)
        self._watch.suspended(awaited)
        return awaited

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)
