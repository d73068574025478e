"""The gate; the rule: when the server asks one call for silence, it gets silence from all.

`not_before` only ever moves later, so that answers which arrive out of order cannot open the gate
early. When it opens, those who waited start one after the other and not as a herd.
"""

from __future__ import annotations

from typing import Final

from calls_async._pace import Pace

STAGGER: Final = 0.010
"""Seconds between starts while the gate has just opened."""
RAMP: Final = 1.0
"""Seconds after the opening during which starts are staggered, unless the silence was shorter."""


class Gate:
    """Decides when the next request may start. It reads no clock: every method is told the time.

    Args:
        max_rate: Starts per second; `None`: no limit.
        max_cool_down: The longest silence in seconds. A server that asks for more is asked again
            after that long: by one request, because the answer closes the gate for all again.
    """

    def __init__(self, *, max_rate: float | None, max_cool_down: float) -> None:
        self._pace = Pace(max_rate)
        self._max_cool_down = max_cool_down
        self._ramp = 0.0
        self.not_before = float("-inf")

    def next_start(self) -> float:
        """The earliest time at which the next request may start."""
        return max(self.not_before, self._pace.next_start())

    def started(self, now: float) -> None:
        """Note that a request starts now."""
        just_opened = now < self.not_before + self._ramp
        self._pace.started(now, at_least=STAGGER if just_opened else 0.0)

    def cool_down(self, now: float, seconds: float) -> bool:
        """Close the gate for `seconds` from now on; whether it was open before."""
        until = now + min(seconds, self._max_cool_down)
        if until <= max(now, self.not_before):
            return False
        was_open = self.not_before <= now
        self.not_before = until
        self._ramp = min(RAMP, seconds)
        return was_open

    def __repr__(self) -> str:
        return f"Gate(not_before={self.not_before:.3f}, pace={self._pace!r})"
