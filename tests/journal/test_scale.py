"""What large jobs take: memory that does not grow, and a start that does not wait for the past."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing

import pytest

from calls_async.journal import Journal
from tests.kit import run_python

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the peak of the memory is read from /proc"
)

PEAK = """
def peak():
    # Not `getrusage`: on Linux a new process begins with the peak of the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
"""

RESUME = """
import asyncio, json, sys, time

began = time.perf_counter()
from calls_async import AttemptStarted
from calls_async.journal import Journal, export_calls
from calls_async.testing import FakeTransport, fake_client

def unread():
    raise AssertionError("the source was read")
    yield

async def job(path, digest):
    first = []
    def hook(event):
        if isinstance(event, AttemptStarted) and not first:
            first.append(time.perf_counter() - began)
    with Journal.open(path) as journal:
        async with fake_client(FakeTransport(), hooks=[hook]) as client:
            ids = unread() if digest else None
            status = await export_calls(client, ids, journal, digest=digest)
    print(json.dumps({"first": first[0], "peak": peak(), "left": status.left}))

asyncio.run(job(PATH, DIGEST))
"""


def make(path, number, left):
    """A journal of so many ids, of which all but the last `left` are finished: by SQL alone."""
    Journal.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("BEGIN")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        db.execute(
            f"INSERT INTO ids {numbers} SELECT i,"  # noqa: S608 (our own words)
            " printf('%08x-0001-4d5c-8b1b-%012d', i, i) FROM n",
            (number,),
        )
        db.execute(
            f"INSERT INTO fetched {numbers} SELECT i,"  # noqa: S608 (our own words)
            " 1.7e9 + i / 1e3, 1, 0.05, NULL, x'7b7d' FROM n",
            (number - left,),
        )
        db.execute("INSERT INTO pending SELECT place FROM ids WHERE place > ?", (number - left,))
        db.execute("UPDATE job SET asked = ?, fetched = ?", (number, number - left))
        db.execute("INSERT INTO sources VALUES ('sha256:ids', ?, 1)", (number,))
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize(
    ("number", "digest"),
    [
        (20_000, "sha256:ids"),
        pytest.param(10_000_000, "sha256:ids", marks=pytest.mark.slow),
        pytest.param(10_000_000, None, marks=pytest.mark.slow),
    ],
)
async def test_a_finished_past_costs_a_resumed_job_nothing(tmp_path, number, digest):
    """With all but 1,000 ids finished, fetching starts within 5 s and needs less than 150 MB."""
    path = tmp_path / "calls.journal"
    await asyncio.to_thread(make, path, number, 1_000)
    code = (PEAK + RESUME).replace("PATH", repr(str(path))).replace("DIGEST", repr(digest))
    returncode, out, err = await run_python(code)
    path.unlink()  # gigabytes, which pytest would keep
    assert returncode == 0, err
    told = json.loads(out)
    print(number, told)  # noqa: T201 (the long form's figures)
    assert told["left"] == 0
    assert told["peak"] < 150
    if number > 1_000_000:  # a bound on the clock is for the long form alone
        assert told["first"] < 5


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

FETCH = """
import asyncio, json, time
from calls_async import CallsClient
from calls_async.journal import Journal, export_calls

async def job():
    ids = (f"call-{position}" for position in range(NUMBER))
    began, used = time.perf_counter(), time.process_time()
    with Journal.open(PATH) as journal:
        async with CallsClient("sk_test_x", base_url="http://127.0.0.1:PORT") as client:
            status = await export_calls(client, ids, journal)
    print(json.dumps({
        "fetched": status.fetched,
        "left": status.left,
        "peak": peak(),
        "rate": NUMBER / (time.perf_counter() - began),
        "cpu": (time.process_time() - used) / NUMBER * 1e6,
    }))

asyncio.run(job())
"""


@pytest.fixture
async def port():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
    )
    yield int(await process.stdout.readline())
    process.kill()
    await process.wait()


async def peak_of(path, port, number):
    code = (PEAK + FETCH).replace("PATH", repr(str(path))).replace("PORT", str(port))
    returncode, out, err = await run_python(code.replace("NUMBER", str(number)))
    path.unlink(missing_ok=True)  # gigabytes, which pytest would keep
    assert returncode == 0, err
    told = json.loads(out)
    print(told)  # noqa: T201 (the long form's figures)
    assert (told["fetched"], told["left"]) == (number, 0)
    return told["peak"]


@pytest.mark.slow
async def test_the_memory_of_a_job_does_not_grow_with_it(tmp_path, port):
    """1,000,000 ids end to end into a journal: the peak is within 30 MB of that of 10,000."""
    few = await peak_of(tmp_path / "few", port, 10_000)
    many = await peak_of(tmp_path / "many", port, 1_000_000)
    assert many <= few + 30
