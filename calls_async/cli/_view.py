"""How a job is shown while it runs; the rule: standard error decides, a log file gets no bar.

A view is shown what there is every `period` seconds. It asks nobody, and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.console import Console

from calls_async.cli._live import LiveView
from calls_async.cli._words import per_second

if TYPE_CHECKING:
    from types import TracebackType

    from calls_async.cli._glance import Glance
    from calls_async.cli._talk import Talk

_EVERY: Final = 10.0
"""Seconds between two lines of a job in which nothing changes but its numbers."""
_LONG: Final = 5.0
"""Seconds of silence that are worth a line of their own."""


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


class LineView:
    """A line at the start, every ten seconds, and when the job begins or ends to wait."""

    period = 0.5

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._due = float("-inf")
        self._state: str | None = None

    def show(self, glance: Glance) -> None:
        """Say it on one line, if it is time to or if something changed."""
        state = _notable(glance)
        if glance.at < self._due and state == self._state:
            return
        self._due, self._state = glance.at + _EVERY, state
        self._talk.tell("progress", line(glance), **members(glance))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def _notable(glance: Glance) -> str:
    """What is told at once when it changes. Most cool-downs are too short to be news."""
    if glance.gate_state == "cool-down" and glance.client.cool_down < _LONG:
        return "open"
    return "open" if glance.gate_state == "paced" else glance.gate_state


def line(glance: Glance) -> str:
    """The job on one line."""
    return (
        f"{glance.done:,} of {glance.asked:,} done, {glance.failed:,} failed, "
        f"{per_second(glance.speed)}, {glance.time_left}, {glance.gate}"
    )


def members(glance: Glance) -> dict[str, object]:
    """The members of a line of JSON; they are documented in the reference of the command line."""
    client = glance.client
    half, most = glance.latency or (None, None)
    return {
        "asked": glance.asked,
        "done": glance.done,
        "fetched": glance.fetched,
        "failed": glance.failed,
        "failedBy": {t.family: t.failed for t in glance.troubles if t.failed},
        "callsPerSecond": _rounded(glance.speed),
        "secondsLeft": _rounded(glance.seconds_left),
        "latencyP50": _rounded(half),
        "latencyP95": _rounded(most),
        "inFlight": client.in_flight,
        "waiting": client.waiting,
        "requests": client.requests,
        "retries": client.retries,
        "throttled": client.throttled,
        "gate": glance.gate_state,
        "coolDown": _rounded(client.cool_down),
        "pace": _rounded(client.pace),
        "outage": _rounded(client.outage),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def choose_view(talk: Talk) -> View:
    """The view for what standard error is, and for how the user wants to be talked to."""
    console = Console(stderr=True)
    # rich may be told by FORCE_COLOR to take a log file for a terminal; the bar is not for one.
    if talk.for_people and console.is_interactive and console.file.isatty():
        return LiveView(console)
    return LineView(talk)
