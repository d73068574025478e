"""Draws what a run has found: `python -m benchmarks.plots FILE.json FOLDER`.

The pictures look as those of the simulation do, on a light page and on a dark one, and are the same
to the byte for the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import lanes
from benchmarks.results import load
from benchmarks.table import calls_per_second, cpu_per_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.lanes import Lane
    from benchmarks.results import Results
    from benchmarks.sample import Setting

INK: Final = "#7d8590"
OURS: Final = "#2a93c9"
OTHERS: Final = "#d98324"
FLOORS: Final = "#2f9e6e"
MORE: Final = (
    "#d6455d", "#9670d6", "#b5651d", "#8a7a3d", "#4f9d9d", "#c46fb3", "#d98324", "#5f7fd0",
)  # fmt: skip
"""For the others, where each is a line."""
STYLE: Final = {
    "svg.hashsalt": "calls_async",
    "svg.fonttype": "none",  # letters as letters: smaller, and a reader can search them
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw every plot that there are figures for, as SVG; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for name, draw in PLOTS.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(8.0, 4.6), layout="constrained")
            if draw(results, figure.subplots()):
                files.append(folder / f"{name}.svg")
                figure.savefig(
                    files[-1], transparent=True, metadata={"Date": None, "Creator": None}
                )
    return files


def _colour(lane: Lane) -> str:
    if lane.where.startswith("ours:"):
        return OURS
    return FLOORS if lane in (lanes.FLOOR, lanes.FLOOR_UNREAD) else OTHERS


def _quick(results: Results) -> list[Setting]:
    return [
        setting
        for setting in results.settings()
        if not setting.latency and setting.scheme == "plain" and setting.loop == "asyncio"
    ]


def cpu(results: Results, axes: Any) -> bool:
    """CPU per call by client, as bars with their quartiles."""
    settings = _quick(results)
    if not settings:
        return False
    found = [
        (lane, cost)
        for lane in lanes.LANES
        if not lane.alone
        and (cost := results.spread(settings[0], lane.name, cpu_per_call)) is not None
    ]
    found.sort(key=lambda pair: pair[1].median, reverse=True)
    for place, (lane, cost) in enumerate(found):
        axes.barh(place, cost.median, color=_colour(lane), height=0.65)
        axes.plot((cost.low, cost.high), (place, place), color=INK, linewidth=1.6)
        axes.annotate(
            f"{cost.median:,.0f}", (cost.high, place), va="center", fontsize=9,
            xytext=(4, 0), textcoords="offset points",
        )  # fmt: skip
    axes.set_yticks(range(len(found)), [lane.name for lane, _ in found])
    # A client that costs twenty times as much would leave the others no room.
    axes.set_xscale("log")
    axes.set_xlabel("µs of CPU a call (logarithmic); the line goes from quartile to quartile")
    axes.set_title(_title(settings[0]), fontsize=11, loc="left")
    return True


def _title(setting: Setting) -> str:
    return f"{setting.server}, {setting.width} at once, {setting.scheme}, {setting.loop}"


def throughput(results: Results, axes: Any) -> bool:
    """Calls per second over calls at once."""
    settings = sorted(
        (setting for setting in results.settings() if setting.latency),
        key=lambda setting: setting.width,
    )
    if len(settings) < 2:
        return False
    colours = iter(MORE)
    for lane in lanes.LANES:
        points = [
            (setting.width, rate)
            for setting in settings
            if (rate := results.spread(setting, lane.name, calls_per_second)) is not None
        ]
        if not points or lane in (lanes.STREAM, lanes.STREAM_ORDINARY):
            continue
        colour = _colour(lane) if _colour(lane) != OTHERS else next(colours, INK)
        wide = 2.0 if lane is lanes.GATHER else 1.2
        style = "--" if lane is lanes.GATHER_ORDINARY else "-"
        at = [width for width, _ in points]
        axes.plot(
            at, [rate.median for _, rate in points], style, color=colour, label=lane.name,
            linewidth=wide,
        )  # fmt: skip
        axes.fill_between(
            at, [rate.low for _, rate in points], [rate.high for _, rate in points],
            color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
    widths = [setting.width for setting in settings]
    axes.plot(
        widths, [width / settings[0].latency for width in widths], ":", color=INK, linewidth=1.0,
        label="what the latency allows",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(widths, [f"{width:,}" for width in widths])
    axes.set_xlabel("calls at once")
    axes.set_ylabel("calls/s")
    axes.set_title(f"A server with {settings[0].latency * 1e3:g} ms", fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return True


def memory(results: Results, axes: Any) -> bool:
    """The peak of the memory over the number of ids."""
    rows = [row for row in results.memory if "failed" not in row]
    if len(rows) < 2:
        return False
    for way, colour in (("streamed", OURS), ("gathered", OTHERS)):
        points = [(row["ids"], row["peak"] / 1e6) for row in rows if row["way"] == way]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=way, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("ids")
    axes.set_ylabel("peak, MB")
    axes.set_title("Memory of the process", fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9)
    return True


PLOTS: Final[dict[str, Callable[[Results, Any], bool]]] = {
    "cpu": cpu,
    "throughput": throughput,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what `--save` has written.")
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    for file in draw_all(load(given.file), given.folder):
        print(file)


if __name__ == "__main__":
    main()
