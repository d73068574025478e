"""Other answers to a rate limit or to overload, to compare with the client's own; none ships.

`Cubic` is the formula of the AWS SDKs' adaptive retry mode, and `CubicPace` that mode around it, as
published: a token bucket whose rate CUBIC sets. `NoPace` is a client that learns nothing and only
keeps silent for as long as it is told.

The limits of concurrency stand in the place of `calls_async._concurrency.Concurrency`. `Fixed`
learns nothing, `Aimd` goes by failures alone, and `Gradient2` and `Vegas` are the two limits by
latency of Netflix's concurrency-limits, with its defaults.
"""

from __future__ import annotations

import math
from typing import Final

from calls_async._concurrency import START, Concurrency

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

    @property
    def is_free(self) -> bool:
        return not self._rate.enabled

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
    is_free = True

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


class Fixed:
    """As many requests at once as are allowed."""

    def __init__(self, maximum: int) -> None:
        self.limit = maximum

    def succeeded(self, in_flight: int, started: float, now: float) -> None:
        pass

    def overloaded(self, *, started: float, now: float) -> None:
        pass

    def restart(self) -> None:
        pass


class Aimd(Concurrency):
    """The client's own limit, blind to how long answers take."""

    def succeeded(self, in_flight: int, started: float, now: float) -> None:  # noqa: ARG002
        super().succeeded(in_flight, started=now, now=now)


class Gradient2(Fixed):
    """The limit follows how a second's latency compares with the latency of long.

    The library floors this limit at 20 and caps it at 200. Here it may fall to one, as the others
    may, and rise to what the user allows. It has no slow start and no rule for failures.
    """

    TOLERANCE: Final = 1.5
    SMOOTHING: Final = 0.2
    QUEUE: Final = 4
    LONG: Final = 600
    """Windows, of which the long latency is the exponential average."""
    LEAST: Final = 10
    """Answers in a window."""

    def __init__(self, maximum: int) -> None:
        super().__init__(min(START, maximum))
        self._maximum = maximum
        self._exact = float(self.limit)
        self._long: float | None = None
        self._sum = 0.0
        self._count = 0
        self._most_in_flight = 0
        self._until = 0.0

    def succeeded(self, in_flight: int, started: float, now: float) -> None:
        self._sum += now - started
        self._count += 1
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now < self._until or self._count < self.LEAST:
            return
        short, most = self._sum / self._count, self._most_in_flight
        self._sum, self._count, self._most_in_flight, self._until = 0.0, 0, 0, now + 1.0
        long = short if self._long is None else self._long
        long += (short - long) * 2 / (self.LONG + 1)
        self._long = long * 0.95 if long > 2 * short else long
        if most < self._exact / 2:
            return
        gradient = max(0.5, min(1.0, self.TOLERANCE * long / short))
        wished = self._exact * gradient + self.QUEUE
        exact = self._exact * (1 - self.SMOOTHING) + wished * self.SMOOTHING
        self._exact = max(1.0, min(float(self._maximum), exact))
        self.limit = int(self._exact)


class Vegas(Fixed):
    """The limit keeps an estimate of its own queue small: TCP Vegas, as the library adapts it.

    The library caps this limit at 1,000.
    """

    PROBE: Final = 30
    """The base latency is measured anew after so many answers times the limit."""

    def __init__(self, maximum: int) -> None:
        super().__init__(min(START, maximum))
        self._maximum = maximum
        self._base = math.inf
        self._seen = 0

    def succeeded(self, in_flight: int, started: float, now: float) -> None:
        took = now - started
        self._seen += 1
        if self._seen >= self.PROBE * self.limit or took < self._base:
            self._seen, self._base = 0, took
            return
        if in_flight * 2 < self.limit:
            return
        step = max(1, int(math.log10(self.limit)))
        queue = math.ceil(self.limit * (1 - self._base / took))
        if queue <= step:
            self._set(self.limit + 6 * step)
        elif queue < 3 * step:
            self._set(self.limit + step)
        elif queue > 6 * step:
            self._set(self.limit - step)

    def overloaded(self, *, started: float, now: float) -> None:  # noqa: ARG002
        self._set(self.limit - max(1, int(math.log10(self.limit))))

    def _set(self, limit: int) -> None:
        self.limit = max(1, min(self._maximum, limit))
