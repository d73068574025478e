"""What many calls take of the memory; the rule: each figure is the peak of a fresh process.

Growth per id is what the peak has more than before the ids that are counted, by their number: a
stream's tends to nothing, and what `gather_calls` returns is kept by whoever asked for it. The
calls go over sockets, to the asyncio server without latency.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from benchmarks.machine import cores, on_core
from benchmarks.record import ids, record
from benchmarks.rivals.ours import client_of
from benchmarks.servers import asyncio_server
from benchmarks.target import Target
from calls_async import Fetched
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: Final = ("streamed", "gathered")
NUMBERS: Final = (10_000, 100_000, 1_000_000)
KEPT: Final = 10_000
"""Records that are kept, to find what one takes."""
WIDTH: Final = 64
WARM: Final = 2_000
SHARE: Final = 0.7
"""Of the memory that is free: what would need more is not tried."""


def measured(numbers: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each way and each number of ids."""
    core, other = cores()
    rows: list[dict[str, Any]] = []
    with asyncio_server(0.0, None, other) as served:
        for way in WAYS:
            growth = 0.0
            for number in numbers:
                if growth * number > SHARE * free_memory():
                    needed = growth * number / 1e9
                    rows.append({"way": way, "ids": number, "failed": f"needs {needed:.1f} GB"})
                    continue
                command = [sys.executable, "-m", "benchmarks.memory", "--way", way]
                command += ["--url", served.plain, "--ids", str(number)]
                with on_core(core):
                    done = subprocess.run(  # noqa: S603 (this module)
                        command, capture_output=True, text=True, check=False
                    )
                if done.returncode:
                    problem = (done.stderr.strip().splitlines() or ["no output"])[-1]
                    rows.append({"way": way, "ids": number, "failed": problem[:200]})
                    continue
                row: dict[str, Any] = json.loads(done.stdout)
                growth = row["growth"]
                rows.append(row)
    return rows


async def fetched(way: str, url: str, number: int) -> dict[str, Any]:
    """Fetch so many calls in this process; its row."""
    async with client_of(Target(url=url, width=WIDTH), "lane") as client:
        await _streamed(client, WARM)
        gc.collect()
        before, loop = peak(), asyncio.get_running_loop()
        began = loop.time()
        if way == "streamed":
            await _streamed(client, number)
        else:
            calls = await client.gather_calls(ids(number, seed=1))
            assert len(calls) == number
        took, most = loop.time() - began, peak()
    growth = (most - before) / number
    return {"way": way, "ids": number, "peak": most, "growth": growth, "seconds": took}


async def _streamed(client: Any, number: int) -> None:
    async with client.stream_calls(ids(number, seed=1)) as outcomes:
        came = 0
        async for outcome in outcomes:
            came += isinstance(outcome, Fetched)
    assert came == number


def peak() -> int:
    """The most bytes of memory that this process has had.

    Not `ru_maxrss` where there is something else: on Linux it begins with what that process had
    which started this one.
    """
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    import resource  # noqa: PLC0415 (Windows has none)

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def free_memory() -> float:
    """Bytes that could be had without swapping; endless where the system does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            return int(found[1]) * 1024
    return float("inf")


def kept(number: int = KEPT) -> dict[str, float]:
    """Bytes of one kept record: as a dict that orjson makes, and as a `Call`."""
    bodies = [record(call_id.encode()) for call_id in ids(number, seed=2)]
    return {"dict": _traced(bodies, orjson.loads), "Call": _traced(bodies, decode_call)}


def _traced(bodies: list[bytes], make: Callable[[bytes], object]) -> float:
    make(bodies[0])  # what is made once, and kept, is no record's
    gc.collect()
    tracemalloc.start()
    try:
        held: list[object] = [None] * len(bodies)
        before = tracemalloc.get_traced_memory()[0]
        for place, body in enumerate(bodies):
            held[place] = make(body)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(bodies)
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory of many calls.")
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--ids", type=int, required=True)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(fetched(given.way, given.url, given.ids))))


if __name__ == "__main__":
    main()
