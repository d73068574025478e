"""The live view of a terminal; the rule: nothing jumps, wraps or flickers, and colour adds nothing.

What it shows has the same lines all the time; only families of errors are added below when they
come. Whatever a colour says is there in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from calls_async.cli._terminal import foreign
from calls_async.cli._words import per_second

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from calls_async.cli._glance import Glance, Trouble

_STEPS: Final = "▁▂▃▄▅▆▇█"
_ASCII_STEPS: Final = ".:-=+*%#"
"""For terminals that have no blocks."""
_FAMILIES: Final = 3
"""Families of errors that are shown, the latest first."""
_GATE_STYLES: Final = {"open": "green", "paced": "green", "outage": "red"}


class LiveView:
    """A picture of the job that is drawn in place, and is gone at the end."""

    period = 0.125

    def __init__(self, console: Console) -> None:
        self._console = console
        # Without a thread of its own: what it shows belongs to the event loop. A terminal that is
        # too low shows the upper lines.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, glance: Glance) -> None:
        """Draw it anew, in one write: so nobody sees it half drawn."""
        self._live.update(
            picture(glance, width=self._console.width, ascii_only=self._console.options.ascii_only),
            refresh=True,
        )

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


def picture(glance: Glance, *, width: int, ascii_only: bool = False) -> Group:
    """The job in a few lines that fit any width."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True, min_width=7)
    lines.add_column(no_wrap=True, overflow="ellipsis")
    lines.add_row("calls/s", _speed(glance, max(10, min(60, width - 20)), ascii_only=ascii_only))
    lines.add_row("latency", _row(glance.latency_told, f"{glance.client.in_flight} in flight"))
    lines.add_row("calls", _counts(glance))
    style = _GATE_STYLES.get(glance.gate_state, "yellow")
    lines.add_row("gate", _row((glance.gate, style), *_waiting(glance)))
    for trouble in glance.troubles[:_FAMILIES]:
        lines.add_row("errors" if trouble is glance.troubles[0] else "", _trouble(trouble))
    return Group(_bar(glance), lines)


def _bar(glance: Glance) -> Table:
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    for _ in range(2):
        bar.add_column(justify="right", no_wrap=True)
    so_far = " so far" if glance.reading else ""
    bar.add_row(
        ProgressBar(total=max(1, glance.asked), completed=glance.done),
        f"{glance.done:,} of {glance.asked:,}{so_far}",
        glance.time_left,
    )
    return bar


def _speed(glance: Glance, columns: int, *, ascii_only: bool) -> Text:
    drawn = sparkline(glance.history[-columns:], _ASCII_STEPS if ascii_only else _STEPS)
    return Text.assemble((drawn, "cyan"), " " if drawn else "", (per_second(glance.speed), "bold"))


def sparkline(history: Sequence[int], steps: str) -> str:
    """A column for each number, up to the highest; the lowest step is for none."""
    top = max(history, default=0) or 1
    return "".join(steps[number * (len(steps) - 1) // top] for number in history)


def _counts(glance: Glance) -> Text:
    return _row(
        f"{glance.fetched:,} fetched",
        (f"{glance.failed:,} failed", "red" if glance.failed else ""),
        f"{glance.client.retries:,} retries",
        f"{glance.client.throttled:,} throttled",
    )


def _waiting(glance: Glance) -> list[str]:
    waiting = glance.client.waiting
    return [f"{waiting:,} waiting"] if waiting and not glance.stopping else []


def _trouble(trouble: Trouble) -> Text:
    both = ((trouble.failed, "failed"), (trouble.retried, "retried"))
    counts = [f"{number:,} {what}" for number, what in both if number]
    told = Text.assemble(
        (trouble.family, "red" if trouble.failed else "yellow"), f" {', '.join(counts)}: "
    )
    return told.append_text(foreign(trouble.last, style="dim"))


def _row(*parts: str | tuple[str, str]) -> Text:
    """The parts on one line, with dots between them."""
    return Text(" · ").join(Text.assemble(part) for part in parts)
