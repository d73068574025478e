"""The sandbox's rate limit, a token bucket; the rule: pure, it is told the time.

What it announces follows draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` with a quota (q)
in a window (w), `RateLimit` with what remains (r) and the seconds until there is more (t). All of
these, and `Retry-After`, are whole seconds, rounded up, as on real servers.
"""

from __future__ import annotations

import math
from typing import Final

_ROUNDING: Final = 1e-9
"""A token that is short by a rounding error is a whole one."""


class TokenBucket:
    """Tokens that come at a rate, at most so many at once. It starts full."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = math.inf
        self._at = -math.inf

    def take(self, now: float, *, rate: float, burst: int) -> bool:
        """Whether a request is admitted now; if so, its token is gone.

        Args:
            now: The time, in seconds, by a clock that never goes back.
            rate: Tokens a second.
            burst: What the bucket holds.
        """
        self._tokens = min(burst, self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True

    def announcement(self, *, rate: float, burst: int) -> list[tuple[str, str]]:
        """The header fields that say how much is left, right after `take`."""
        left = max(0, math.floor(self._tokens + _ROUNDING))
        lacking = burst - self._tokens if left else 1 - self._tokens
        window = math.ceil(1 / rate)
        return [
            ("RateLimit-Policy", f'"sandbox";q={max(1, math.floor(rate * window))};w={window}'),
            ("RateLimit", f'"sandbox";r={left};t={_whole(lacking / rate)}'),
        ]

    def retry_after(self, *, rate: float) -> list[tuple[str, str]]:
        """The header field of a request that was not admitted."""
        return [("Retry-After", str(_whole((1 - self._tokens) / rate)))]


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
