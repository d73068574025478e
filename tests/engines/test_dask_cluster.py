"""A cluster whose processes die: no id is lost, nothing is fetched twice, the rate holds.

The scheduler and the workers are started by the commands of the guide.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from calls_async import EngineError
from calls_async.engines.dask import export_calls_dask
from calls_async.engines.redis import SharedPace
from tests.cli.conftest import spawn
from tests.engines.kit import (
    KEY,
    PATIENCE,
    REASON,
    Server,
    busiest,
    check_records,
    guide,
    rows_of,
    serving,
)
from tests.kit import call_ids
from tests.peers.process import free_ports, happens, is_open, killed, launched

distributed = pytest.importorskip("distributed", reason=REASON)
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

LOOPBACK = "127.0.0.1"
PORT = "8786"
COMMANDS = dict(
    reversed(command.groups())
    for command in re.finditer(r"^\$ (dask (scheduler|worker) .*)", guide(), re.MULTILINE)
)
"""How the guide starts each of the two."""
PAGES = (
    "/info/main/workers.html", "/info/main/logs.html", "/json/identity.json", "/json/counts.json",
    "/metrics", "/status", "/tasks", "/statistics/metrics.json",
)  # fmt: skip


class Cluster:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, folder, **variables):
        self.folder = folder
        self.variables = {"CALLS_API_KEY": KEY, **variables}
        self.ports = free_ports("scheduler", "dashboard")
        self.address = f"tcp://{LOOPBACK}:{self.ports['scheduler']}"
        self.dashboard = f"http://{LOOPBACK}:{self.ports['dashboard']}"
        self.started = 0
        self.workers = []
        self.scheduler = None

    def start(self):
        """Run the scheduler, and wait for it; the workers are on their way."""
        self.scheduler = self._launched("scheduler", "--dashboard-address", self.dashboard[7:])
        self.workers = [self.worker() for _ in range(2)]
        assert happens(lambda: is_open(self.ports["scheduler"]), within=PATIENCE)

    def worker(self):
        """Run a worker; none is to take its place when it is killed, but by the test."""
        options = ("--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        return self._launched("worker", *options)

    def _launched(self, name, *options):
        self.started += 1
        log = self.folder / f"{self.started}-{name}.log"
        command = COMMANDS[name].replace(PORT, str(self.ports["scheduler"])).split()
        return launched(
            sys.executable, "-m", *command, *options, output=log, variables=self.variables
        )

    def kill_worker(self, draw, *, replace):
        """SIGKILL, for one or the other; perhaps another one takes its place."""
        place = draw.randrange(len(self.workers))
        killed(self.workers[place])
        if replace:
            self.workers[place] = self.worker()
        else:
            del self.workers[place]

    def kill(self):
        """SIGKILL, for all."""
        for process in (*self.workers, self.scheduler):
            killed(process)

    @contextmanager
    def client(self):
        """A client of Dask's, once both workers are there."""
        with distributed.Client(self.address, timeout=f"{PATIENCE}s") as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            yield client

    def pages(self):
        """What the dashboard shows."""
        for page in PAGES:
            try:
                with urlopen(f"{self.dashboard}{page}") as answer:  # noqa: S310 (ours)
                    yield page, answer.read()
            except HTTPError:
                continue


class Driver:
    """A job in a thread, and when each part was seen first."""

    def __init__(self, client, ids, out, **options):
        self.seen = {}
        self.out = out
        self.result = None
        self._thread = threading.Thread(target=self._run, args=(client, ids, out), kwargs=options)
        self._thread.start()

    def _run(self, *args, **options):
        try:
            self.result = export_calls_dask(*args, **options)
        except EngineError as exc:
            self.result = exc

    def look(self):
        """Note which parts there are."""
        found = {path.name for path in (self.out / "calls").glob("*.parquet")}
        at = time.monotonic()  # the clock of the server's ledger, too
        for name in found - self.seen.keys():
            self.seen[name] = at
        return len(found)

    def until(self, condition):
        """Wait for it, or for the end of the job."""

        def look():
            self.look()
            return condition() or not self._thread.is_alive()

        assert happens(look, within=10 * PATIENCE)

    def end(self):
        """What came of the job."""
        self.until(lambda: False)
        self._thread.join()
        return self.result


def survive(
    tmp_path, *, number, limit, kills, size, again, max_rate=None, pace=None, variables=None
):
    """Run a job to its end through so many kills, of which the second half in a second run."""
    draw = random.Random(0)
    ids = call_ids(number)
    out = tmp_path / "out"
    seen = {}
    cluster = Cluster(tmp_path, **(variables or {}))
    pages = {}
    with Server(max_rate=limit, latency=0.005) as server:
        config = {"base_url": server.base_url, "pace": pace}
        options = {"config": config, "chunk_size": size, "max_rate": max_rate}
        cluster.start()
        try:
            with cluster.client() as client:
                driver = Driver(client, ids, out, **options)
                first = kills // 2 if again else kills
                kill_some(cluster, driver, draw, first, number // size // (kills + 1), again=again)
                pages = dict(cluster.pages())
                if again:
                    killed(cluster.scheduler)
                    assert isinstance(driver.end(), EngineError)
                else:
                    summary = driver.end()
                seen |= driver.seen
            if again:
                cluster.kill()
                before = len(list((out / "calls").iterdir()))
                cluster.start()
                with cluster.client() as client:
                    driver = Driver(client, ids, out, **options)
                    rest = kills - first
                    kill_some(
                        cluster, driver, draw, rest, number // size // (kills + 1), again=True
                    )
                    summary = driver.end()
                seen = driver.seen | seen
                assert summary.parts_before == before
        finally:
            cluster.kill()
        ledger = server.ledger()
    check_end(summary, ids, out, ledger=ledger, seen=seen, size=size)
    check_secrecy(tmp_path, pages)
    return ledger


def kill_some(cluster, driver, draw, kills, share, *, again):
    """Kill workers, each after some parts and at a random moment."""
    for _ in range(kills):
        wanted = driver.look() + share
        driver.until(lambda wanted=wanted: driver.look() >= wanted)
        time.sleep(draw.uniform(0.0, 0.5))
        cluster.kill_worker(draw, replace=again)
        driver.look()


def check_end(summary, ids, out, *, ledger, seen, size):
    """What must hold when the job has come to its end."""
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ids  # each has its record, once, in its place
    check_records(rows)
    assert list((out / "errors").iterdir()) == []
    assert (summary.asked, summary.fetched, summary.complete) == (len(ids), len(ids), True)
    last = {call_id: at for at, call_id, _ in ledger}
    for name, at in seen.items():
        index = int(name.split("-")[1])
        for call_id in ids[index * size : (index + 1) * size]:
            assert last[call_id] <= at  # nothing of a finished chunk is fetched again


def check_secrecy(folder, pages):
    """The key is on no page, in no log and in no file."""
    assert len(pages) > 2
    logs = list(folder.glob("*.log"))
    assert len(logs) >= 3
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for content in (*pages.values(), *files.values()):
        assert KEY.encode() not in content


def test_a_killed_worker_costs_its_chunks_alone(tmp_path):
    """1,000 ids, one kill, and a Dask that gives up a task with its first worker."""
    ledger = survive(
        tmp_path,
        number=1_000,
        limit=500,
        kills=1,
        size=50,
        again=False,
        max_rate=450.0,
        variables={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
    )
    requests = Counter(call_id for _, call_id, _ in ledger)
    assert sum(number > 1 for number in requests.values()) <= 8 * 50


@pytest.mark.slow
@pytest.mark.parametrize("way", ["shared out evenly", "shared pace"])
def test_ten_kills_and_another_scheduler(tmp_path, way, request):
    """50,000 ids at 500/s, ten kills, and the scheduler is another one in the second run."""
    paced = {"max_rate": 490.0}
    if way == "shared pace":
        url = request.getfixturevalue("redis_server").url
        paced = {"pace": SharedPace(url, rate=490.0)}
    ledger = survive(tmp_path, number=50_000, limit=500, kills=10, size=500, again=True, **paced)
    times = [at for at, *_ in ledger]
    most = busiest(times, 2.0)
    took = times[-1] - times[0]
    throttled = sum(status == 429 for *_, status in ledger)
    print(  # noqa: T201 (what was measured)
        f"{way}: {len(ledger):,} requests in {took:.0f} s, {len(ledger) - 50_000:,} of them again, "
        f"{throttled} throttled; at most {most} in 2 s"
    )
    assert most <= 1.05 * 2 * 500


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as on POSIX")
def test_ctrl_c_on_a_local_cluster(tmp_path):
    """The first lets chunks finish, the second ends them; nothing but whole parts is left."""
    (tmp_path / "ids.txt").write_text("\n".join(call_ids(40)))
    args = ("fetch", "ids.txt", "--dask", "local", "--out", "out", "--chunk-size", "10")
    with serving(latency=60.0) as sandbox:
        process = spawn(*args, sandbox=sandbox, cwd=tmp_path, start_new_session=True)
        try:
            assert happens(lambda: sandbox.ledger.in_flight, within=PATIENCE)
            os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
            time.sleep(0.3)
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE)
        finally:
            killed(process)
        assert process.returncode == 130, told
        assert "interrupted: 0 of 40 fetched" in told
        assert "Traceback" not in told
        assert happens(lambda: not sandbox.ledger.in_flight)
    assert list((tmp_path / "out" / "calls").iterdir()) == []
