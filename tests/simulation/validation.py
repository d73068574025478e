"""Limits that the pace was not tuned for; prints how far it is from the best on each of them.

The table of `cases.py` was looked at while the pace was made, so it says little about any other
server. Nothing here is asserted: the figures are the spread over latencies, seeds and moments, and
docs/explanation/pace.md repeats them.

Run it with `python -m tests.simulation.validation`; it takes about five minutes.
"""

from __future__ import annotations

import math
import sys
from itertools import product
from typing import TYPE_CHECKING, Final

import attrs

from calls_async import Limits
from tests.simulation.cases import LATENCIES, fairness
from tests.simulation.driver import simulate
from tests.simulation.servers import HTML, Reply, TokenBucket, changing, steady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEEDS: Final = (11, 12)
MOMENTS: Final = 5
ROOM: Final = Limits(max_concurrency=100)
"""So that the client's own capacity is no limit at 20 ms and 1,000/s."""


@attrs.frozen
class Row:
    """One line of the table: something to measure, and what it is."""

    name: str
    measure: Callable[[], str]


def _silent(seconds: int) -> Reply:
    return Reply(429, (("Retry-After", str(seconds)),))


def _spread(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def _steady(
    rate: float, burst: float, refusal: Reply, *, seconds: float = 60.0
) -> Callable[[], str]:
    """A batch of so many seconds at best: how much longer it takes."""

    def measure() -> str:
        runs = [
            simulate(
                TokenBucket(rate=steady(rate), burst=burst, refusal=refusal),
                ids=int(rate * seconds),
                latency=latency,
                seed=seed,
                limits=ROOM,
            )
            for latency, seed in product(LATENCIES, SEEDS)
        ]
        times = [run.duration / seconds for run in runs]
        refused = max(run.rejected for run in runs)
        lost = max(run.failed for run in runs)
        return f"{_spread(times, '.2f')} x ideal, {refused:.1%} refused, {lost} lost"

    return measure


def _change(before: float, after: float) -> Callable[[], str]:
    """The limit changes at moments all over a few seconds; the pace, as in `cases.py`."""

    def measure() -> str:
        off: list[float] = []
        for latency, step in product(LATENCIES, range(MOMENTS)):
            at = 30.0 + 9.0 * step / MOMENTS
            run = simulate(
                TokenBucket(rate=changing(before, at, after)),
                ids=int(before * at + after * 13),
                latency=latency,
                seed=100 + step,
                limits=ROOM,
            )
            pace = run.mean_pace(at + 10.0, at + 15.0)
            off.append(math.inf if pace is None else pace / after - 1.0)
        return f"pace {_spread(off, '+.0%')}"

    return measure


def _drift() -> str:
    """The limit swings between 50 and 150/s, once a minute, for two minutes."""
    runs = [
        simulate(
            TokenBucket(rate=lambda now: 100.0 + 50.0 * math.sin(now * math.tau / 60.0)),
            ids=12_000,
            latency=latency,
            seed=seed,
            limits=ROOM,
        )
        for latency, seed in product(LATENCIES, SEEDS)
    ]
    goodputs = [run.goodput(0.0, 120.0) / 100.0 for run in runs]
    refused = max(run.rejected for run in runs)
    return f"goodput {_spread(goodputs, '.0%')}, {refused:.1%} refused"


def _fleet(clients: int, limit: float) -> Callable[[], str]:
    """Clients that know nothing of each other share a limit for a minute or so."""

    def measure() -> str:
        seconds = 60.0
        runs = [
            simulate(
                TokenBucket(rate=steady(limit)),
                ids=int(limit * seconds / clients),
                clients=clients,
                latency=latency,
                seed=seed,
                limits=ROOM,
            )
            for latency, seed in product(LATENCIES, SEEDS)
        ]
        goodput = min(run.goodput(0.2 * seconds, 0.7 * seconds) / limit for run in runs)
        fair = min(fairness(run, clients, until=0.7 * seconds) for run in runs)
        refused = max(run.rejected for run in runs)
        lost = max(run.failed for run in runs)
        return f"goodput {goodput:.0%}, fairness {fair:.2f}, {refused:.1%} refused, {lost} lost"

    return measure


def _rows() -> list[Row]:
    rows = [
        Row(
            f"{rate}/s, burst {burst}: 429, Retry-After 1",
            _steady(rate, burst, _silent(1), seconds=30.0 if rate >= 20 else 60.0),
        )
        for rate, burst in product((5, 20, 200, 500), (0, 2, 10, 50))
    ]
    rows += [
        Row(f"{rate}/s, burst {burst}: {name}", _steady(rate, burst, refusal))
        for rate, burst in ((20, 2), (100, 10))
        for name, refusal in (
            ("429, Retry-After 2", _silent(2)),
            ("429, Retry-After 5", _silent(5)),
            ("503, no hint", Reply(503, HTML)),
        )
    ]
    rows += [
        Row(f"{before} to {after}/s", _change(before, after))
        for one, other in ((5, 10), (20, 40), (200, 400), (500, 1000))
        for before, after in ((one, other), (other, one))
    ]
    rows.append(Row("drift between 50 and 150/s", _drift))
    rows += [
        Row(f"{clients} clients share {limit}/s", _fleet(clients, limit))
        for clients, limit in ((5, 50), (20, 50), (100, 50), (20, 200))
    ]
    return rows


def main() -> None:
    """Print the table."""
    for row in _rows():
        sys.stdout.write(f"| {row.name} | {row.measure()} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
