"""Time that passes only when everybody waits; the rule: no test waits for real.

The loop is asyncio's own with another clock. Whenever it would sleep until its next timer, the
clock jumps there instead. That is for code without sockets and threads: what they bring arrives in
real time, which this loop never lets pass.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["DeadlockError", "VirtualTimeLoop", "run_in_virtual_time"]

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Every task waits, and no timer is set that could wake one of them."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting. It starts at 0.

    Raises:
        DeadlockError: Out of `run_until_complete`, when nothing can happen any more.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Seconds that have passed in this loop."""
        return self._now

    def jump(self, seconds: float | None) -> None:
        """Let so many seconds pass at once; `None`: the loop has no timer to wait for."""
        if seconds is None:
            waiting = len(asyncio.all_tasks(self))
            raise DeadlockError(
                f"nothing can happen any more: no timer is set, and the tasks ({waiting}) wait for "
                "each other or for a socket or thread, which do not work in virtual time"
            )
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for events without waiting, and where there are none, makes the time pass."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout != 0:
            self._loop.jump(timeout)
        return events


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new `VirtualTimeLoop`; hours pass in milliseconds.

    Args:
        main: What `asyncio.run` would be given.

    Returns:
        What the coroutine returns.

    Raises:
        DeadlockError: It waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
