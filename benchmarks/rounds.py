"""The rounds; the rule: in a round each lane runs once in each setting, in an order of its own.

So no lane always follows on the same other one, and what the rest of the machine does meanwhile is
shared out among all of them.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

from benchmarks.results import key
from benchmarks.sample import LaneFailedError, take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.lanes import Lane
    from benchmarks.machine import Served
    from benchmarks.results import Results
    from benchmarks.sample import Setting

    Plan = Sequence[tuple[Setting, Served, Sequence[Lane]]]


def play(plan: Plan, results: Results, *, rounds: int, core: int | None) -> None:
    """Play all rounds, and add what they bring to the results.

    Args:
        plan: The settings, each with its server and its lanes.
        results: What is added to.
        rounds: How many.
        core: The one that clients stay on.
    """
    for number in range(rounds):
        for setting, served, lanes in plan:
            failures = results.failures.setdefault(key(setting), {})
            for lane in in_order(lanes, number):
                if lane.name in failures:
                    continue
                if lane.missing is not None:
                    failures[lane.name] = lane.missing
                    continue
                _say(f"round {number + 1} of {rounds}: {lane.name} ({key(setting)})")
                try:
                    sample = take(lane, setting, served, number=number, core=core)
                except LaneFailedError as problem:
                    failures[lane.name] = str(problem)
                else:
                    results.samples.append(sample)
    _say("")


def in_order(lanes: Sequence[Lane], number: int) -> Sequence[Lane]:
    """The lanes as this round has them."""
    return random.Random(number).sample(lanes, len(lanes))


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:100.100}", end="" if what else "\r", file=sys.stderr, flush=True)
