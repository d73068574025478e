"""Runs every sweep in full and prints one line for each: its cases, and how they ended.

`python -m tests.proof` takes some minutes; `--only NAME` runs one sweep, `--short` the form that is
part of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING

from tests.proof.tally import Tally
from tests.ways import WAYS, over

if TYPE_CHECKING:
    from collections.abc import Sequence

SWEEPS = (
    "cuts",
    "flips",
    "statuses",
    "values",
    "jsontext",
    "fuzz",
    "timing",
    "sizes",
    "connections",
    "cancellations",
    "closings",
    "hostile",
    "secrets",
    "tls",
    "chaos",
)
"""Each is a module of this folder with `async def sweep(*, short: bool) -> Tally`."""
WITH_EACH_READER = ("cuts", "flips", "statuses")
"""Those that go both ways by themselves, see `wire`; all others are gone through once for each."""
SHOWN = 20
"""Bad cases that are named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code says whether nothing got through."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--only", choices=SWEEPS, help="one sweep alone")
    parser.add_argument("--short", action="store_true", help="a sample of each")
    options = parser.parse_args(arguments)
    sys.stdout.write("| sweep | cases | foreign | wrong | hangs | leaks | ended as | seconds |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    bad: list[str] = []
    most: list[str] = []
    for name in [options.only] if options.only else SWEEPS:
        began = time.monotonic()
        tally = asyncio.run(swept(name, short=options.short))
        sys.stdout.write(f"{line(tally, time.monotonic() - began)}\n")
        sys.stdout.flush()
        bad += [f"{name}: {case}" for case in tally.bad]
        most += [f"{name}: {what}: {value:.1f}" for what, value in tally.most.items()]
    for each in most:
        sys.stdout.write(f"\n{each}")
    for case in bad[:SHOWN]:
        sys.stdout.write(f"\n{case}")
    return 1 if bad else 0


async def swept(name: str, *, short: bool) -> Tally:
    """A sweep over the lane, and the same over sessions."""
    sweep = import_module(f"tests.proof.{name}").sweep
    if name in WITH_EACH_READER:
        own: Tally = await sweep(short=short)
        return own
    both = Tally(name)
    for way in WAYS:
        with over(way):
            both.merge(await sweep(short=short), f"{way}: ")
    return both


def line(tally: Tally, seconds: float) -> str:
    """One row of the table."""
    ends = ", ".join(f"{count:,} {end}" for end, count in tally.ends.most_common())
    bad = (len(tally.foreign), len(tally.wrong), len(tally.hangs), len(tally.leaks))
    cells = (tally.name, f"{tally.cases:,}", *map(str, bad), ends, f"{seconds:.0f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
