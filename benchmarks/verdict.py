"""What the library must reach; the rule: the ratios are those of the issue, and a miss is a mark.

Nothing here ends with an error: a ratio on a busy machine says too little for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from benchmarks import lanes
from benchmarks.spread import Mark, Spread, mark, spread
from benchmarks.table import calls_per_second, cpu_per_call, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.lanes import Lane
    from benchmarks.results import Results
    from benchmarks.sample import Sample, Setting

MANY: Final = 1_000_000
FEW: Final = 10_000
"""Ids whose peaks of memory are compared."""


@attrs.frozen(kw_only=True)
class Promise:
    """One ratio.

    Attributes:
        ours: What is measured.
        against: What it is compared with.
        bound: What the ratio is at most.
        at_least: Whether it is at least that instead.
        find: Finds the ratio, and whom it was measured against where that is not fixed.
    """

    ours: str
    against: str
    bound: float
    at_least: bool = False
    find: Callable[[Results], tuple[Spread | None, str]]


def table(results: Results) -> Iterator[str]:
    """All promises, with what was measured."""
    yield f"\n{'ours':56}{'against':50}{'bound':>8}  {'measured':24}"
    for promise in PROMISES:
        found, who = promise.find(results)
        against = f"{promise.against} ({who})" if who else promise.against
        bound = f"{'>=' if promise.at_least else '<='} {promise.bound:g}"
        told = "" if found is None else shown(found, ".3f")
        verdict = mark(found, promise.bound, at_least=promise.at_least)
        yield f"{promise.ours:56}{against:50}{bound:>8}  {told:24}{verdict}".rstrip()


def marks(results: Results) -> list[Mark]:
    """The mark of each promise."""
    return [
        mark(promise.find(results)[0], promise.bound, at_least=promise.at_least)
        for promise in PROMISES
    ]


# --- Where the figures are -----------------------------------------------------------------------


def _quick(results: Results) -> Setting | None:
    """The setting of the CPU ratios: no latency, plain, asyncio, as many at once as by default."""
    return next(
        (
            setting
            for setting in results.settings()
            if not setting.latency and setting.scheme == "plain" and setting.loop == "asyncio"
        ),
        None,
    )


def _slow(results: Results) -> Setting | None:
    """The setting of the throughput."""
    return next(
        (
            setting
            for setting in results.settings()
            if setting.latency and setting.loop == "asyncio" and setting.width == 1024
        ),
        None,
    )


def _cpu(ours: Lane, *against: Lane) -> Callable[[Results], tuple[Spread | None, str]]:
    def find(results: Results) -> tuple[Spread | None, str]:
        setting = _quick(results)
        if setting is None:
            return None, ""
        # Of several the cheapest.
        costs = {
            lane.name: cost.median
            for lane in against
            if (cost := results.spread(setting, lane.name, cpu_per_call)) is not None
        }
        if not costs:
            return None, ""
        name = min(costs, key=costs.__getitem__)
        who = name if len(against) > 1 else ""
        return results.ratio(setting, ours.name, name, cpu_per_call), who

    return find


def _throughput(results: Results) -> tuple[Spread | None, str]:
    setting = _slow(results)
    if setting is None:
        return None, ""
    of: Callable[[Sample], float] = calls_per_second
    return results.ratio(setting, lanes.GATHER.name, lanes.SCRIPT.name, of), ""


def _instructions(ours: str, against: str) -> Callable[[Results], tuple[Spread | None, str]]:
    def find(results: Results) -> tuple[Spread | None, str]:
        counted = results.instructions
        if ours not in counted or against not in counted:
            return None, ""
        return spread([counted[ours] / counted[against]]), ""

    return find


def _kept(results: Results) -> tuple[Spread | None, str]:
    kept = results.kept
    return (spread([kept["Call"] / kept["dict"]]) if kept else None), ""


def _peak(results: Results) -> tuple[Spread | None, str]:
    peaks = {row["ids"]: row["peak"] for row in results.memory if row["way"] == "streamed"}
    if MANY not in peaks or FEW not in peaks:
        return None, ""
    return spread([peaks[MANY] / peaks[FEW]]), ""


PROMISES: Final = (
    Promise(
        ours="CPU of gather_calls, ordinary transport",
        against="the user's script",
        bound=0.45,
        find=_cpu(lanes.GATHER_ORDINARY, lanes.SCRIPT),
    ),
    Promise(
        ours="CPU of gather_calls, bulk lane",
        against="the user's script",
        bound=0.15,
        find=_cpu(lanes.GATHER, lanes.SCRIPT),
    ),
    Promise(
        ours="CPU of gather_calls, bulk lane",
        against="the fastest Rust-backed peer",
        bound=0.8,
        find=_cpu(lanes.GATHER, *lanes.RUST),
    ),
    Promise(
        ours="CPU of gather_calls, bulk lane",
        against="sockets by hand, the same objects built",
        bound=1.6,
        find=_cpu(lanes.GATHER, lanes.FLOOR),
    ),
    Promise(
        ours="CPU of get_call one at a time, ordinary transport",
        against="bare aiohttp get + read + orjson",
        bound=1.25,
        find=_cpu(lanes.GET_ORDINARY, lanes.BARE_ALONE),
    ),
    Promise(
        ours="CPU of get_call one at a time, whichever transport",
        against="bare aiohttp get + read + orjson",
        bound=1.0,
        find=_cpu(lanes.GET, lanes.BARE_ALONE),
    ),
    Promise(
        ours="calls/s at 20 ms, 1,024 at once, bulk lane",
        against="the user's script",
        bound=8.0,
        at_least=True,
        find=_throughput,
    ),
    Promise(
        ours="memory of one kept Call",
        against="a dict of the same record from orjson",
        bound=0.6,
        find=_kept,
    ),
    Promise(
        ours="instructions of gather_calls, ordinary, policies on",
        against="off",
        bound=1.03,
        find=_instructions("gather_calls, ordinary", "gather_calls, ordinary, off"),
    ),
    Promise(
        ours="instructions of gather_calls, bulk lane, policies on",
        against="off",
        bound=1.12,
        find=_instructions("gather_calls, lane", "gather_calls, lane, off"),
    ),
    Promise(
        ours="instructions of gather_calls, bulk lane",
        against="the user's script",
        bound=0.16,
        find=_instructions("gather_calls, lane", "the user's script"),
    ),
    Promise(
        ours="peak memory of stream_calls with 1,000,000 ids",
        against="with 10,000 ids",
        bound=1.05,
        find=_peak,
    ),
)
