"""The gate; the rule: what the server tells one call about sending more binds all of them.

It composes three things: the cool-down (nobody starts), the learnt pace, and the announced quota.
`not_before` only ever moves later, so that answers which arrive out of order cannot open the gate
early. When it opens, those who waited start one after the other and not as a herd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from calls_async._pace import Pace
from calls_async._quota import Quota

if TYPE_CHECKING:
    from calls_async._headers import Hint

_UNAVAILABLE: Final = 503
THROTTLING: Final = frozenset({429, _UNAVAILABLE})
"""The statuses that say "too many requests"; a 503 does so with or without a hint."""
QUIET: Final = 1.0
"""Seconds of silence after a throttled answer that names no time. Less would do for a token bucket;
a window that counts refused requests too has to pass before anything is accepted again."""
BRIEF: Final = 0.5
"""Seconds of silence below which a throttled answer may be a stray one: trying again is cheap."""
STRAY: Final = 5
"""Accepted answers since the last refusal that make a refusal a stray one, if it is a 503 without a
hint, or asks for a brief silence only. Servers and proxies send those for reasons of their own too,
and a lesson from each would cost a batch most of its speed. A server that really refuses does so
again at once, and then is heard."""
STAGGER: Final = 0.010
"""Seconds between starts while the gate has just opened and no pace spreads them."""
RAMP: Final = 1.0
"""Seconds after the opening during which starts are staggered, unless the silence was shorter."""


@attrs.frozen(kw_only=True)
class News:
    """What an answer changed.

    Attributes:
        closed: Whether it closed a gate that was open.
        paced: Whether there is another pace, or none any more.
    """

    closed: bool = False
    paced: bool = False


NO_NEWS: Final = News()


class Gate:
    """Decides when the next request may start. It reads no clock: every method is told the time.

    Args:
        max_rate: Starts per second; `None`: no limit.
        max_cool_down: The longest silence in seconds. A server that asks for more is asked again
            after that long: by one request, because the answer closes the gate for all again.
        in_fleet: Whether starts take a slot of a fleet's pace as well: then nobody is ever free.
    """

    def __init__(
        self, *, max_rate: float | None, max_cool_down: float, in_fleet: bool = False
    ) -> None:
        self._pace = Pace(max_rate)
        self._remember = self._pace.remember
        self._quota = Quota()
        self._max_cool_down = max_cool_down
        self._ramp = 0.0
        # Accepted answers since the last refusal. The very first refusal may be a stray one as
        # well: so little is known then that it would bring the slowest pace of all.
        self._streak = STRAY
        self.not_before = float("-inf")
        self._alone = not in_fleet
        self.is_free = self._alone and max_rate is None
        """Whether nothing holds anybody back, nor has for a while. Then anybody may start, and
        neither `next_start` nor `started` need be called."""

    def rate(self, now: float) -> float | None:
        """Starts per second that the gate allows now when it is open; `None`: full speed."""
        interval = max(self._pace.interval(), self._quota.interval(now))
        return 1.0 / interval if interval else None

    def next_start(self) -> float:
        """The earliest time at which the next request may start."""
        return max(self.not_before, self._quota.next_start(), self._pace.next_start())

    def started(self, now: float) -> None:
        """Note that a request starts now."""
        self._quota.started(now)
        just_opened = now < self.not_before + self._ramp
        herd = just_opened and self._pace.learnt is None
        self._pace.started(now, at_least=STAGGER if herd else 0.0)

    def accepted(self, now: float, started: float) -> None:  # noqa: ARG002 (as `answered` has it)
        """Note an answer of a gate that is free, which is no refusal and has no hint."""
        if self._streak < STRAY:
            self._streak += 1
        self._remember(started)  # there is no pace, or the gate would not be free

    def answered(
        self, now: float, *, started: float, others: int, status: int, hint: Hint, rnd: float
    ) -> News:
        """Note an answer.

        Args:
            now: When it arrived.
            started: When its request started.
            others: Further requests in flight.
            status: Its HTTP status code.
            hint: What its header says about sending more.
            rnd: A random number between 0 and 1, which keeps clients out of step.
        """
        closed = paced = False
        planned = self._quota.announced(now, started=started, others=others, budgets=hint.budgets)
        if status in THROTTLING:
            streak, self._streak = self._streak, 0
            wait = hint.wait
            brief = status == _UNAVAILABLE if wait is None else wait < BRIEF
            stray = brief and streak >= STRAY
            if wait is None:
                wait = 0.0 if stray else QUIET
            closed = self.cool_down(now, wait)
            if not stray:
                silence = max(0.0, self.not_before - now)
                paced = self._pace.throttled(now, started=started, silence=silence, rnd=rnd)
        else:
            # Another failure's Retry-After is about that request, unless it announces quotas.
            if hint.wait and (status < 400 or hint.budgets):
                closed = self.cool_down(now, hint.wait)
            self._streak += 1
            paced = self._pace.accepted(now, started=started)
        paced = paced or planned
        self.is_free = (
            self._alone
            and self._pace.is_free
            and self._quota.is_free
            and now >= self.not_before + self._ramp
        )
        return News(closed=closed, paced=paced) if closed or paced else NO_NEWS

    def cool_down(self, now: float, seconds: float) -> bool:
        """Close the gate for `seconds` from now on; whether it was open before."""
        until = now + min(seconds, self._max_cool_down)
        if until <= max(now, self.not_before):
            return False
        was_open = self.not_before <= now
        self.is_free = False
        self.not_before = until
        self._ramp = min(RAMP, seconds)
        return was_open

    def __repr__(self) -> str:
        return f"Gate(not_before={self.not_before:.3f}, pace={self._pace!r})"
