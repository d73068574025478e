"""What the client must reach when a server is away, fails, or is given too much.

Beside the cases of `cases`: there the rival is another pace, here it is another limit of
concurrency. A crisis runs with several seeds and reports the worst of them. `size` shrinks the
heavy ones, for the test suite.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from calls_async import Limits
from calls_async.errors import StoppedBy
from tests.simulation.ailing import BAD_GATEWAY, REFUSED, SILENT, Away, BrownOut, Collapsing, Uneven
from tests.simulation.driver import Recording, arrive, simulate
from tests.simulation.row import Reached
from tests.simulation.servers import Reply, Unlimited

if TYPE_CHECKING:
    from collections.abc import Callable


Limiting: TypeAlias = "Callable[[int], Any] | None"
"""Makes the limit of concurrency from the highest allowed; `None`: the client's own."""

FAR: Final = 0.020
"""Seconds to the server and back."""
FULL: Final = 64
"""Requests at once that the user allows, as the library does where nothing is said."""


@attrs.frozen
class Crisis:
    """One line of the second table."""

    name: str
    must: str
    measure: Callable[[Limiting, int, float], Reached]
    """Called with the limit of concurrency, the number of seeds and the size (1 is the real)."""
    compares: bool = False
    """Whether the limit of concurrency matters, so that rivals are worth a run."""


# --- Reading a recording -------------------------------------------------------------------------


def sent(run: Recording, since: float, until: float = math.inf) -> int:
    """Requests that reached the server, or would have, between two times."""
    return sum(since <= request.at < until for request in run.requests)


def records(run: Recording, since: float, until: float) -> int:
    """Records that reached a client between two times."""
    return sum(
        request.accepted and since <= (request.answered or 0.0) < until for request in run.requests
    )


def failures(run: Recording, since: float, until: float = math.inf) -> int:
    """Requests of that time that brought no record."""
    return sum(not request.accepted for request in run.requests if since <= request.at < until)


def peak(run: Recording, since: float, window: float) -> float:
    """The most requests per second in any such window, wherever it begins."""
    times = sorted(request.at for request in run.requests if request.at >= since)
    return max(bisect_left(times, at + window) - n for n, at in enumerate(times)) / window


def _first_record(run: Recording, since: float) -> float:
    """When the first request that was sent after `since` brought its record."""
    return min(
        (r.answered for r in run.requests if r.accepted and r.answered and r.at >= since),
        default=math.inf,
    )


def _recovered(run: Recording, since: float, rate: float) -> float:
    """When the second began that brought so many records."""
    return next(
        at
        for at in (since + step / 10 for step in count())
        if records(run, at, at + 1.0) >= rate or at > run.duration
    )


# --- Away ----------------------------------------------------------------------------------------


def _minute_away(instead: Reply) -> Callable[[Limiting, int, float], Reached]:
    """Ten thousand ids, in the middle of which the server is away for a minute."""
    since, until = 20.0, 80.0

    def measure(limiting: Limiting, seeds: int, size: float) -> Reached:
        lost = requests = second_wave = 0
        resumed = recovered = 0.0
        for seed in range(1, seeds + 1):
            server = Collapsing(seed=seed)
            run = simulate(
                Away(server=server, since=since, until=until, instead=instead),
                ids=int(4000 + 6000 * size),
                latency=FAR,
                seed=seed,
                concurrency=limiting,
                limits=Limits(max_concurrency=FULL),
            )
            lost = max(lost, run.failed)
            requests = max(requests, sent(run, since + 2.0, until))
            resumed = max(resumed, _first_record(run, until) - until)
            recovered = max(recovered, _recovered(run, until, 0.8 * server.capacity) - until)
            second_wave = max(second_wave, failures(run, until))
        return Reached(
            f"{lost} lost, {requests} sent, first record after {resumed:.1f} s, 80% of capacity "
            f"after {recovered:.1f} s, then {second_wave} failures",
            enough=not lost and requests <= 60 and recovered <= 5.0 and not second_wave,
        )

    return measure


def _five_minutes_away(patience: float) -> Callable[[Limiting, int, float], Reached]:
    """An outage of five minutes, and a batch that has more or less patience than that."""
    since, until, ids = 10.0, 310.0, 4000

    def measure(limiting: Limiting, seeds: int, size: float) -> Reached:  # noqa: ARG001
        runs = [
            simulate(
                Away(server=Collapsing(seed=seed), since=since, until=until),
                ids=ids,
                latency=FAR,
                seed=seed,
                concurrency=limiting,
                limits=Limits(max_concurrency=FULL, patience=patience),
            )
            for seed in range(1, seeds + 1)
        ]
        if patience > until - since:
            lost = max(run.failed for run in runs)
            return Reached(f"{lost} lost", enough=not lost)
        worst = max(runs, key=lambda run: run.duration)
        unsent = sum(not error.attempts for error in worst.lost)
        silent = sum(
            error.stopped_by is not StoppedBy.PATIENCE for run in runs for error in run.lost
        )
        return Reached(
            f"{worst.fetched} fetched, {unsent} failed unsent, {len(worst.lost) - unsent} failed "
            f"after a try, {silent} for another reason; over {worst.duration - since:.0f} s after "
            "the last record",
            enough=not silent
            and all(run.fetched + len(run.lost) == ids for run in runs)
            and worst.duration - since <= 1.2 * patience,
        )

    return measure


# --- Failing -------------------------------------------------------------------------------------


def _calls_in_a_brownout(limiting: Limiting, seeds: int, size: float) -> Reached:  # noqa: ARG001
    """A hundred independent calls a second; the first ten seconds use the budget up."""
    load = slowest = failed = 0.0
    reasons: Counter[StoppedBy | None] = Counter()
    for seed in range(1, seeds + 1):
        run = arrive(
            BrownOut(server=Unlimited(), seed=seed),
            rate=100.0,
            seconds=10.0 + 50.0 * size,
            latency=0.050,
            seed=seed,
        )
        asked = sum(at >= 10.0 for at in run.asked)
        load = max(load, sent(run, 10.0) / asked)
        failed = max(failed, len(run.lost) / len(run.asked))
        slowest = max(slowest, *(error.elapsed for error in run.lost))
        reasons.update(error.stopped_by for error in run.lost)
    why = ", ".join(f"{n} by {reason}" for reason, n in reasons.most_common())
    return Reached(
        f"{load:.2f} x the calls, {failed:.0%} failed within {slowest:.1f} s ({why})",
        enough=load <= 1.2
        and slowest <= 1.0
        and reasons.keys() <= {StoppedBy.BUDGET, StoppedBy.ATTEMPTS},
    )


def _batch_in_a_brownout(limiting: Limiting, seeds: int, size: float) -> Reached:
    """The same batch at the same server, well and unwell, by their busiest seconds.

    Both have sixty-four in flight all the time, and each way takes as long as the dice say; so one
    of two equal runs has a busiest second that is a percent above the other's.
    """
    lost, most, longer = 0, 0.0, 0.0
    for seed in range(1, seeds + 1):
        ill, well = (
            simulate(
                server,
                ids=int(5000 * max(size, 0.4)),  # fewer do not last for a second
                latency=0.050,
                seed=seed,
                concurrency=limiting,
                limits=Limits(max_concurrency=FULL),
            )
            for server in (BrownOut(server=Unlimited(), seed=seed), Unlimited())
        )
        lost = max(lost, ill.failed)
        most = max(most, peak(ill, 0.0, 1.0) / peak(well, 0.0, 1.0))
        longer = max(longer, ill.duration / well.duration)
    return Reached(
        f"{lost} lost, {most:.2f} x the healthy rate at most, {longer:.1f} x the time",
        enough=not lost and most <= 1.02,
    )


# --- Too much ------------------------------------------------------------------------------------


def big_server(seed: int) -> Collapsing:
    """A server for two hundred clients: a thousand requests a second, and a 503 when it is full."""
    return Collapsing(workers=100, service=0.1, knee=400, room=1000, seed=seed)


def _all_return(clients: int) -> Callable[[Limiting, int, float], Reached]:
    """Clients come back together from an outage of half a minute."""
    since, until = 10.0, 40.0

    def measure(limiting: Limiting, seeds: int, size: float) -> Reached:  # noqa: ARG001
        lost, second, tenth, worst, refused = 0, 0.0, 0.0, math.inf, 0.0
        for seed in range(1, seeds + 1):
            server = Collapsing(seed=seed) if clients < 200 else big_server(seed)
            run = simulate(
                Away(server=server, since=since, until=until),
                ids=int(30 * server.capacity / clients),
                clients=clients,
                latency=FAR,
                seed=seed,
                concurrency=limiting,
                limits=Limits(max_concurrency=FULL),
            )
            lost = max(lost, run.failed)
            second = max(second, peak(run, until, 1.0) / server.capacity)
            tenth = max(tenth, peak(run, until, 0.1) / server.capacity)
            refused = max(refused, failures(run, until) / sent(run, until))
            worst = min(worst, records(run, until + 5.0, until + 15.0) / 10.0 / server.capacity)
        return Reached(
            f"peak {second:.2f} x capacity in 1 s ({tenth:.2f} in 0.1 s), {refused:.1%} failed, "
            f"goodput {worst:.0%} from 5 to 15 s after, {lost} lost",
            enough=second <= 1.5 and worst >= 0.8 and not lost,
        )

    return measure


def _too_much(clients: int) -> Callable[[Limiting, int, float], Reached]:
    """Clients that start at once at a server that collapses under too much."""

    def measure(limiting: Limiting, seeds: int, size: float) -> Reached:
        whole = steady = math.inf
        lost = 0
        for seed in range(1, seeds + 1):
            server = Collapsing(seed=seed)
            ids = int(server.capacity * 150 * size)
            run = simulate(
                server,
                ids=ids // clients,
                clients=clients,
                latency=FAR,
                seed=seed,
                concurrency=limiting,
                limits=Limits(max_concurrency=FULL),
            )
            lost = max(lost, run.failed)
            whole = min(whole, run.fetched / run.duration / server.capacity)
            since, until = 0.4 * run.duration, 0.8 * run.duration
            steady = min(steady, records(run, since, until) / (until - since) / server.capacity)
        return Reached(
            f"goodput {whole:.0%} from start to end, {steady:.0%} in its middle, {lost} lost",
            enough=steady >= 0.8 and not lost,
        )

    return measure


def _uneven(limiting: Limiting, seeds: int, size: float) -> Reached:
    """A healthy server with a long tail; sixty-four at once is as fast as it goes."""
    from tests.simulation.rivals import Fixed  # noqa: PLC0415 (a rival is a caller's, but for this)

    slowest = 0.0
    for seed in range(1, seeds + 1):
        run, free = (
            simulate(
                Uneven(seed=seed),
                ids=int(10_000 * size),
                latency=FAR,
                seed=seed,
                concurrency=one,
                limits=Limits(max_concurrency=FULL),
            )
            for one in (limiting, Fixed)
        )
        slowest = max(slowest, run.duration / free.duration)
    return Reached(f"{slowest:.2f} x the time at full concurrency", enough=slowest <= 1.1)


CRISES: Final = (
    *(
        Crisis(
            f"away for 60 s ({how}), 10,000 ids",
            "0 lost, 60 sent, resumed in 5 s, no second wave",
            _minute_away(instead),
            compares=how == "refused",
        )
        for how, instead in (("refused", REFUSED), ("silent", SILENT), ("502", BAD_GATEWAY))
    ),
    Crisis("away for 5 minutes, patience 600 s", "0 lost", _five_minutes_away(600.0)),
    Crisis(
        "away for 5 minutes, patience 60 s", "the rest unsent, and why", _five_minutes_away(60.0)
    ),
    Crisis("30% fail, single calls", "load 1.2 x, fail fast, and why", _calls_in_a_brownout),
    Crisis(
        "30% fail, a batch", "0 lost, at most the healthy rate (2% are dice)", _batch_in_a_brownout
    ),
    *(
        Crisis(
            f"{clients} client{'s' * (clients > 1)} after a common outage",
            "peak 1.5 x capacity, no second collapse, 0 lost",
            _all_return(clients),
            compares=True,
        )
        for clients in (1, 20, 200)
    ),
    *(
        Crisis(
            f"collapses under load, {clients} client{'s' * (clients > 1)}",
            "goodput 80%, 0 lost",
            _too_much(clients),
            compares=True,
        )
        for clients in (1, 20)
    ),
    Crisis("healthy, with a long tail", "1.1 x the time without a limit", _uneven, compares=True),
)
