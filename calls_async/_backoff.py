"""How long to wait before trying again when the server does not say; the rule is full jitter."""

from __future__ import annotations

__all__ = ["full_jitter"]


def full_jitter(attempt: int, *, base: float, factor: float, cap: float, rnd: float) -> float:
    """Return the seconds to wait before the next attempt.

    The wait is drawn from the whole range between nothing and a ceiling that grows exponentially,
    because clients that failed together would otherwise come back together. Source: "Exponential
    Backoff And Jitter", AWS Architecture Blog, which compares this with smaller and correlated
    jitters: it costs the server the least work.

    Args:
        attempt: How many attempts failed in this way so far, counted from 1.
        base: The ceiling after the first failure, in seconds.
        factor: What each further failure multiplies the ceiling by.
        cap: The highest ceiling, in seconds.
        rnd: The draw, from 0 to 1.
    """
    try:
        ceiling = min(cap, base * factor ** (attempt - 1))
    except OverflowError:  # a float's power raises, where a product would be infinite
        ceiling = cap if base > 0 else 0.0
    return rnd * ceiling
