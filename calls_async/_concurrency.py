"""How many requests at once; the rule: additive increase, multiplicative decrease, one cut a wave.

The server's capacity is unknown and changes, so the limit feels its way: up by one after as many
successes as it is high, down to nine tenths when the server shows that it is too much. Start, step
and cut are those of Palantir's dialogue client. The numbers are whole, so that the steps are exact.

Slow start: one step at a time is too careful as long as nothing was ever too much. From 20 to 64 it
takes 1,800 successes, to 1,024 half a million. So until the first cut each success raises the limit
by one, which doubles it in a round trip, as TCP does (RFC 5681, section 3.1).

The queue: a server that is given too much at once rarely says so. It takes longer, and when at last
attempts time out it has been drowned already: its queue is longer than anybody waits. So answers
that all take more than twice as long as they used to are overload too, and cut the limit in that
proportion, which drains a queue of that length. A single fast answer among them shows that there is
none: in a queue all have to wait, while a slow answer, or a third of them, may say more about these
ids. A timeout is a slow answer, too.

Whose queue: an answer also waits in this process, for its turn in an event loop that is busy with a
thousand others. That is no reason to send less. So before a queue is believed in, it is asked how
long a turn of the loop takes, and two of them are taken off: in one the answer waits to be read, in
the other who waits for it. And a pause, of this process or of the server, delays all that is in
flight, once. A queue also delays what is sent when its first answers have come.

How long answers used to take is the fastest one seen, and it ages: the lower the limit, the faster,
because a slowness that is left at a limit of two is not this client's own. So a server that has
become slower for good is soon taken as it is. docs/explanation/concurrency.md compares this with
AIMD alone and with gradient limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = 20
"""The limit to begin with, unless the maximum is lower."""
SLOWER: Final = 2.0
"""Times the usual duration that all answers must take to be a queue. At twice there are as many
requests in the queue as in work, so that to halve the limit leaves the server no idle hands."""
TOLERATED: Final = 0.05
"""Seconds of queueing that never count. They cost a batch little, and this process can bring them
about itself when it is busy."""
ENOUGH: Final = 4
"""Slow answers in a row that are a queue, at least; half a limit's worth where that is more."""
SUSPICIOUS: Final = ENOUGH // 2
"""Slow answers in a row at which it is asked how busy this process is."""
TURNS: Final = 2
"""Turns of the event loop that an answer waits at most: to be read, and to be handed over."""
AGING: Final = 0.01
"""By what part of itself, divided by the limit, the usual duration grows with each limit's worth of
answers. The limit grows by one meanwhile, so a queue of one's own grows a hundred times as fast."""


class Concurrency:
    """The limit of requests in flight, between 1 and a maximum.

    Args:
        maximum: The most requests at once that the user allows.
        on_suspicion: Called when answers seem to queue, to have `lagged` called soon; `None`: this
            process is never busy.
    """

    def __init__(self, maximum: int, on_suspicion: Callable[[], None] | None = None) -> None:
        self.limit = min(START, maximum)
        """How many requests may be in flight now."""
        self._maximum = maximum
        self._slow_start_to = maximum
        self._successes = 0
        self._last_cut = float("-inf")
        self._drained = float("-inf")  # the last cut because of a queue
        # The limit that last brought a success; as long as there was none, nothing speaks against
        # the maximum.
        self._proven = maximum
        self._usual = float("inf")  # seconds that an answer takes where there is no queue
        # The limit by which it ages, how much with each answer, and what requests use that limit.
        self._ages_at: int = self.limit
        self._ages = 1.0 + AGING / self.limit**2
        self._in_use = self.limit * 9 // 10
        self._slow = 0  # answers in a row that seem to have queued
        self._fastest = 0.0  # seconds that the fastest of them took
        self._since = 0.0  # when the first of them came
        self._enough = ENOUGH  # of them, which are a queue
        self._on_suspicion = on_suspicion
        self._lag: float | None = 0.0  # seconds that a turn of the loop takes; `None`: asked for

    def succeeded(self, in_flight: int, started: float, now: float) -> None:
        """Note a success, which may raise the limit, or show a queue.

        Only a limit that is in use is raised. What was never tried is not known to be safe, and a
        quiet hour would otherwise end in a burst.

        Args:
            in_flight: Requests in flight when the answer came, the answered one included.
            started: When the request was started, in seconds of the caller's clock.
            now: The time, in seconds of the same clock.
        """
        limit = self.limit
        if limit != self._ages_at:
            self._ages_at = limit
            self._ages = 1.0 + AGING / limit**2
            self._in_use = limit * 9 // 10
        took = now - started
        usual = self._usual * self._ages
        if took <= usual:
            self._usual = took
        else:
            self._usual = usual
            if took > usual + TOLERATED and took > SLOWER * usual:
                self._queued(started, now)
                return
        self._slow = 0
        if in_flight < self._in_use:
            return
        self._proven = limit
        self._successes += 1
        if limit < self._slow_start_to or self._successes >= limit:
            self.limit = min(limit + 1, self._maximum)
            self._successes = 0

    def overloaded(self, *, started: float, now: float) -> None:
        """Note a sign of overload: a timeout, a failed connection, a 429 or a 503.

        The requests that were in flight together fail together. The first of them cuts the limit;
        the others were started before that cut and are no news.

        Args:
            started: When the request was started, in seconds of the caller's clock.
            now: The time, in seconds of the same clock.
        """
        took = now - started
        if self._is_slow(took, self._usual):  # a timeout, mostly
            self._queued(started, now, timed_out=True)
        if started > self._last_cut:
            self._cut(now, max(1, self.limit * 9 // 10))

    def _queued(self, started: float, now: float, *, timed_out: bool = False) -> None:
        """Note an answer that seems to have queued; after enough in a row, drain the queue."""
        if started <= self._drained:  # it met the queue that is being drained
            return
        took = now - started
        if not self._slow:
            self._fastest = took
            self._since = now
            self._enough = max(ENOUGH, self.limit // 2)
        self._fastest = min(took, self._fastest)
        self._slow += 1
        if self._slow == SUSPICIOUS and self._on_suspicion is not None:
            self._lag = None
            self._on_suspicion()
        if self._slow < self._enough or self._lag is None:
            return
        # A timeout has waited for so long that no pause explains it; another would take as long.
        if timed_out or started >= self._since:
            self._slow = 0
            took = self._fastest - TURNS * self._lag
            if self._is_slow(took, self._usual):
                self._drained = now
                self._cut(now, max(1, int(self.limit * self._usual / took)))

    def lagged(self, seconds: float) -> None:
        """Take note of how long a turn of the event loop takes.

        Args:
            seconds: From when it was asked for to when it came.
        """
        self._lag = seconds

    @staticmethod
    def _is_slow(took: float, usual: float) -> bool:
        return took > usual + TOLERATED and took > SLOWER * usual

    def _cut(self, now: float, limit: int) -> None:
        self.limit = limit
        self._last_cut = now
        self._slow_start_to = 0
        self._successes = 0

    def restart(self) -> None:
        """Begin at one, after an outage.

        The cuts while nobody answered say nothing about what the server takes. Hence slow start
        leads back to the limit that last brought a success, and from there on it is step by step.
        """
        self._slow_start_to = self._proven
        self.limit = 1

    def __repr__(self) -> str:
        return f"Concurrency(limit={self.limit}, maximum={self._maximum})"
