"""The outage; the rule: while nobody answers, a batch sends nothing but a probe now and then.

An answer is a 2xx or a final one (a 404, a refused key): somebody is at home. A failure is every
attempt that may be tried again: no connection, a timeout, a 500, a proxy's 502 page. A throttled
answer (429, 503 with a hint) is neither. Its sender lives, and the cool-down already keeps silence,
so it begins no outage; but it is no record either, so it ends none.

Failures alone are no outage. A rate limiter without manners, or a restart behind a load balancer,
turns away dozens of requests within milliseconds and answers the next. Nor can there be one fixed
number of them: a client with a single permit needs minutes for twenty timeouts. So an outage is

- twenty failures in a row, in at least one second without any answer, or
- three failures in a row, in at least five seconds without any answer, or
- three failures in a row, the last of them one that repeats: the secure connection was refused.
  Nobody backs off after that, for it is not tried again, so that a batch would open connections at
  full speed until the second is over.

Silence is counted from the last answer or, if that was longer ago, from the start of the first
attempt that failed after it. An idle hour is no silence, while one wave of timeouts is as long as
it took. To be wrong is cheap: it costs a healthy server's batch one second, until the first probe.
"""

from __future__ import annotations

from math import inf
from typing import Final

MANY: Final = 20
"""Failures that are an outage after `BRIEF` seconds."""
BRIEF: Final = 1.0
FEW: Final = 3
"""Failures that are an outage after `LONG` seconds."""
LONG: Final = 5.0

FIRST_PROBE: Final = 1.0
"""Seconds from the beginning of the hold to the first probe."""
PROBE_INTERVAL: Final = 2.0
"""Seconds from one probe to the next at least; jitter makes it up to twice as long."""
PROBE_TIMEOUT: Final = 2.0
"""Seconds after which a probe is given up; no longer than the interval, so only one is out."""


class Outage:
    """Says when a batch has to hold, and when it may probe.

    Only batches hold. Single calls are always sent: they fail fast by themselves, and a client that
    sends no batch has no probe that could end a hold.
    """

    def __init__(self) -> None:
        self.holding = False
        """Whether batches send nothing but probes."""
        self.since: float | None = None
        """Since when nobody has answered, by the caller's clock; `None` if the last one did."""
        self.next_probe = inf
        """When the next probe may be sent; infinity if there is no hold."""
        self._failures = 0
        self._last_answer = -inf

    def answered(self, now: float) -> bool:
        """Note an answer to any request, a probe or not; whether it ended a hold."""
        self._last_answer = now
        if not self._failures:  # as with every call of a healthy server
            return False
        ended = self.holding
        self.holding = False
        self.since = None
        self.next_probe = inf
        self._failures = 0
        return ended

    def failed(self, *, started: float, now: float, lasting: bool = False) -> bool:
        """Note a failure of any request, a probe or not.

        Args:
            started: When the request was started, in seconds of the caller's clock.
            now: The time, in seconds of the same clock.
            lasting: Whether trying again brings the same, as with a certificate that expired.

        Returns:
            Whether a hold begins.
        """
        silent_since = max(started, self._last_answer)
        self.since = silent_since if self.since is None else min(self.since, silent_since)
        self._failures += 1
        silence = now - self.since
        nobody_home = (self._failures >= MANY and silence >= BRIEF) or (
            self._failures >= FEW and (lasting or silence >= LONG)
        )
        if self.holding or not nobody_home:
            return False
        self.holding = True
        self.next_probe = now + FIRST_PROBE
        return True

    def may_probe(self, now: float) -> bool:
        """Whether a held batch may send its probe now."""
        return now >= self.next_probe

    def probe_started(self, now: float, rnd: float) -> None:
        """Note that a probe is sent now, and set the time of the next.

        The time runs from start to start and does not depend on the probe's end, so a probe that
        is cancelled with its batch leaves no other batch holding for ever.

        Args:
            now: The time, in seconds of the caller's clock.
            rnd: A random number between 0 and 1, so that clients whose hold began together do not
                come back together.
        """
        self.next_probe = now + PROBE_INTERVAL * (1.0 + rnd)

    def __repr__(self) -> str:
        return f"Outage(holding={self.holding}, since={self.since}, failures={self._failures})"
