"""One measurement; the rule: a process measures one lane once, and prints it as JSON.

The client is open and warm before the clock runs, and what the start left over is collected. The
collector is on, as users have it. CPU is that of the process, user and system, all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from benchmarks.machine import busy_seconds, on_core
from benchmarks.record import ids
from benchmarks.target import UNSTEADY, Target, check

if TYPE_CHECKING:
    from benchmarks.lanes import Lane
    from benchmarks.machine import Served

LONGEST: Final = 60.0
"""Seconds after which a lane is given up."""
WARM: Final = 200
"""Calls before the clock runs, at least, unless fewer are measured."""
STARTS: Final = 4
"""Further ones, for each one at once: they open the connections, and end the slow start. A client
that doubles its speed in each round trip needs one or two; to open a connection costs as much as
some calls."""
DESCRIPTORS: Final = 8_192
"""Connections and some more, for those who open 1,024."""

Runner: TypeAlias = Callable[[Coroutine[Any, Any, dict[str, Any]]], dict[str, Any]]


@attrs.frozen(kw_only=True)
class Setting:
    """What all lanes of a table share.

    Attributes:
        server: The server's name.
        latency: Seconds that it takes for an answer.
        scheme: `plain` or `tls`.
        loop: `asyncio` or `uvloop`.
        width: Calls at once, of lanes that make more than one.
        calls: Calls that are measured, of lanes that make all of them.
    """

    server: str
    latency: float
    scheme: str
    loop: str
    width: int
    calls: int


@attrs.frozen(kw_only=True)
class Sample:
    """What one process measured.

    Attributes:
        lane: The lane's name.
        setting: Where.
        round: The round that it belongs to, from 0.
        calls: Calls that were measured.
        wall: Seconds that the calls took.
        cpu: Seconds of CPU that the client used for them.
        server: Seconds of CPU that the server used meanwhile; `None`: not known.
    """

    lane: str
    setting: Setting
    round: int
    calls: int
    wall: float
    cpu: float
    server: float | None = None

    @property
    def cpu_per_call(self) -> float:
        """Microseconds of CPU."""
        return self.cpu / self.calls * 1e6

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.wall


class LaneFailedError(Exception):
    """A lane did not run to its end."""


def take(lane: Lane, setting: Setting, served: Served, *, number: int, core: int | None) -> Sample:
    """Measure a lane in a process of its own.

    Raises:
        LaneFailedError: It did not work.
    """
    url, authority = (served.plain, []) if setting.scheme == "plain" else (
        served.tls, ["--authority", str(served.authority)]
    )  # fmt: skip
    calls = max(1, round(setting.calls * lane.share))
    command = [
        *(sys.executable, "-m", "benchmarks", "--lane", lane.name, "--url", url, *authority),
        *("--loop", setting.loop, "--calls", str(calls), "--seed", str(number)),
        *("--width", str(1 if lane.alone else setting.width), "--server", str(served.process)),
    ]
    with on_core(core):
        try:
            done = subprocess.run(  # noqa: S603 (this package)
                command, capture_output=True, text=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            raise LaneFailedError(f"{UNSTEADY}, or too slow: {LONGEST:g} s") from None
    if done.returncode:
        raise LaneFailedError((done.stderr.strip().splitlines() or ["no output"])[-1][:200])
    told = json.loads(done.stdout.splitlines()[-1])
    return Sample(
        lane=lane.name,
        setting=setting,
        round=number,
        calls=told["calls"],
        wall=told["wall"],
        cpu=told["cpu"],
        server=told["server"],
    )


# --- In the lane's process -----------------------------------------------------------------------


def measure(
    lane: Lane, target: Target, *, loop: str, calls: int, seed: int, server: int | None = None
) -> dict[str, Any]:
    """Measure a lane in this process; what is printed."""
    return runner(loop)(_measured(lane, target, calls, seed, server))


async def _measured(
    lane: Lane, target: Target, calls: int, seed: int, server: int | None
) -> dict[str, Any]:
    number = WARM + STARTS * target.width if calls > WARM else calls
    warm = list(ids(number, seed=-1))
    wanted = list(ids(calls, seed=seed))
    async with lane.load()(target) as run:
        check(warm, await run(warm))
        gc.collect()
        before = None if server is None else busy_seconds(server)
        wall, cpu = time.perf_counter(), time.process_time()
        results = await run(wanted)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = None if server is None else busy_seconds(server)
        check(wanted, results)
    used = None if before is None or after is None else after - before
    found = {"lane": lane.name, "calls": calls, "width": target.width}
    return found | {"wall": wall, "cpu": cpu, "server": used}


def runner(loop: str) -> Runner:
    """What runs a coroutine on this event loop."""
    if loop == "asyncio":
        return asyncio.run
    import uvloop  # noqa: PLC0415 (not everybody has it)

    run: Runner = uvloop.run
    return run


def raise_limit() -> None:
    """Have as many descriptors as connections are needed."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 (Windows has none)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < DESCRIPTORS:
            most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
