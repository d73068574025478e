"""Prints what the client reaches against rate limits and in crises, beside its rivals.

`python -m tests.simulation` takes some minutes. `--plots DIR` draws the pictures of the docs into a
folder instead; that needs matplotlib (the dependency group `plots`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.cases import CASES
from tests.simulation.crises import CRISES
from tests.simulation.rivals import Aimd, CubicPace, Fixed, Gradient2, NoPace, Vegas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.row import Reached

SEEDS = 5
CRISIS_SEEDS = 3
"""Crises are long, and their seeds differ less."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit code says whether everything was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the plots into DIR instead")
    parser.add_argument("--only", default="", help="only the rows whose name holds this text")
    options = parser.parse_args(arguments)
    if options.plots is not None:
        from tests.simulation.plots import draw_all  # noqa: PLC0415 (matplotlib may be missing)

        draw_all(options.plots)
        return 0
    missed = _print_cases(options.only) + _print_crises(options.only)
    return 1 if missed else 0


def _print_cases(only: str) -> int:
    rows = []
    missed = 0
    for case in (case for case in CASES if only in case.name):
        own = case.measure(None, SEEDS)
        missed += not own.enough
        rivals = [case.measure(pace, 1).text for pace in (CubicPace, NoPace)]
        rows.append((case.name, case.must, own.text, _mark(own), *rivals))
    _print(("case", "must reach", "reached", "", "CUBIC as published", "cool-down alone"), rows)
    return missed


def _print_crises(only: str) -> int:
    rows = []
    missed = 0
    for crisis in (crisis for crisis in CRISES if only in crisis.name):
        own = crisis.measure(None, CRISIS_SEEDS, 1.0)
        missed += not own.enough
        rivals = (
            [crisis.measure(limit, 1, 1.0).text for limit in (Aimd, Gradient2, Vegas, Fixed)]
            if crisis.compares
            else ["", "", "", ""]
        )
        rows.append((crisis.name, crisis.must, own.text, _mark(own), *rivals))
    heads = ("crisis", "must reach", "reached", "")
    _print((*heads, "AIMD alone", "Gradient2", "Vegas", "no limit learnt"), rows)
    return missed


def _mark(reached: Reached) -> str:
    return "ok" if reached.enough else "MISSED"


def _print(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One table in Markdown, if it has any rows."""
    if not rows:
        return
    widths = [max(3, *(len(row[column]) for row in (heads, *rows))) for column in range(len(heads))]
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.write("\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
