"""The pace; the rule: starts are at least one interval apart, and unused time buys no burst.

It is the generic cell rate algorithm with a burst of one. Timers wake late, by up to a few
milliseconds; at high rates a late start must not push all later ones back, so a lateness of up to
`SLACK` is made up for: the next start is due as if this one had been in time. A start that is later
than that was not waited for, and the next is due a whole interval after it.
"""

from __future__ import annotations

from typing import Final

SLACK: Final = 0.010
"""Seconds of lateness that the next starts may catch up on."""


class Pace:
    """Spaces starts evenly.

    Args:
        max_rate: Starts per second; `None`: as fast as one likes.
    """

    def __init__(self, max_rate: float | None) -> None:
        self.interval = 0.0 if max_rate is None else 1.0 / max_rate
        self._due = float("-inf")

    def next_start(self) -> float:
        """The earliest time of the next start, in seconds of the caller's clock."""
        return self._due

    def started(self, now: float, *, at_least: float = 0.0) -> None:
        """Note a start at `now`; the next is due one interval (at least `at_least` s) later."""
        in_time = self._due if now - self._due <= SLACK else now
        self._due = in_time + max(self.interval, at_least)

    def __repr__(self) -> str:
        return f"Pace(interval={self.interval:g})"
