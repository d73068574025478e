"""The loop that the sweeps of this folder run in; the rule: it sees what blocks it.

A loop is blocked while it runs the callbacks of one turn, since nothing else can run then. That is
what is measured, less the time in which the machine gave the processor to others: on a busy machine
that is most of it, and says nothing of the code.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.proof.tally import Tally

T = TypeVar("T")

GRACE = 0.001
"""Seconds in which what was sent on loopback has arrived."""
BLOCKED = 0.1
"""Seconds for which a loop must not be blocked."""
SCHEDULE = Path("/proc/thread-self/schedstat")


class WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that keeps the longest time for which it was blocked.

    Args:
        jumps: Whether its clock jumps to the next timer when nothing comes over the sockets, so
            that minutes of silence take no time. All who talk must be in this loop.
    """

    def __init__(self, *, jumps: bool = False) -> None:
        self._skipped = 0.0
        self._watch = _WatchingSelector(self if jumps else None)
        super().__init__(self._watch)

    @property
    def longest(self) -> float:
        """Seconds of the longest turn."""
        return self._watch.longest

    def forget(self) -> None:
        """Begin anew."""
        self._watch.longest = 0.0

    def time(self) -> float:
        """Seconds, those included that were skipped."""
        return super().time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self._skipped += seconds


class _WatchingSelector(selectors.DefaultSelector):
    """Knows when a turn begins and ends: it is asked for events between the turns."""

    def __init__(self, skips: WatchedLoop | None) -> None:
        super().__init__()
        self.longest = 0.0
        self._skips = skips
        self._schedule = SCHEDULE.open("rb", buffering=0) if SCHEDULE.exists() else None
        self._began: float | None = None
        self._waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._began is not None:
            took = time.monotonic() - self._began
            if took > self.longest:
                self.longest = max(self.longest, took - (self._waited_so_far() - self._waited))
        if self._skips is None or timeout == 0:
            events = super().select(timeout)
        else:
            events = super().select(GRACE if timeout is None else min(timeout, GRACE))
            if not events and timeout is not None and timeout > GRACE:
                self._skips.skip(timeout - GRACE)
        self._waited = self._waited_so_far()
        self._began = time.monotonic()
        return events

    def close(self) -> None:
        if self._schedule is not None:
            self._schedule.close()
            self._schedule = None
        super().close()

    def _waited_so_far(self) -> float:
        """Seconds in which this thread would have run, had the machine let it; 0 if unknown."""
        if self._schedule is None:
            return 0.0
        self._schedule.seek(0)
        return int(self._schedule.read().split()[1]) / 1e9


def run_watched(main: Coroutine[object, object, T], *, jumps: bool = False) -> T:
    """Run a coroutine to its end in a `WatchedLoop`."""
    with asyncio.Runner(loop_factory=lambda: WatchedLoop(jumps=jumps)) as runner:
        return runner.run(main)


def watched() -> WatchedLoop:
    """The running loop, which must be one that watches."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WatchedLoop)
    return loop


def blocked(tally: Tally, case: str, seconds: float, *, short: bool) -> None:
    """Keep a loop's longest turn; only a full sweep says that it is too long, no test does."""
    tally.measured("longest turn of the loop, ms", seconds * 1000)
    if seconds > BLOCKED and not short:
        tally.found(case, "hangs", f"the loop was blocked for {seconds * 1000:.0f} ms")
