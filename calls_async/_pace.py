"""The pace; the rule: once throttled, send what the server has proved to take, and then probe.

A client that is never throttled has no pace, and pays nothing for one. A throttled answer teaches
one, and from there the pace walks a curve, until the next throttled answer starts it anew, or
nobody is held back by it any more:

* It cruises, for `CRUISE` seconds, at what was measured.
* Then it probes: gently at first, so that a limit which has not changed is measured over a second
  or two and overshot by little; and ever more steeply, so that one which was raised or lifted is
  found soon. After the first throttled answer, when there is nothing to cruise on, it searches at
  once, and doubles every `SEARCH` seconds, like TCP in its slow start.

What is measured: a server that saves up unused requests, as a token bucket does, has accepted
`saved + rate x time` when it refuses. The rate is not what was accepted per second, then, but what
was accepted beyond the savings. No stretch of a wave (from a silence to the refusal that ends it)
accepts more than that, so the stretch that leaves the highest rate is the one to go by. The
savings are what the first burst got through.

Starts are at least one interval apart and unused time buys no burst: the generic cell rate
algorithm with a burst of one. Timers wake late, by up to a few milliseconds; at high rates a late
start must not push all later ones back, so a lateness of up to `SLACK` is made up for: the next
start is due as if this one had been in time. A start that is later than that was not waited for,
and the next is due a whole interval after it. Only requests move the curve on; idle time teaches
nothing.

AWS's CUBIC, from which this began, and others are compared with it in docs/explanation/pace.md.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SLACK: Final = 0.010
"""Seconds of lateness that the next starts may catch up on."""
CAUTION: Final = 0.98
"""The share of the measured rate to go on with: just above the limit, the cruise ends early."""
CRUISE: Final = 8.0
"""Seconds between two probes, for each second of silence that the server asks for, but never fewer.
A probe costs a silence, so the price is much the same part of the time, whatever the server asks.
With fewer a batch of a thousand pays for one silence more; with more a doubled limit goes unused
for longer than ten seconds.
After a wave of which nothing was accepted there is nothing to cruise on, and the pace searches."""
PROBE: Final = 2.5
"""Seconds in which a probing pace doubles; in twice as many it is at sixteen times the rate."""
SEARCH: Final = 0.5
"""Seconds in which a searching pace doubles. It starts far too low, so here time counts more."""
SAMPLE: Final = 1.0
"""Seconds of the past that count for the first throttled answer, at least. A bucket may accept all
that it has saved up within a millisecond; over so short a time that would pass for a rate."""
MOST_SAVED: Final = 0.5
"""Savings that are believed, as a share of what the rate makes of the silence before. There can be
no more than all of it; but a window that resets looks like large savings, and has none."""
MORE_SAVED: Final = 1.25
"""A refusal in the cruise says that there were more savings than was thought: by this factor, and
one more."""
AGAIN: Final = 0.9
"""What is left of the pace, at most, when two cruises in a row are refused: there were no savings
that explain it, or the answers' times vary too much to measure by."""
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
"""Accepted requests that are remembered. A longer wave is measured by the last of it."""


class Pace:
    """Spaces starts evenly, at a rate that the server's answers teach. It reads no clock.

    Args:
        max_rate: Starts per second that are never exceeded; `None`: no such limit.
    """

    def __init__(self, max_rate: float | None) -> None:
        self._shortest = 0.0 if max_rate is None else 1.0 / max_rate
        self._due = float("-inf")
        self._accepted: deque[float] = deque(maxlen=MEMORY)  # when they started
        self.remember = self._accepted.append
        """Notes when an accepted request started: all that `accepted` does while there is no
        pace."""
        self._noticed = float("-inf")  # when a throttled answer last taught a rate
        self._refused = float("-inf")  # when its request had started
        self._stretch = SAMPLE  # seconds up to then, over which that was measured
        self._silence = 0.0  # seconds that it asked for
        self._opened = float("-inf")  # when they were over, and the wave began
        self._saved = 0.0  # requests that the server accepts beyond its rate
        self._measured: float | None = None  # starts per second; None: full speed
        self._cruise = 0.0  # seconds of the curve before it grows
        self._ridden = 0.0  # seconds of the curve that starts have used up
        self._early = False  # whether the last throttled answer came in the cruise
        self._unused = 0.0  # seconds that it has offered in vain while it grew
        self._offered = float("-inf")  # when the learnt rate had the next start be

    @property
    def learnt(self) -> float | None:
        """The learnt rate, where the curve is now, in starts per second; `None`: full speed."""
        if self._measured is None:
            return None
        grown = max(0.0, self._ridden - self._cruise)
        doublings = (grown / PROBE) ** 2 if self._cruise else grown / SEARCH
        return self._measured * float(2.0**doublings)

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
        self.remember(started)
        if self._measured is None:
            return False
        if self._refused - self._stretch <= started <= self._refused:
            # It was in flight when the throttled answer came, and belongs to what was measured.
            self._measured += 1.0 / self._stretch
            self._saved += not self._cruise  # the first burst was larger, too
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
        self._refused = started
        if self.learnt is None:
            rate = self._first_estimate(silence)
        else:
            rate = self._estimate(self.learnt)
            self._cruise = CRUISE * max(1.0, silence) if rate else 0.0
        self._measured = max(rate, SLOWEST)
        self._ridden = self._unused = 0.0
        self._silence = silence
        self._opened = now + silence
        self._due = max(self._due, self._opened + rnd * self.interval())
        self._offered = self._due
        return True

    def _first_estimate(self, silence: float) -> float:
        """The rate to search from: far too low as a rule, since most of a burst was refused."""
        # A server that asks for a long silence counts over a long time.
        self._stretch = max(SAMPLE, silence)
        since = self._refused - self._stretch
        self._saved = float(sum(since <= started for started in self._accepted))
        self._cruise = 0.0
        self._early = False
        return self._saved / self._stretch

    def _estimate(self, pace: float) -> float:
        """The rate to cruise at, from the wave that has ended, which was at this pace."""
        rate, count = self._measure()
        self._saved = min(self._saved, count)
        early = self._ridden < self._cruise
        if early:
            self._saved = self._saved * MORE_SAVED + 1.0
            if self._early:
                rate = min(rate, AGAIN * pace)
        self._early = early
        return CAUTION * min(rate, pace)

    def _measure(self) -> tuple[float, int]:
        """The highest rate that a stretch up to the refusal leaves, and the requests of the wave.

        Of what a stretch accepted, the savings are known, and cannot be more than the silence
        brought: either gives a lower bound of the rate, and the higher one counts.
        """
        rate, best, count = 0.0, 0.0, 0
        most_saved = MOST_SAVED * self._silence  # in seconds of the rate
        for started in reversed(self._accepted):
            if started < self._opened:
                break
            count += 1
            stretch = self._refused - started
            if stretch <= 0.0:
                continue
            bound = max((count - self._saved) / stretch, count / (stretch + most_saved))
            if bound > rate:
                rate, best = bound, stretch
        self._stretch = max(SAMPLE, best)  # one that is still under way does not weigh more
        return rate, count

    def __repr__(self) -> str:
        return f"Pace(interval={self.interval():g})"
