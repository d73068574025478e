"""Drawn, yet the same everywhere; the rule: what is drawn depends on the text alone.

`random` promises the same numbers across Python versions for a few of its methods only, and `hash`
differs from process to process. So the draws are the digits of a hash's digest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_BYTES: Final = 256
"""2,048 bits: a record draws about 1,300 of them, everything else a few."""
_FINE: Final = 1 << 32


class Dice:
    """Dice that always fall the same way for the same text, purpose and seed.

    Args:
        text: Mostly a call id.
        purpose: What is drawn; draws for two purposes have nothing to do with each other.
        seed: Another seed, other draws.
    """

    __slots__ = ("_digits",)

    def __init__(self, text: str, *, purpose: str, seed: int = 0) -> None:
        named = f"{purpose}:{seed}:{text}".encode("utf-8", "surrogatepass")
        self._digits = int.from_bytes(hashlib.shake_128(named).digest(_BYTES), "big")

    def below(self, sides: int) -> int:
        """A whole number from 0 to `sides` - 1."""
        self._digits, drawn = divmod(self._digits, sides)
        return drawn

    def between(self, low: float, high: float) -> float:
        """A number from `low` to just below `high`."""
        return low + (high - low) * self.below(_FINE) / _FINE

    def chance(self, share: float) -> bool:
        """True in this share of all cases, 0.0 to 1.0."""
        return self.below(_FINE) < share * _FINE

    def choice(self, things: Sequence[T]) -> T:
        """One of them."""
        return things[self.below(len(things))]
