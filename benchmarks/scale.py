"""What a job on Dask costs: CPU per call beside one process, per record, per finished id.

Run it from the checkout: `python -m benchmarks.scale`. The first table fetches from a quick server
in a process of its own: with `stream_calls`, and on a local cluster, whose workers' CPU is that of
their processes, all threads. The second makes a part of random records, without any fetching. The
third reads ids that are finished. The machine's other work is in the wall clock, and hardly in CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client, LocalCluster

from benchmarks.journal import SERVER
from calls_async import CallsClient, structure_call
from calls_async.engines._chunks import chunks
from calls_async.engines._parts import CALLS, ERRORS, REPLACING, Part
from calls_async.engines._place import Place
from calls_async.engines.dask import CHUNK_SIZE, export_calls_dask
from calls_async.journal import _parquet
from calls_async.testing import make_record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def cpu() -> float:
    """Seconds of CPU of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ids_of(number: int) -> Iterator[str]:
    """So many ids, none of them kept."""
    return (
        str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(number)
    )


@contextmanager
def serving() -> Iterator[None]:
    """The quick server, as the environment names it."""
    command = [sys.executable, "-c", SERVER]
    process = subprocess.Popen(  # noqa: S603 (it is ours)
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    os.environ["CALLS_API_KEY"] = "sk_test_bench"
    os.environ["CALLS_BASE_URL"] = f"http://127.0.0.1:{int(process.stdout.readline())}"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


async def streamed(number: int) -> None:
    async with CallsClient() as client, client.stream_calls(ids_of(number)) as outcomes:
        async for _ in outcomes:
            pass


def row(name: str, calls: int, seconds: float, wall: float) -> None:
    print(f"| {name} | {seconds / calls * 1e6:.0f} | {calls / wall:,.0f} |", flush=True)


def fetching(number: int, workers: list[int]) -> None:
    """CPU per call, and calls a second."""
    print("| | µs of CPU a call | calls/s |\n|---|--:|--:|")
    asyncio.run(streamed(2_000))
    before, began = cpu(), time.perf_counter()
    asyncio.run(streamed(number))
    row("`stream_calls`, one process", number, cpu() - before, time.perf_counter() - began)
    for count in workers:
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=4,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,
            tempfile.TemporaryDirectory() as folder,
        ):
            export_calls_dask(client, ids_of(2_000), f"{folder}/warm", config={}, chunk_size=500)
            before, here = sum(client.run(cpu).values()), cpu()
            began = time.perf_counter()
            export_calls_dask(client, ids_of(number), f"{folder}/out", config={})
            wall = time.perf_counter() - began
            row(f"Dask, workers: {count}", number, sum(client.run(cpu).values()) - before, wall)
            row("its scheduler and driver", number, cpu() - here, wall)


def writing(number: int) -> None:
    """CPU and bytes for a record of a part."""
    calls = [structure_call(make_record(call_id)) for call_id in ids_of(number)]
    with tempfile.TemporaryDirectory() as folder:
        place = Place.at(folder, None)
        place.prepare(CALLS, ERRORS, REPLACING)
        before = cpu()
        table = _parquet.calls_table([_parquet.row_of(call) for call in calls])
        columns = cpu()
        Part(place=place, name="part-00000000-00").finish(table, _parquet.failures_table([]))
        written = cpu()
        (path,) = Path(folder, CALLS).iterdir()
        size = path.stat().st_size
    print("| a record of a part | |\n|---|--:|")
    print(f"| µs of CPU to make columns of it | {(columns - before) / number * 1e6:.1f} |")
    print(f"| µs of CPU to write it | {(written - columns) / number * 1e6:.1f} |")
    print(f"| bytes | {size / number:.0f} |")


def passing(number: int) -> None:
    """CPU for an id that is finished, and the memory of the process."""
    before = cpu()
    count = sum(1 for _ in chunks(ids_of(number), CHUNK_SIZE))
    used = cpu() - before
    before = cpu()
    assert sum(1 for _ in ids_of(number)) == number
    used -= cpu() - before
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| an id that is passed over | |\n|---|--:|")
    print(f"| µs of CPU, reading apart | {used / number * 1e6:.2f} |")
    print(
        f"| peak memory of this process after {number:,} ids, {count:,} chunks, MB | {most:.0f} |"
    )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ids", type=int, default=2_000_000)
    given = parser.parse_args()
    passing(given.ids)
    writing(CHUNK_SIZE)
    with serving():
        fetching(given.calls, given.workers)


if __name__ == "__main__":
    main()
