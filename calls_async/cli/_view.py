"""A job while it runs; the rule: a terminal gets a bar, anything else a plain line now and then.

A view is shown what there is every `period` seconds. It asks nobody, and reads no clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, Self

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from calls_async.cli._terminal import talk
from calls_async.cli._words import duration

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from calls_async import CallsClient, Statistics

_WINDOW: Final = 10.0
"""Seconds back that the speed is measured over."""


@attrs.frozen(kw_only=True)
class Glance:
    """A job at one moment.

    Attributes:
        at: When, in seconds by any clock that never goes back.
        total: Ids to fetch.
        client: What the client has done and does; it does nothing but this job.
    """

    at: float
    total: int
    client: Statistics

    @property
    def done(self) -> int:
        """Ids that have their outcome."""
        return self.client.fetched + self.client.failed

    @property
    def gate(self) -> str:
        """What the gate is doing."""
        if self.client.outage:
            return f"nobody answers for {self.client.outage:.0f} s, probing"
        if self.client.cool_down:
            return f"gate cooling down for {self.client.cool_down:.1f} s"
        if self.client.pace is not None:
            return f"gate open, pace {self.client.pace:.3g}/s"
        return "gate open"


class Speed:
    """Outcomes per second, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def over(self, glance: Glance) -> float:
        """The speed up to this glance."""
        self._seen.append((glance.at, glance.done))
        while len(self._seen) > 2 and self._seen[1][0] <= glance.at - _WINDOW:
            self._seen.popleft()
        (since, before), (until, done) = self._seen[0], self._seen[-1]
        return (done - before) / (until - since) if until > since else 0.0


def time_left(glance: Glance, speed: float) -> str:
    """How long the rest takes at this speed."""
    if not speed:
        return "time unknown"
    return f"{duration(max(1.0, (glance.total - glance.done) / speed))} left"


class View(Protocol):
    """What shows a job; it is entered before the first glance."""

    period: float

    def show(self, glance: Glance) -> None:
        """Show the job as it is now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class BarView:
    """A bar that moves, and is gone at the end."""

    period = 0.1

    def __init__(self, console: Console) -> None:
        # Without a thread of its own: what it shows belongs to the event loop.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._speed = Speed()

    def show(self, glance: Glance) -> None:
        """Draw the bar anew."""
        self._live.update(render(glance, self._speed.over(glance)), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


def render(glance: Glance, speed: float) -> Group:
    """The bar, with what belongs to it on a second line."""
    client = glance.client
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    for _ in range(3):
        bar.add_column(justify="right", no_wrap=True)
    bar.add_row(
        ProgressBar(total=glance.total, completed=glance.done),
        f"{glance.done:,} of {glance.total:,}",
        f"{speed:,.0f}/s",
        time_left(glance, speed),
    )
    told = Text.assemble(
        (glance.gate, "yellow" if client.cool_down else "green"),
        f" · {client.fetched:,} fetched · ",
        (f"{client.failed:,} failed", "red" if client.failed else ""),
        f" · {client.in_flight} in flight · {client.retries:,} retried",
        overflow="ellipsis",
        no_wrap=True,
    )
    return Group(bar, told)


class LineView:
    """A line at the start, and one every ten seconds, for log files."""

    period = 10.0

    def __init__(self) -> None:
        self._speed = Speed()

    def show(self, glance: Glance) -> None:
        """Say it on one line."""
        speed = self._speed.over(glance)
        talk(
            f"{glance.done:,} of {glance.total:,} done, {glance.client.failed:,} failed, "
            f"{speed:,.0f}/s, {time_left(glance, speed)}, {glance.gate}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


@asynccontextmanager
async def watching(view: View, client: CallsClient, *, total: int) -> AsyncGenerator[None, None]:
    """Show the client's work on so many ids until the block is left."""
    clock = asyncio.get_running_loop().time

    async def watch() -> None:
        while True:
            view.show(Glance(at=clock(), total=total, client=client.statistics()))
            await asyncio.sleep(view.period)

    with view:
        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            # A view that could not print (its pipe is closed, say) is no reason to lose the work.
            await asyncio.gather(watcher, return_exceptions=True)


def choose_view() -> View:
    """The view for what standard error is."""
    console = Console(stderr=True)
    # rich may be told by FORCE_COLOR to take a log file for a terminal; the bar is not for one.
    if console.is_interactive and console.file.isatty():
        return BarView(console)
    return LineView()
