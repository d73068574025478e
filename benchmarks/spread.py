"""Statistics of rounds; the rule: what is compared was measured in the same round.

On a shared machine a round can take half as long again as the next one, but its lanes all do. So
the ratio of two lanes is taken within each round, and the median of these ratios is what counts.
"""

from __future__ import annotations

import enum
import statistics
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@attrs.frozen
class Spread:
    """The median of some figures, and their quartiles."""

    median: float
    low: float
    high: float
    rounds: int = 1


def spread(figures: Iterable[float]) -> Spread:
    """The spread of at least one figure."""
    sorted_figures = sorted(figures)
    if len(sorted_figures) == 1:
        return Spread(*sorted_figures * 3)
    low, median, high = statistics.quantiles(sorted_figures, n=4, method="inclusive")
    return Spread(median, low, high, len(sorted_figures))


def paired(ours: Mapping[int, float], against: Mapping[int, float]) -> Spread | None:
    """The ratios of the rounds that both have; `None`: there is none.

    Args:
        ours: Figures by round.
        against: Those that they are divided by.
    """
    both = sorted(ours.keys() & against.keys())
    return spread(ours[number] / against[number] for number in both) if both else None


class Mark(enum.StrEnum):
    """Whether a bound was kept."""

    REACHED = ""
    MISSED = "MISSED"
    UNKNOWN = "not measured"


def mark(found: Spread | None, bound: float, *, at_least: bool = False) -> Mark:
    """Whether the median keeps a bound."""
    if found is None:
        return Mark.UNKNOWN
    kept = found.median >= bound if at_least else found.median <= bound
    return Mark.REACHED if kept else Mark.MISSED
