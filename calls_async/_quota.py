"""The quota; the rule: a budget that the server announces is spent evenly, and never exceeded.

Servers that say on every answer what is left (`RateLimit`, `X-RateLimit-*`) need not throttle
anybody to be understood. The starts that are left are spread over most of the window. What an
answer announces is already old by the requests in flight, so these are counted off. Each answer may
tell of more than there seemed to be, and then brings the next start forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calls_async._headers import Budget

SHARE: Final = 0.75
"""The share of a window in which its budget is spent. The rest is for what is not known: that times
are announced in whole seconds, and that a batch's last requests should not wait for the end."""
ROUNDING: Final = 1.0
"""Seconds by which two announcements of one window's end may differ."""
SHORTEST_WINDOW: Final = 2.0
"""Seconds below which a window, announced in whole seconds, is too coarse to plan by."""


class Quota:
    """Spreads the starts that are left over the window. It reads no clock."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._left = 0
        self._ends = float("-inf")
        self._spent_by = float("-inf")
        self._since = float("-inf")
        self._even = 0.0
        self._due = float("-inf")

    def announced(
        self, now: float, *, started: float, others: int, budgets: Iterable[Budget]
    ) -> bool:
        """Note the budgets of an answer, or that it has none.

        Args:
            now: When it arrived.
            started: When its request started; what it says of another window than the one planned
                for is only news if the request started after that plan was made.
            others: Further requests in flight; the answer does not know of them yet.
            budgets: The budgets.

        Returns:
            Whether that made a new plan.
        """
        scarcest = min(
            (
                (budget.remaining / budget.reset, budget.remaining, budget.reset)
                for budget in budgets
                if budget.reset is not None and budget.reset >= SHORTEST_WINDOW
            ),
            default=None,
        )
        if scarcest is None:
            if now < self._ends or not self._even:
                return False
            self._forget()
            return True
        _, remaining, reset = scarcest
        ends = now + reset
        if abs(ends - self._ends) <= ROUNDING:
            self._ends = min(self._ends, ends)
            self._left = remaining - others
            self._hasten(now)
            return False
        if started < self._since:
            return False
        self._since = now
        self._left = remaining - others
        self._ends = ends
        self._spent_by = now + SHARE * reset
        self._even = SHARE * reset / max(1, self._left)
        self._hasten(now)
        return True

    def _hasten(self, now: float) -> None:
        # The last start was spaced by what was known then, which may have been next to nothing.
        self._due = min(self._due, now + self.interval(now))

    @property
    def is_free(self) -> bool:
        """Whether there is no plan."""
        return not self._even

    def next_start(self) -> float:
        """The earliest time of the next start; when nothing is left, the window's end or later."""
        return self._due if self._left > 0 else max(self._due, self._ends)

    def interval(self, now: float) -> float:
        """Seconds from a start now to the next one; 0: nothing is planned.

        Until the next window's first answer is here, the last plan's average goes on.
        """
        if now >= self._ends or self._left <= 0:
            return self._even
        return max(0.0, self._spent_by - now) / self._left

    def started(self, now: float) -> None:
        """Count a start at `now` off, and space the next one."""
        self._left -= 1
        self._due = now + self.interval(now)

    def __repr__(self) -> str:
        return f"Quota(left={self._left}, ends={self._ends:.3f})"
