"""Prints what the client reaches against rate limits, beside its rivals.

Run it with `python -m tests.simulation`; it takes about a minute.
"""

from __future__ import annotations

import sys

from tests.simulation.cases import CASES
from tests.simulation.rivals import CubicPace, NoPace

SEEDS = 5


def main() -> int:
    """Print the table; the exit code says whether everything was reached."""
    rows = [("case", "must reach", "reached", "", "CUBIC as published", "cool-down alone")]
    missed = 0
    for case in CASES:
        own = case.measure(None, SEEDS)
        missed += not own.enough
        rivals = [case.measure(pace, 1).text for pace in (CubicPace, NoPace)]
        rows.append((case.name, case.must, own.text, "ok" if own.enough else "MISSED", *rivals))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
        if row is rows[0]:
            sys.stdout.write("|" + "|".join("-" * (width + 2) for width in widths) + "|\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
