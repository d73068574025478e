"""What the client must reach against a rate limit, as cases that measure themselves.

A case runs under several latencies and seeds, and reports the worst of them.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Final

from calls_async import Limits
from tests.fleets import Line
from tests.simulation.driver import Recording, simulate
from tests.simulation.rivals import NoPace
from tests.simulation.row import Case, Reached
from tests.simulation.servers import (
    HTML,
    FixedWindow,
    Flaky,
    Reply,
    SlidingWindow,
    TokenBucket,
    Unlimited,
    changing,
    steady,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.row import Pacing
    from tests.simulation.servers import Server

LATENCIES: Final = (0.0002, 0.020)
"""Seconds: a server on the same machine, and one on the same continent."""


def _batch(
    make: Callable[[], Server], *, ideal: float, longest: float, most_refused: float
) -> Callable[[Pacing, int], Reached]:
    """A thousand ids in one batch: how long, and how many requests were refused."""

    def measure(pace: Pacing, seeds: int) -> Reached:
        runs = [
            simulate(make(), ids=1000, latency=latency, seed=seed, pace=pace)
            for latency, seed in product(LATENCIES, range(1, seeds + 1))
        ]
        lost = max(run.failed for run in runs)
        time = max(run.duration for run in runs) / ideal
        refused = max(run.rejected for run in runs)
        return Reached(
            f"{time:.2f} x ideal, {refused:.1%} refused, {lost} lost",
            enough=not lost and time <= longest and refused <= most_refused,
        )

    return measure


def _flaky(refusal: Reply, *, longest: float) -> Callable[[Pacing, int], Reached]:
    """Ten thousand ids at a server without a limit, of which a proxy refuses one in a hundred."""

    def measure(pace: Pacing, seeds: int) -> Reached:
        runs = [
            simulate(
                Flaky(server=Unlimited(), one_in=100, refusal=refusal),
                ids=10_000,
                seed=seed,
                pace=pace,
            )
            for seed in range(1, seeds + 1)
        ]
        lost = max(run.failed for run in runs)
        time = max(run.duration for run in runs)
        refused = max(run.rejected for run in runs)
        return Reached(
            f"{time:.1f} s, {refused:.1%} refused, {lost} lost",
            enough=not lost and time <= longest and refused <= 0.015,
        )

    return measure


def _change(before: float, after: float) -> Callable[[Pacing, int], Reached]:
    """The limit changes, at moments all over the pace's own cycle of about nine seconds."""

    def runs(pace: Pacing, seeds: int) -> Iterator[float]:
        moments = 4 * seeds + 4
        for latency, step in product(LATENCIES, range(moments)):
            at = 20.0 + 9.0 * step / moments
            run = simulate(
                TokenBucket(rate=changing(before, at, after)),
                ids=int(before * at + after * 13),
                latency=latency,
                seed=step,
                pace=pace,
            )
            pace_then = run.mean_pace(at + 10.0, at + 15.0)
            yield math.inf if pace_then is None else pace_then / after - 1.0

    def measure(pace: Pacing, seeds: int) -> Reached:
        off = list(runs(pace, seeds))
        if min(off) == math.inf:
            return Reached("none learnt", enough=False)
        return Reached(
            f"pace {min(off):+.0%} to {max(off):+.0%}",
            enough=max(map(abs, off)) <= 0.15,
        )

    return measure


def _lifted(pace: Pacing, seeds: int) -> Reached:
    """The limit disappears; twenty in flight at 20 ms make a thousand a second at full speed."""
    at, took = 20.0, 0.0
    for seed in range(1, seeds + 1):
        server = TokenBucket(rate=changing(50.0, at, math.inf))
        run = simulate(server, ids=15_000, latency=0.020, seed=seed, pace=pace)
        free = (moment for moment, known in run.paces if moment > at and known is None)
        took = max(took, next(free, math.inf) - at)
    when = "never" if took == math.inf else f"after {took:.1f} s"
    return Reached(f"full speed {when}", enough=took <= 15.0)


def _unlimited(pace: Pacing, seeds: int) -> Reached:
    slowest = 0.0
    for latency, seed in product(LATENCIES, range(1, seeds + 1)):
        run, free = (
            simulate(Unlimited(), ids=3000, latency=latency, seed=seed, pace=one)
            for one in (pace, NoPace)
        )
        slowest = max(slowest, run.duration / free.duration)
    return Reached(f"{slowest:.2f} x without a pace", enough=slowest <= 1.0)


def _fleet(
    *,
    goodput: float,
    fair: float,
    refused: float = 1.0,
    shared: float | None = None,
    each: float | None = None,
) -> Callable[[Pacing, int], Reached]:
    """Twenty clients share one limit for a minute, knowing nothing of each other, or by a pace.

    Args:
        goodput: The share of the limit that they must reach.
        fair: How even their shares of it must be.
        refused: The share of requests that may be refused.
        shared: The rate of the pace that they share.
        each: The rate that each of them keeps to by itself.
    """
    clients, limit, seconds = 20, 50.0, 60.0

    def measure(pace: Pacing, seeds: int) -> Reached:
        reached, even, in_vain, lost = math.inf, math.inf, 0.0, 0
        for latency, seed in product(LATENCIES, range(1, seeds + 1)):
            run = simulate(
                TokenBucket(rate=steady(limit)),
                ids=int(limit * seconds / clients),
                clients=clients,
                latency=latency,
                seed=seed,
                pace=pace,
                shared=None if shared is None else Line(rate=shared),
                limits=Limits(max_concurrency=20, max_rate=each),
            )
            reached = min(reached, run.goodput(0.2 * seconds, 0.7 * seconds) / limit)
            even = min(even, fairness(run, clients, until=0.7 * seconds))
            in_vain = max(in_vain, run.rejected)
            lost = max(lost, run.failed)
        return Reached(
            f"goodput {reached:.0%}, fairness {even:.2f}, {in_vain:.1%} refused, {lost} lost",
            enough=reached >= goodput and even >= fair and in_vain <= refused and not lost,
        )

    return measure


def fairness(run: Recording, clients: int, *, until: float) -> float:
    """Jain's index of the clients' shares: 1 when all are equal, 1/n when one has everything."""
    shares = [0] * clients
    for request in run.requests:
        shares[request.client] += request.accepted and request.at < until
    return sum(shares) ** 2 / (clients * sum(share**2 for share in shares))


CASES: Final = (
    Case(
        "50/s, burst 10: 429, Retry-After 1",
        "all, 1.25 x ideal, 5% refused",
        _batch(lambda: TokenBucket(rate=steady(50.0)), ideal=20.0, longest=1.25, most_refused=0.05),
    ),
    Case(
        "50/s, burst 10: 503, HTML, no hint",
        "all, 1.4 x ideal, 8% refused",
        _batch(
            lambda: TokenBucket(rate=steady(50.0), refusal=Reply(503, HTML)),
            ideal=20.0,
            longest=1.4,
            most_refused=0.08,
        ),
    ),
    Case(
        "fixed window, 100 in 10 s, RateLimit",
        "all, 1.1 x ideal, 1% refused",
        _batch(FixedWindow, ideal=90.0, longest=1.1, most_refused=0.01),
    ),
    Case(
        "sliding window, 20/s, counts refused",
        "all, 1.5 x ideal",
        _batch(SlidingWindow, ideal=50.0, longest=1.5, most_refused=1.0),
    ),
    Case(
        "no limit, 1% stray 503s",
        "all, 10 s, 1.5% refused",
        _flaky(Reply(503, HTML), longest=10.0),
    ),
    Case(
        "no limit, 1% stray 429s for 50 ms",
        "all, 20 s, 1.5% refused",  # a hundred silences, each with its gentle end
        _flaky(Reply(429, (("retry-after-ms", "50"),)), longest=20.0),
    ),
    Case("limit doubles, 50 to 100/s", "pace within 15% after 10 s", _change(50.0, 100.0)),
    Case("limit halves, 50 to 25/s", "pace within 15% after 10 s", _change(50.0, 25.0)),
    Case("limit disappears, 50/s to none", "full speed again (15 s)", _lifted),
    Case("no limit at all", "no slower than without", _unlimited),
    Case("20 clients share 50/s", "no collapse (85%), fair (0.8)", _fleet(goodput=0.85, fair=0.8)),
    Case(
        "20 clients, one shared pace of 50/s",
        "goodput 99%, fair (0.99), none refused",
        _fleet(goodput=0.99, fair=0.99, refused=0.0, shared=50.0),
    ),
    Case(
        "20 clients, a shared pace of 60/s",  # of one that was told a wrong limit
        "no collapse (60%), fair (0.9)",
        _fleet(goodput=0.6, fair=0.9, shared=60.0),
    ),
    Case(
        "20 clients, 2.5/s for each",
        "goodput 99%, fair (0.99), 1% refused",  # all start in the same instant
        _fleet(goodput=0.99, fair=0.99, refused=0.01, each=2.5),
    ),
)
