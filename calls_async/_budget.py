"""The retry budget; the rule: retries are paid for by successes, so a sick server is not drowned.

It is the quota of the AWS SDKs' standard retry behaviour 2.1, with its numbers. A retry costs
tokens. It gets them back when it succeeds, and first tries that succeed earn one each. A server
that fails everything sees 35 retries and then none; one that fails a fifth of its requests, the
worst case, sees 27% more load. The two schemes in use elsewhere do not fit: a ratio within a time
window (Finagle, tower) forgets an outage as soon as the window is over, and gRPC's counter allows
either every retry or none, and cannot tell a throttled retry from any other.

A batch needs two rules more. The first against starving: when all that is left waits for a retry,
there is no first try that could earn anything, and a budget that only successes refill keeps the
batch waiting for ever. So an empty budget still grants a batch one retry a second.

The second against crawling: above 21% failures the quota shrinks, and a batch would live on those
grants, minutes where seconds are needed. But a batch's retry puts no load on top: it takes the
place of a new id, under the same limits. So its success earns twice its cost. A server that answers
more than half of the retries gets them all, at no more than its healthy rate; one that answers
fewer soon gets one a second.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 500
"""Tokens to begin with, and at most."""
COST_TRANSIENT: Final = 14
"""Tokens for a retry after a failure."""
COST_THROTTLED: Final = 5
"""Tokens for a retry after a throttled answer; it costs the server less than a failure does."""
FIRST_TRY_EARNS: Final = 1
"""Tokens that a first try's success brings."""
GRANT_INTERVAL: Final = 1.0
"""Seconds between two retries that an empty budget grants to batches."""


class RetryBudget:
    """A bucket of tokens that all retries of a client are paid from.

    The way of a retry: `take` (a single call) or `grant` (a call of a batch) says whether it may be
    sent, and what to hand to `refund` if it succeeds. A retry that fails hands nothing back.

    Args:
        capacity: Tokens to begin with, and at most.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.level = capacity
        """Tokens that are left."""
        self.next_grant = float("-inf")
        """When an empty budget next grants a retry, in seconds of the caller's clock."""
        self._capacity = capacity

    def take(self, *, throttled: bool) -> int | None:
        """Pay for the retry of a single call.

        Args:
            throttled: Whether the failed attempt was throttled.

        Returns:
            What to refund if it succeeds: what it cost. `None` if the budget cannot pay; then there
            is no retry.
        """
        cost = _cost(throttled=throttled)
        if cost > self.level:
            return None
        self.level -= cost
        return cost

    def grant(self, now: float, *, throttled: bool) -> int | None:
        """Let a batch's retry through: paid for, or because its turn has come.

        A call that is refused asks again at `ready_at`.

        Args:
            now: The time, in seconds of the caller's clock.
            throttled: Whether the failed attempt was throttled.

        Returns:
            What to refund if it succeeds: twice what it cost or would have cost. `None` if it has
            to wait.
        """
        if self.take(throttled=throttled) is None:
            if now < self.next_grant:
                return None
            self.next_grant = now + GRANT_INTERVAL
        return 2 * _cost(throttled=throttled)

    def ready_at(self, *, throttled: bool) -> float:
        """When `grant` lets the next retry through, in seconds of the caller's clock."""
        return float("-inf") if _cost(throttled=throttled) <= self.level else self.next_grant

    def refund(self, amount: int | None) -> None:
        """Note a success.

        Args:
            amount: What `take` or `grant` gave for the attempt that succeeded; `None` if it was the
                call's first.
        """
        earned = FIRST_TRY_EARNS if amount is None else amount
        self.level = min(self._capacity, self.level + earned)

    def __repr__(self) -> str:
        return f"RetryBudget(level={self.level}, capacity={self._capacity})"


def _cost(*, throttled: bool) -> int:
    return COST_THROTTLED if throttled else COST_TRANSIENT
