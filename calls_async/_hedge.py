"""Hedging; the rule: a request that is slower than 95% of the others gets one rival, if affordable.

A few answers of a healthy server take much longer than the rest. A second request, sent when the
first is late, nearly always overtakes it (Dean and Barroso, "The Tail at Scale", 2013). It is load
all the same, and a server that has become slow makes every request late. So hedges are a small
share of the first requests, and before 50 answers are known there are none.

Whoever sends the hedge sees to the rest: it is sent only while the gate is open, no batch holds and
a permit is free, it asks `take` first and the retry budget second, and the loser is cancelled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

WINDOW: Final = 200
"""Answers that are remembered."""
ENOUGH: Final = 50
"""Answers without which nothing can be said about the slowest 5%."""
BURST: Final = 5.0
"""Hedges that can be saved up. One would go to waste whenever two requests are late together; all
that a quiet hour earns would be sent at once when the server slows down."""


class Hedge:
    """Says when to send a second request, and whether there may be one.

    Args:
        share: Hedges per first request at most: 0.05 is 5% more load.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 0.0
        # The same durations twice: the oldest first, and the shortest first. To keep a list of 200
        # in order costs two binary searches an answer, and nothing has to be sorted.
        self._by_age: deque[float] = deque()
        self._by_length: list[float] = []

    def started(self) -> None:
        """Note that a first request (no hedge, no retry) is sent, which earns its share."""
        self._credit = min(BURST, self._credit + self._share)

    def observed(self, duration: float) -> None:
        """Note a success.

        Args:
            duration: Seconds from the start of the first request to the answer, whichever of the
                two brought it. A hedge's own duration would make the slow tail look short, so that
                the delay shrank from hedge to hedge.
        """
        if len(self._by_age) == WINDOW:
            del self._by_length[bisect_left(self._by_length, self._by_age.popleft())]
        self._by_age.append(duration)
        insort(self._by_length, duration)

    def delay(self) -> float | None:
        """Seconds after which a request is late: the 95th percentile; `None`: not known yet."""
        known = len(self._by_length)
        if known < ENOUGH:
            return None
        return self._by_length[-1 - known * 5 // 100]  # at most 5% took longer

    def take(self) -> bool:
        """Pay for a hedge; whether it may be sent."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def __repr__(self) -> str:
        return f"Hedge(delay={self.delay()}, credit={self._credit:.2f}, share={self._share:g})"
