"""What one line of a table of the simulation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

Pacing: TypeAlias = "Callable[[], Any] | None"
"""Makes the pace to run with; `None`: the client's own."""


@attrs.frozen
class Reached:
    """What a case measured, in words, and whether that is enough."""

    text: str
    enough: bool


@attrs.frozen
class Case:
    """One line of the table."""

    name: str
    must: str
    measure: Callable[[Pacing, int], Reached]
    """Called with the pace and the number of seeds."""
