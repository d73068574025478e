"""The tables; the rule: each figure is a median with its quartiles, and a ratio is one of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.lanes import BARE_ALONE, LANES, SCRIPT
from benchmarks.spread import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.lanes import Lane
    from benchmarks.results import Results
    from benchmarks.sample import Sample, Setting

NOTES = """\
CPU is the client process's, user and system, all its threads; client and servers have a core each.
[from to] are quartiles; a ratio is the median of the rounds' own ratios. "server" is the share of
its core that the server used meanwhile: near 1, calls/s are the server's and not the client's.
All peers build the same `Call` with this library's decoder, so that only the transport differs; the
user's script has cattrs' own; bare aiohttp stops at `orjson.loads`. Calls at once are as many
workers over one iterator, in the script as many tasks as ids with a semaphore. The Rust clients'
threads share the client's core. pycurl runs without an event loop.
"""


def machine(found: dict[str, Any]) -> str:
    """Where it was measured."""
    packages = " ".join(f"{name} {version}" for name, version in found["packages"].items())
    pinned = found["pinned"]
    where = "nothing is pinned" if pinned is None else (
        f"client on core {pinned['client']}, servers on core {pinned['server']}"
        + (" (the same one)" if pinned["client"] == pinned["server"] else "")
    )  # fmt: skip
    return (
        f"{found['date']}: {found['processor']}, {found['cores']} cores; {where}\n"
        f"{found['python']} ({found['compiled']}), {found['system']}\n{packages}\n"
    )


def clients(results: Results, setting: Setting) -> Iterator[str]:
    """The table of one setting at one width, and that of single calls."""
    rounds = len({sample.round for sample in results.samples})
    where = f"{setting.server}, {setting.scheme}, {setting.loop}: {rounds} rounds of"
    for alone, base in ((False, SCRIPT), (True, BARE_ALONE)):
        lanes = [lane for lane in LANES if lane.alone == alone]
        rows = [row for lane in lanes if (row := _row(results, setting, lane, base)) is not None]
        if rows:
            width = "one at a time" if alone else f"{setting.width} at once"
            against = f"x {base.name}".removesuffix(", one at a time")
            yield f"\n{where} {setting.calls:,} calls, {width}"
            yield (f"{'':32}{'µs CPU a call':>22}{against:>24}{'calls/s':>9}{'server':>8}")
            yield from rows


def _row(results: Results, setting: Setting, lane: Lane, base: Lane) -> str | None:
    if reason := results.failed(setting, lane.name):
        return f"{lane.name:32}  {reason}"
    cpu = results.spread(setting, lane.name, cpu_per_call)
    rate = results.spread(setting, lane.name, calls_per_second)
    if cpu is None or rate is None:
        return None
    ratio = results.ratio(setting, lane.name, base.name, cpu_per_call)
    busy = results.spread(setting, lane.name, _server_share)
    return (
        f"{lane.name:32}{shown(cpu, '.0f'):>22}"
        f"{'' if ratio is None else shown(ratio, '.2f'):>24}{rate.median:9,.0f}"
        f"{'' if busy is None else f'{busy.median:.2f}':>8}"
    )


def widths(
    results: Results, settings: Sequence[Setting], title: str, of: Callable[[Sample], float]
) -> Iterator[str]:
    """A table of one figure with a column for each width."""
    yield f"\n{settings[0].server}, {settings[0].scheme}, {settings[0].loop}: {title}, at once"
    yield f"{'':32}" + "".join(f"{setting.width:>24,}" for setting in settings)
    for lane in LANES:
        found = [results.spread(setting, lane.name, of) for setting in settings]
        if any(found):
            yield f"{lane.name:32}" + "".join(
                f"{'-' if each is None else shown(each, ',.0f'):>24}" for each in found
            )
        elif reason := results.failed(settings[0], lane.name):
            yield f"{lane.name:32}  {reason}"


def components(figures: dict[str, list[float]]) -> Iterator[str]:
    """The table of the components."""
    yield f"\n{'component':40}{'µs':>30}"
    for name, seconds in figures.items():
        yield f"{name:40}{shown(spread(each * 1e6 for each in seconds), '.3f'):>30}"


def memory(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table of the memory."""
    yield f"\n{'memory':16}{'ids':>12}{'peak MB':>10}{'bytes more an id':>18}{'seconds':>10}"
    for row in rows:
        start = f"{row['way']:16}{row['ids']:12,}"
        if "failed" in row:
            yield f"{start}  {row['failed']}"
        else:
            yield f"{start}{row['peak'] / 1e6:10.1f}{row['growth']:18,.1f}{row['seconds']:10.1f}"


def kept(figures: dict[str, float]) -> str:
    """What one kept record takes."""
    each = ", ".join(f"{name} {size:,.0f} bytes" for name, size in figures.items())
    return f"\none kept record: {each}"


def shown(figures: Spread, form: str) -> str:
    """A median with its quartiles."""
    if figures.rounds == 1:
        return f"{figures.median:{form}}"
    return f"{figures.median:{form}} [{figures.low:{form}} {figures.high:{form}}]"


def cpu_per_call(sample: Sample) -> float:
    """Microseconds of the client's CPU."""
    return sample.cpu_per_call


def calls_per_second(sample: Sample) -> float:
    """Calls per second."""
    return sample.rate


def _server_share(sample: Sample) -> float | None:
    return None if sample.server is None else sample.server / sample.wall
