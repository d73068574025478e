"""How many requests at once; the rule: additive increase, multiplicative decrease, one cut a wave.

The server's capacity is unknown and changes, so the limit feels its way: up by one after as many
successes as it is high, down to nine tenths when the server shows that it is too much. Start, step
and cut are those of Palantir's dialogue client. The numbers are whole, so that the steps are exact.

Slow start: one step at a time is too careful as long as nothing was ever too much. From 20 to 64 it
takes 1,800 successes, to 1,024 half a million. So until the first cut each success raises the limit
by one, which doubles it in a round trip, as TCP does (RFC 5681, section 3.1).
"""

from __future__ import annotations

from typing import Final

START: Final = 20
"""The limit to begin with, unless the maximum is lower."""


class Concurrency:
    """The limit of requests in flight, between 1 and a maximum.

    Args:
        maximum: The most requests at once that the user allows.
    """

    def __init__(self, maximum: int) -> None:
        self.limit = min(START, maximum)
        """How many requests may be in flight now."""
        self._maximum = maximum
        self._slow_start_to = maximum
        self._successes = 0
        self._last_cut = float("-inf")
        # The limit that last brought a success; as long as there was none, nothing speaks against
        # the maximum.
        self._proven = maximum

    def succeeded(self, in_flight: int) -> None:
        """Note a success, which may raise the limit.

        Only a limit that is in use is raised. What was never tried is not known to be safe, and a
        quiet hour would otherwise end in a burst.

        Args:
            in_flight: Requests in flight when the answer came, the answered one included.
        """
        if in_flight < _nine_tenths(self.limit):
            return
        self._proven = self.limit
        self._successes += 1
        if self.limit < self._slow_start_to or self._successes >= self.limit:
            self.limit = min(self.limit + 1, self._maximum)
            self._successes = 0

    def overloaded(self, *, started: float, now: float) -> None:
        """Note a sign of overload: a timeout, a failed connection, a 429 or a 503.

        The requests that were in flight together fail together. The first of them cuts the limit;
        the others were started before that cut and are no news.

        Args:
            started: When the request was started, in seconds of the caller's clock.
            now: The time, in seconds of the same clock.
        """
        if started <= self._last_cut:
            return
        self._last_cut = now
        self._slow_start_to = 0
        self._successes = 0
        self.limit = max(1, _nine_tenths(self.limit))

    def restart(self) -> None:
        """Begin at one, after an outage.

        The cuts while nobody answered say nothing about what the server takes. Hence slow start
        leads back to the limit that last brought a success, and from there on it is step by step.
        """
        self._slow_start_to = self._proven
        self.limit = 1

    def __repr__(self) -> str:
        return f"Concurrency(limit={self.limit}, maximum={self._maximum})"


def _nine_tenths(limit: int) -> int:
    """Nine tenths, rounded down, which is at least one less than any whole number above 0."""
    return limit * 9 // 10
