"""A job at one moment, in numbers and in words; the rule: all views say the same of it.

What the gate does is told by the strongest reason why requests wait: that the job is ending, that
nobody answers, that the server asked for silence, a pace, or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from calls_async.cli._words import duration, per_second

if TYPE_CHECKING:
    from calls_async import Statistics


@attrs.frozen(kw_only=True)
class Trouble:
    """One family of errors.

    Attributes:
        family: The name of the errors' class.
        failed: Ids that failed for good with one.
        retried: Attempts that ended with one and were followed by another.
        last: What the last one said.
    """

    family: str
    failed: int
    retried: int
    last: str


@attrs.frozen(kw_only=True)
class Glance:
    """A job at one moment.

    Attributes:
        at: When, in seconds by the event loop's clock.
        asked: Ids that there are to fetch, those of earlier runs included.
        reading: Whether more ids may come.
        fetched: Ids with their record.
        failed: Ids that failed for good.
        speed: Calls that ended per second, over the last few seconds.
        history: The same for each of the last seconds, the oldest first.
        latency: Seconds that half of the last requests took at most, and that 95% took at most;
            `None` before the first answer.
        troubles: What went wrong, the latest family first.
        throttled_by: The status of the last answer that asked for fewer requests.
        given_rate: Requests per second at most, as the user wants it.
        stopping: Whether only what is in flight is still finished.
        client: What the client has done and does; it does nothing but this job.
    """

    at: float
    asked: int
    reading: bool = False
    fetched: int
    failed: int
    speed: float
    history: tuple[int, ...] = ()
    latency: tuple[float, float] | None = None
    troubles: tuple[Trouble, ...] = ()
    throttled_by: int | None = None
    given_rate: float | None = None
    stopping: bool = False
    client: Statistics

    @property
    def done(self) -> int:
        """Ids that have their outcome."""
        return self.fetched + self.failed

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this speed; `None` while there is none."""
        return max(0, self.asked - self.done) / self.speed if self.speed else None

    @property
    def gate_state(self) -> str:
        """What the gate does, as one of a few words that do not change."""
        if self.stopping:
            return "stopping"
        if self.client.outage:
            return "outage"
        if self.client.cool_down:
            return "cool-down"
        return "open" if self.client.pace is None else "paced"

    @property
    def gate(self) -> str:
        """What the gate does, and why."""
        client = self.client
        match self.gate_state:
            case "stopping":
                return f"finishing {client.in_flight} in flight; Ctrl-C again stops at once"
            case "outage":
                return f"nobody answers for {duration(client.outage)}: holding, probing"
            case "cool-down":
                return f"cooling down for {_exact(client.cool_down)}{self._why}"
            case _:
                return f"open{self._pace}"

    @property
    def _why(self) -> str:
        answered = self.throttled_by
        return "" if answered is None else f": the server answered {answered}"

    @property
    def _pace(self) -> str:
        pace, given = self.client.pace, self.given_rate
        if pace is None:
            return ""
        whose = "as given" if given is not None and pace >= given else "learnt"
        return f", pace {per_second(pace)} {whose}"

    @property
    def time_left(self) -> str:
        """How long the rest takes, in words."""
        if self.seconds_left is None:
            return "time unknown"
        return f"{duration(max(1.0, self.seconds_left))} left"

    @property
    def latency_told(self) -> str:
        """The latency, in words."""
        if self.latency is None:
            return "no answer yet"
        half, most = (f"{1000 * seconds:,.0f} ms" for seconds in self.latency)
        return f"p50 {half} · p95 {most}"


def _exact(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
