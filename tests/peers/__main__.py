"""Prints what the client reaches against a real nginx, in real time.

Run it with `python -m tests.peers`; it takes about four minutes. Each case runs three times, and
the worst of them counts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.peers.cases import CASES
from tests.peers.nginx import MISSING, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.peers.cases import Measured

RUNS = 3


def main() -> int:
    """Print the table; the exit code says whether everything was reached."""
    if PROGRAM is None:
        sys.stdout.write(f"skipped: {MISSING}\n")
        return 0
    missed = 0
    sys.stdout.write("| case | ids | must reach | reached, best to worst of the runs | |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for case in CASES:
        runs = [case.measure(case.ids) for _ in range(RUNS)]
        enough = all(map(reached, runs))
        missed += not enough
        cells = (case.name, case.ids, bounds(runs), spread(runs), "ok" if enough else "MISSED")
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
    return 1 if missed else 0


def reached(run: Measured) -> bool:
    """Whether one run is exact, and within its bounds."""
    return not run.inexact and all(most is None or value <= most for _, value, most in run.figures)


def bounds(runs: Sequence[Measured]) -> str:
    """What must be reached."""
    within = [f"{most:g} {what}" for what, _, most in runs[0].figures if most is not None]
    return ", ".join(("all", *within))


def spread(runs: Sequence[Measured]) -> str:
    """Each figure from the best run to the worst, and whatever was not exact."""
    told = []
    for position, (what, _, _) in enumerate(runs[0].figures):
        values = sorted(run.figures[position][1] for run in runs)
        told.append(f"{values[0]:.2f} to {values[-1]:.2f} {what}")
    wrong = [problem for run in runs for problem in run.inexact]
    return ", ".join((*told, *(wrong or ["0 lost"])))


if __name__ == "__main__":
    sys.exit(main())
