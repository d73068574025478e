"""Draws what happened in a run: load, goodput and refusals, and what the client had learnt.

The pictures are the same to the byte every time. They have no background, and colours of medium
lightness, so that they can be read on a light page and on a dark one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs
import matplotlib as mpl
from matplotlib.figure import Figure

from calls_async import Limits
from tests.simulation.ailing import Away, BrownOut, Collapsing
from tests.simulation.crises import FAR, FULL, big_server
from tests.simulation.driver import Recording, arrive, simulate
from tests.simulation.rivals import Aimd
from tests.simulation.servers import TokenBucket, Unlimited, changing, steady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from tests.simulation.servers import Server

INK: Final = "#7d8590"
ASKED: Final = "#d98324"
GOOD: Final = "#2a93c9"
BAD: Final = "#d6455d"
PACE: Final = "#2f9e6e"
PERMITS: Final = "#9670d6"
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
BINS: Final = 160
"""Bins at most, so that no picture is large; a bin is a whole number of half seconds."""


@attrs.frozen
class Plot:
    """One picture.

    Attributes:
        name: Of its file.
        title: What happens in it.
        run: Makes the recording.
        until: Where it ends, in seconds.
        marks: (seconds, what happens then).
        limit: (seconds, the server's limit from then on).
    """

    name: str
    title: str
    run: Callable[[], Recording]
    until: float
    marks: tuple[tuple[float, str], ...] = ()
    limit: tuple[tuple[float, float], ...] = ()


def draw_all(folder: Path) -> None:
    """Draw every plot into the folder, as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        with mpl.rc_context(STYLE):
            figure = _drawn(plot)
            path = folder / f"{plot.name}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def _drawn(plot: Plot) -> Figure:
    run = plot.run()
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    load, learnt = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    load.set_title(plot.title, fontsize=11, loc="left", pad=24)  # the legend is below it
    _draw_load(load, run, plot)
    _draw_learnt(learnt, run, plot.until)
    for at, what in plot.marks:
        for axes in (load, learnt):
            axes.axvline(at, color=INK, linewidth=0.8, linestyle=":")
        load.annotate(what, (at, 0.98), xycoords=("data", "axes fraction"), va="top",
                      xytext=(3, 0), textcoords="offset points", fontsize=9)  # fmt: skip
    load.set_xlim(0.0, plot.until)
    learnt.set_xlabel("seconds")
    figure.align_ylabels()
    return figure


def _draw_load(axes: Axes, run: Recording, plot: Plot) -> None:
    width = max(0.5, math.ceil(plot.until / BINS * 2) / 2)
    refused = [r for r in run.requests if not r.accepted]
    for times, colour, label in (
        ([r.at for r in run.requests], ASKED, "offered"),
        ([r.answered for r in run.requests if r.accepted and r.answered], GOOD, "goodput"),
        ([r.at for r in refused], BAD, "in vain"),
    ):
        rates, edges = _rates(times, plot.until, width)
        axes.stairs(rates, edges, color=colour, label=label, linewidth=1.4)
    if plot.limit:
        at = [*(at for at, _ in plot.limit), plot.until]
        axes.stairs([rate for _, rate in plot.limit], at, color=INK, linestyle="--",
                    linewidth=1.0, baseline=None, label="what the server takes")  # fmt: skip
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0.0)
    # Above the axes on the right, where no curve is.
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 0.98), fontsize=9)


def _draw_learnt(axes: Axes, run: Recording, until: float) -> None:
    every = max(1, round(len([at for at, _ in run.paces if at < until]) / 500))
    paces = [(at, pace) for at, pace in run.paces[::every] if at < until]
    permits = [(at, limit) for at, limit in run.concurrencies[::every] if at < until]
    axes.plot(
        [at for at, _ in permits],
        [limit for _, limit in permits],
        color=PERMITS,
        label="concurrency",
        linewidth=1.2,
    )
    axes.set_ylabel("concurrency")
    axes.set_ylim(bottom=0.0)
    lines = [*axes.get_lines()]
    if any(pace is not None for _, pace in paces):
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        lines += other.plot(
            [at for at, _ in paces],
            [math.nan if pace is None else pace for _, pace in paces],
            color=PACE,
            label="pace (a gap: full speed)",
            linewidth=1.4,
        )
        other.set_ylabel("pace, starts/s")
        other.set_ylim(bottom=0.0)
    axes.legend(
        lines,
        [str(line.get_label()) for line in lines],
        frameon=False,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1.0, 0.97),
        fontsize=9,
    )


def _rates(
    times: Iterable[float], until: float, width: float
) -> tuple[Sequence[float], Sequence[float]]:
    """Events per second in bins, and the bins' edges."""
    bins = [0.0] * math.ceil(until / width)
    for at in times:
        if at < until:
            bins[int(at / width)] += 1.0 / width
    return bins, [n * width for n in range(len(bins) + 1)]


def _limited(before: float, after: float) -> Callable[[], Recording]:
    server = TokenBucket(rate=changing(before, 20.0, after))
    more = 15_000 if after == math.inf else int(after * 25)
    return lambda: simulate(server, ids=int(before * 20) + more, latency=FAR)


def _sick(
    server: Callable[[], Server], ids: int, clients: int = 1, *, blind: bool = False
) -> Callable[[], Recording]:
    return lambda: simulate(
        server(),
        ids=ids,
        clients=clients,
        latency=FAR,
        concurrency=Aimd if blind else None,
        limits=Limits(max_concurrency=FULL),
    )


PLOTS: Final = (
    Plot(
        "limit",
        "One client, a limit of 50/s (nginx, burst 10)",
        lambda: simulate(TokenBucket(rate=steady(50.0)), ids=2000, latency=FAR),
        until=40.0,
        limit=((0.0, 50.0),),
    ),
    Plot(
        "limit-doubles",
        "One client, a limit that doubles",
        _limited(50.0, 100.0),
        until=45.0,
        limit=((0.0, 50.0), (20.0, 100.0)),
    ),
    Plot(
        "limit-halves",
        "One client, a limit that halves",
        _limited(50.0, 25.0),
        until=45.0,
        limit=((0.0, 50.0), (20.0, 25.0)),
    ),
    Plot(
        "limit-disappears",
        "One client, a limit that disappears",
        _limited(50.0, math.inf),
        until=45.0,
        marks=((20.0, "no limit"),),
    ),
    Plot(
        "outage",
        "One client, an outage of 60 s",
        _sick(lambda: Away(server=Collapsing(), since=20.0, until=80.0), 10_000),
        until=110.0,
        marks=((20.0, "away"), (80.0, "back")),
        limit=((0.0, 200.0),),
    ),
    Plot(
        "brown-out",
        "Single calls, 100/s, of which 30% fail",
        lambda: arrive(BrownOut(server=Unlimited()), rate=100.0, seconds=60.0, latency=0.05),
        until=60.0,
    ),
    Plot(
        "outage-fleet",
        "200 clients, an outage of 30 s",
        _sick(lambda: Away(server=big_server(1), since=10.0, until=40.0), 150, 200),
        until=70.0,
        marks=((10.0, "away"), (40.0, "back")),
        limit=((0.0, 1000.0),),
    ),
    Plot(
        "collapse",
        "20 clients at a server that collapses under load",
        _sick(Collapsing, 900, 20),
        until=120.0,
        limit=((0.0, 200.0),),
    ),
    Plot(
        "collapse-aimd",
        "The same, without regard to how long answers take",
        _sick(Collapsing, 900, 20, blind=True),
        until=120.0,
        limit=((0.0, 200.0),),
    ),
)
