"""What the journal costs: CPU per call beside the same calls without it, and per record alone.

Run it from the checkout: `python benchmarks/journal.py`. The first table fetches from a server in a
process of its own, with `stream_calls` and with `export_calls`, interleaved; the figures are CPU of
this process, all threads. The ratio is that of the best rounds, which the rest of the machine has
disturbed least. The second table writes random ids, and their records, without any fetching, in
the transactions that the writer makes. Only the ratios mean anything on another machine, and the
time on the wall depends on the disk: `--folder` says where to write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from calls_async import CallsClient, Fetched, structure_call
from calls_async.journal import Journal, export_calls
from calls_async.journal._journal import store_of
from calls_async.journal._writer import IDS
from calls_async.testing import record_body

ROUNDS = 12
CALLS = 2_000
RECORDS = 1_000_000
OUTCOMES = 100
"""Outcomes in one transaction, as many as 2,000 calls a second gather in `GATHER` seconds."""

SERVER = """
import asyncio
from calls_async.testing import record_body

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        for request in requests:
            call_id = request.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            body = record_body(call_id)
            self.transport.write(
                b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n"
                b"Content-Length: %d\\r\\n\\r\\n%b" % (len(body), body)
            )

async def serve():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(serve())
"""
"""A quick one: the sandbox takes more CPU for an answer than the client does for its call."""


def ids(number: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(number)]


async def beside(folder: Path, base_url: str, key: str) -> None:
    """The table of CPU per call, without and with a journal."""
    rounds: dict[str, list[float]] = {"stream_calls": [], "export_calls": []}
    rates: dict[str, list[float]] = {"stream_calls": [], "export_calls": []}
    async with CallsClient(key, base_url=base_url) as client:
        await client.gather_calls(ids(500, 0))  # connections and caches are warm
        for number in range(ROUNDS):
            wanted = ids(CALLS, number + 1)
            for way, times in rounds.items():
                wall, cpu = time.perf_counter(), time.process_time()
                if way == "stream_calls":
                    async for outcome in client.stream_calls(wanted):
                        assert isinstance(outcome, Fetched)
                else:
                    with Journal.open(folder / f"round-{number}") as journal:
                        status = await export_calls(client, wanted, journal)
                    assert status.fetched == CALLS
                times.append((time.process_time() - cpu) / CALLS * 1e6)
                rates[way].append(CALLS / (time.perf_counter() - wall))
    bare = min(rounds["stream_calls"])
    print(f"{'way':20}{'µs CPU a call':>15}{'median':>8}{'worst':>8}{'ratio':>8}{'calls/s':>10}")
    for way, times in rounds.items():
        best, median, rate = min(times), statistics.median(times), max(rates[way])
        print(f"{way:20}{best:15.0f}{median:8.0f}{max(times):8.0f}{best / bare:8.3f}{rate:10.0f}")


def alone(folder: Path, records: int) -> None:
    """The table of CPU and time per id and per record, without fetching."""
    bodies = [record_body(call_id) for call_id in ids(512, 0)]
    call = structure_call(json.loads(bodies[0]))
    print(f"\n{'step':20}{'rows':>10}{'µs CPU':>10}{'µs':>8}{'peak MB':>9}")
    with Journal.open(folder / "alone") as journal:
        store = store_of(journal)
        draw = random.Random(1)
        wall = cpu = 0.0
        for start in range(0, records, IDS):
            number = min(IDS, records - start)
            batch = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(number)]
            began, used = time.perf_counter(), time.process_time()
            store.write(batch, known=0)
            cpu += time.process_time() - used
            wall += time.perf_counter() - began
        report("ids", records, cpu, wall)
        place = 0
        began, used = time.perf_counter(), time.process_time()
        while page := store.pending(place):
            place = page[-1][0]
            for start in range(0, len(page), OUTCOMES):
                settled = [
                    (where, time.time(), Fetched(
                        id=call_id, call=call, raw=bodies[where % 512], attempts=1, elapsed=0.02,
                        request_id="req-1",
                    ))
                    for where, call_id in page[start : start + OUTCOMES]
                ]  # fmt: skip
                store.write((), settled, known=0)
        report("records", records, time.process_time() - used, time.perf_counter() - began)
        size = sum(path.stat().st_size for path in folder.glob("alone*"))
        print(f"{size / records:.0f} bytes a record, {len(bodies[0])} of them the first one's body")


def report(step: str, rows: int, cpu: float, wall: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{step:20}{rows:10}{cpu / rows * 1e6:10.1f}{wall / rows * 1e6:8.1f}{peak:9.0f}")


def main() -> None:
    options = argparse.ArgumentParser(description="What the journal costs.")
    options.add_argument("--records", type=int, default=RECORDS)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        with subprocess.Popen(  # noqa: S603 (the code is this file's)
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            asyncio.run(beside(Path(folder), f"http://127.0.0.1:{port}", "sk_test_benchmark"))
            server.kill()
        alone(Path(folder), given.records)


if __name__ == "__main__":
    main()
