"""Watching a job; the rule: what events tell is measured in bounded memory, and nobody is asked.

A watch is a hook of the client. A view is shown what it has seen, every so often.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from calls_async import (
    AttemptFinished,
    AttemptStarted,
    CallFinished,
    Failed,
    RateLimitedError,
    RetryScheduled,
)
from calls_async.cli._glance import Glance, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from calls_async import CallsClient, CallsError, Event, Outcome, Statistics
    from calls_async.cli._view import View

_WINDOW: Final = 10.0
"""Seconds back that speed and latency are measured over."""
_REQUESTS: Final = 1_000
"""Requests at most that the latency is taken from: it is sorted for each glance."""
_HISTORY: Final = 60
"""Seconds of the history of the speed."""


class Watch:
    """What can be seen of a job.

    Attributes:
        asked: Ids that there are to fetch.
        reading: Whether more ids may come.
        fetched: Ids with their record.
        failed: Ids that failed for good.
        stopping: Whether only what is in flight is still finished.
        on_the_wire: The ids that are asked for at this moment, and since when.
    """

    def __init__(self, *, asked: int = 0, given_rate: float | None = None) -> None:
        self.asked = asked
        self.reading = False
        self.fetched = 0
        self.failed = 0
        self.stopping = False
        self.on_the_wire: dict[str, float] = {}
        self._given_rate = given_rate
        self._speed = Speed()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_REQUESTS)
        self._troubles: dict[str, Trouble] = {}
        self._throttled_by: int | None = None

    def __call__(self, event: Event) -> None:
        """A hook."""
        match event:
            case AttemptStarted():
                self.on_the_wire[event.call_id] = event.at
            case AttemptFinished():
                self.on_the_wire.pop(event.call_id, None)
                if event.status is not None:
                    self._latencies.append((event.at, event.duration))
                if isinstance(event.error, RateLimitedError) or event.status == 503:
                    self._throttled_by = event.status
            case CallFinished():
                self.on_the_wire.pop(event.outcome.id, None)
                self._speed.ended(event.at)
            case RetryScheduled(error=error):
                self._note(error, retried=1)
            case _:
                pass

    def take(self, outcome: Outcome) -> None:
        """Note the final outcome of an id."""
        if isinstance(outcome, Failed):
            self.failed += 1
            self._note(outcome.error, failed=1)
        else:
            self.fetched += 1

    def glance(self, now: float, client: Statistics) -> Glance:
        """The job as it is now."""
        return Glance(
            at=now,
            asked=max(self.asked, self.fetched + self.failed),
            reading=self.reading,
            fetched=self.fetched,
            failed=self.failed,
            speed=self._speed.over(now),
            history=self._speed.history(now),
            latency=self._latency(now),
            troubles=tuple(reversed(self._troubles.values())),
            throttled_by=self._throttled_by,
            given_rate=self._given_rate,
            stopping=self.stopping,
            client=client,
        )

    def _note(self, error: CallsError, *, failed: int = 0, retried: int = 0) -> None:
        family = type(error).__name__
        old = self._troubles.pop(family, None)  # so that the latest is the last
        if old is not None:
            failed, retried = old.failed + failed, old.retried + retried
        self._troubles[family] = Trouble(
            family=family, failed=failed, retried=retried, last=error.message
        )

    def _latency(self, now: float) -> tuple[float, float] | None:
        recent = sorted(took for at, took in self._latencies if at > now - _WINDOW)
        if not recent:
            return None
        return recent[len(recent) // 2], recent[len(recent) * 95 // 100]


class Speed:
    """How many calls ended in each of the last seconds."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_HISTORY + 1)
        self._began: float | None = None

    def ended(self, at: float) -> None:
        """Note that a call ended."""
        if self._began is None:
            self._began = at
        second = int(at)
        if self._seconds and self._seconds[-1][0] == second:
            second, number = self._seconds.pop()
            self._seconds.append((second, number + 1))
        else:
            self._seconds.append((second, 1))

    def over(self, now: float) -> float:
        """Calls per second over the last few whole seconds and the one that runs."""
        since = int(now) - int(_WINDOW)
        number = sum(number for second, number in self._seconds if second >= since)
        # Not less than a second, or the first call would be a speed of thousands.
        began = since if self._began is None else max(since, self._began)
        return number / max(1.0, now - began)

    def history(self, now: float) -> tuple[int, ...]:
        """Calls in each of the last whole seconds, the oldest first."""
        counted = dict(self._seconds)
        if self._began is None:
            return ()
        until = int(now)
        return tuple(
            counted.get(s, 0) for s in range(max(int(self._began), until - _HISTORY), until)
        )


@asynccontextmanager
async def watching(
    view: View, watch: Watch, client: CallsClient
) -> AsyncGenerator[Callable[[], None], None]:
    """Show what the watch sees of the client until the block is left; call it to show it now."""
    clock = asyncio.get_running_loop().time
    now = asyncio.Event()

    async def show() -> None:
        while True:
            view.show(watch.glance(clock(), client.statistics()))
            now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(view.period):
                    await now.wait()

    with view:
        watcher = asyncio.create_task(show())
        try:
            yield now.set
        finally:
            watcher.cancel()
            # A view that could not print (its pipe is closed, say) is no reason to lose the work.
            await asyncio.gather(watcher, return_exceptions=True)
