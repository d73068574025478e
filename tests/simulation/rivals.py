"""Other answers to a rate limit, to be compared with the client's own; none of them ships.

`Cubic` is the formula of the AWS SDKs' adaptive retry mode, and `CubicPace` that mode around it, as
published: a token bucket whose rate CUBIC sets. `NoPace` is a client that learns nothing and only
keeps silent for as long as it is told.
"""

from __future__ import annotations

import math
from typing import Final

BETA: Final = 0.7
"""What a throttled answer leaves of the rate."""
SCALE: Final = 0.4
"""Requests per second to the fourth: how steep the curve is."""
SMOOTHING: Final = 0.8
"""The weight of the latest half second in the measured rate."""
HALF: Final = 0.5
"""Seconds in which requests are counted for the measured rate."""
LEAST_FILL: Final = 0.5
"""Tokens per second that the bucket gets at least."""
LEAST_CAPACITY: Final = 1.0
"""Tokens that the bucket holds at least."""


class Cubic:
    """The rate as a cubic function of the time since the last throttled answer.

    Args:
        last_max_rate: The rate at the last throttled answer, in requests per second.
        last_throttle: When that was, in seconds.
    """

    def __init__(self, last_max_rate: float = 0.0, last_throttle: float = 0.0) -> None:
        self.last_max_rate = last_max_rate
        self.last_throttle = last_throttle

    @property
    def k(self) -> float:
        """Seconds until the curve is back at the last maximum."""
        return math.cbrt(self.last_max_rate * (1 - BETA) / SCALE)

    def success(self, now: float) -> float:
        """The rate after an answer that was not throttled."""
        return SCALE * (now - self.last_throttle - self.k) ** 3 + self.last_max_rate

    def throttle(self, now: float, rate: float) -> float:
        """The rate after a throttled answer, where `rate` was the one in use."""
        self.last_max_rate, self.last_throttle = rate, now
        return rate * BETA


class CubicRate:
    """CUBIC, bound to the measured rate: what the bucket is filled with, in tokens per second."""

    def __init__(self) -> None:
        self.measured = 0.0
        self.fill = LEAST_FILL
        self.enabled = False
        self._cubic = Cubic()
        self._count = 0
        self._counted_until = 0.0

    def answered(self, now: float, *, throttled: bool) -> float:
        """Learn from one answer, and return the new rate."""
        self._count_one(now)
        if throttled:
            used = min(self.measured, self.fill) if self.enabled else self.measured
            rate = self._cubic.throttle(now, used)
            self.enabled = True
        else:
            rate = self._cubic.success(now)
        self.fill = max(LEAST_FILL, min(rate, 2 * self.measured))
        return self.fill

    def _count_one(self, now: float) -> None:
        self._count += 1
        half = math.floor(now / HALF) * HALF
        if half > self._counted_until:
            rate = self._count / (half - self._counted_until)
            self.measured = SMOOTHING * rate + (1 - SMOOTHING) * self.measured
            self._count = 0
            self._counted_until = half


class CubicPace:
    """The adaptive mode as published, in the place of `calls_async._pace.Pace`."""

    def __init__(self) -> None:
        self._rate = CubicRate()
        self._tokens = 0.0
        self._at = 0.0

    @property
    def learnt(self) -> float | None:
        return self._rate.fill if self._rate.enabled else None

    def interval(self) -> float:
        return 1 / self._rate.fill if self._rate.enabled else 0.0

    def next_start(self) -> float:
        if not self._rate.enabled:
            return -math.inf
        return self._at + max(0.0, 1.0 - self._tokens) / self._rate.fill

    def started(self, now: float, *, at_least: float = 0.0) -> None:  # noqa: ARG002
        if self._rate.enabled:
            self._refill(now)
            self._tokens = max(0.0, self._tokens - 1.0)

    def accepted(self, now: float, *, started: float) -> bool:  # noqa: ARG002
        return self._learn(now, throttled=False)

    def throttled(self, now: float, *, started: float, silence: float, rnd: float) -> bool:  # noqa: ARG002
        return self._learn(now, throttled=True)

    def _learn(self, now: float, *, throttled: bool) -> bool:
        self._refill(now)
        self._rate.answered(now, throttled=throttled)
        return throttled

    def _refill(self, now: float) -> None:
        if self._rate.enabled:
            fill = self._rate.fill
            grown = self._tokens + (now - self._at) * fill
            self._tokens = min(grown, max(fill, LEAST_CAPACITY))
        self._at = now


class NoPace:
    """Full speed whenever the gate is open."""

    learnt: float | None = None

    def interval(self) -> float:
        return 0.0

    def next_start(self) -> float:
        return -math.inf

    def started(self, now: float, *, at_least: float = 0.0) -> None:
        pass

    def accepted(self, now: float, *, started: float) -> bool:  # noqa: ARG002
        return False

    def throttled(self, now: float, *, started: float, silence: float, rnd: float) -> bool:  # noqa: ARG002
        return False
