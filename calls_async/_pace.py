"""The pace; the rule: once throttled, send what the server has proved to take, and then probe.

A client that is never throttled has no pace, and pays nothing for one. A throttled answer teaches
one: the rate of the requests that were accepted just before it. From there the pace walks a curve,
until the next throttled answer starts it anew, or nobody is held back by it any more:

* It cruises: from a little below what was measured it is back there after `CRUISE` seconds, so that
  a measurement which is off by a tenth is found out gently, in either direction.
* Then it probes, and doubles every `PROBE` seconds, so that a limit which was raised or lifted is
  found soon. Where there is nothing to cruise on (the first throttled answer, a limit that has
  collapsed) it searches at once, and doubles every `SEARCH` seconds, like TCP in its slow start.

Starts are at least one interval apart and unused time buys no burst: the generic cell rate
algorithm with a burst of one. Timers wake late, by up to a few milliseconds; at high rates a late
start must not push all later ones back, so a lateness of up to `SLACK` is made up for: the next
start is due as if this one had been in time. A start that is later than that was not waited for,
and the next is due a whole interval after it. Only requests move the curve on; idle time teaches
nothing.

AWS's CUBIC, from which this began, is compared with it in docs/explanation/pace.md.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import Final

SLACK: Final = 0.010
"""Seconds of lateness that the next starts may catch up on."""
CAUTION: Final = 0.9
"""The share of the measured rate to go on with: what a bucket had saved up was accepted too, and
makes the measured rate about a tenth too high."""
CRUISE: Final = 8.0
"""Seconds from there back to the measured rate. Each probe ends in a silence of a second, as a
rule, so more frequent ones cost throughput; rarer ones let a raised limit go unused for longer."""
PROBE: Final = 0.75
"""Seconds in which a probing pace doubles. A quicker one overtakes its own measurement."""
SEARCH: Final = 0.5
"""Seconds in which a searching pace doubles. It starts far too low, so here time counts more."""
SAMPLE: Final = 1.0
"""Seconds of the past that a rate is measured over, at least. A bucket may accept all that it has
saved up within a millisecond; over so short a time that would pass for a rate."""
CRUISE_SAMPLE: Final = 1.75
"""The same for a throttled answer in the cruise. The last measurement was too high, then; a longer
sample is lower, the more so the shorter the cruise was: it reaches into the silence before."""
SAMPLE_SIZE: Final = 50
"""Requests that a rate is measured over, at least, once there is a rate to tell how long that
takes: fewer are mostly chance, and of fewer a usual burst (ten) would be too large a part."""
SLOWEST: Final = 0.5
"""Starts per second below which no measurement brings the pace. Slower servers say how long to be
silent; and a client that shares a limit with many others, or rides out an outage, must notice soon
when there is more for it."""
GROWTH_STEP: Final = 0.5
"""Seconds by which one start moves the growth on at most: it does not more than double the pace."""
UNUSED: Final = 0.5
"""Seconds that a growing pace offered and nobody used, after which it is lifted."""
LONGEST_GAP: Final = 0.1
"""Seconds of one gap that count as unused: a pause between two batches is no evidence."""
MEMORY: Final = 2048
"""Accepted requests that are remembered. At rates at which that is less than a sample, the sample
is shorter."""


class Pace:
    """Spaces starts evenly, at a rate that the server's answers teach. It reads no clock.

    Args:
        max_rate: Starts per second that are never exceeded; `None`: no such limit.
    """

    def __init__(self, max_rate: float | None) -> None:
        self._shortest = 0.0 if max_rate is None else 1.0 / max_rate
        self._due = float("-inf")
        self._accepted: deque[float] = deque(maxlen=MEMORY)  # when they started
        self._noticed = float("-inf")  # when a throttled answer last taught a rate
        self._sample = SAMPLE  # seconds up to then, over which that was measured
        self._measured: float | None = None  # starts per second; None: full speed
        self._cruise = 0.0  # seconds of the curve before it grows
        self._ridden = 0.0  # seconds of the curve that starts have used up
        self._unused = 0.0  # seconds that it has offered in vain while it grew
        self._offered = float("-inf")  # when the learnt rate had the next start be

    @property
    def learnt(self) -> float | None:
        """The learnt rate, where the curve is now, in starts per second; `None`: full speed."""
        if self._measured is None:
            return None
        grown = self._ridden - self._cruise
        if grown < 0.0:
            return self._measured * (1.0 + (1.0 - CAUTION) * grown / self._cruise)
        return self._measured * float(2.0 ** (grown / (PROBE if self._cruise else SEARCH)))

    @property
    def is_free(self) -> bool:
        """Whether starts are as close together as anybody likes."""
        return self._measured is None and not self._shortest

    def interval(self) -> float:
        """Seconds from one start to the next now; 0: at full speed."""
        rate = self.learnt
        return self._shortest if rate is None else max(self._shortest, 1.0 / rate)

    def next_start(self) -> float:
        """The earliest time of the next start, in seconds of the caller's clock."""
        return self._due

    def started(self, now: float, *, at_least: float = 0.0) -> None:
        """Note a start at `now`; the next is due one interval (at least `at_least` s) later."""
        interval = max(self._shortest, at_least)
        rate = self.learnt
        if rate is not None:
            offered = step = 1.0 / rate
            interval = max(interval, offered)
            if self._ridden >= self._cruise:
                gap = min(now - self._offered, LONGEST_GAP)
                self._unused = max(0.0, self._unused + gap)
                step = min(step, GROWTH_STEP)
            self._ridden += step
            self._offered = now + offered
        in_time = self._due if now - self._due <= SLACK else now
        self._due = in_time + interval

    def accepted(self, now: float, *, started: float) -> bool:
        """Note an answer that was not throttled.

        Args:
            now: When it arrived.
            started: When its request started.

        Returns:
            Whether that lifted the pace.
        """
        self._accepted.append(started)
        if self._measured is None:
            return False
        if self._noticed - self._sample <= started <= self._noticed:
            # It was in flight when the throttled answer came, and belongs to the sample.
            self._measured += 1.0 / self._sample
        if self._unused < UNUSED:
            return False
        self._measured = None
        self._unused = 0.0
        self._due = min(self._due, now + self._shortest)
        return True

    def throttled(self, now: float, *, started: float, silence: float, rnd: float) -> bool:
        """Note a throttled answer.

        Args:
            now: When it arrived.
            started: When its request started. What was in flight at the last lesson is part of
                it: one wave is one signal, however many requests it has.
            silence: Seconds from now until requests may start again.
            rnd: A random number between 0 and 1, which keeps clients out of step.

        Returns:
            Whether that taught another pace.
        """
        if started <= self._noticed:
            return False
        self._noticed = now
        before = self._measured
        measured = self._measure(silence)
        self._measured = max(measured, SLOWEST)
        self._cruise = 0.0 if before is None or measured < before / 2.0 else CRUISE
        self._ridden = self._unused = 0.0
        self._due = max(self._due, now + silence + rnd * self.interval())
        self._offered = self._due
        return True

    def _measure(self, silence: float) -> float:
        """Requests accepted per second, up to the throttled answer."""
        span = SAMPLE if self._ridden >= self._cruise else CRUISE_SAMPLE
        if self._measured is not None and self._cruise:
            span = max(span, SAMPLE_SIZE / self._measured)
        span = max(span, silence)  # a server that asks for a long one counts over a long time
        if len(self._accepted) == MEMORY:
            span = min(span, max(SLACK, self._noticed - self._accepted[0]))
        self._sample = span
        since = self._noticed - span
        return sum(1 for _ in takewhile(since.__le__, reversed(self._accepted))) / span

    def __repr__(self) -> str:
        return f"Pace(interval={self.interval():g})"
