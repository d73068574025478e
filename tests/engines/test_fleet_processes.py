"""Two processes and a Redis: never above the rate, also while it dies and comes back, and no key.

The slots are counted by Redis's clock, which is where the promise is; what arrived at the server is
reported beside them (`-rP`), because the way there adds its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import attrs
import pytest

from calls_async.testing import Sandbox
from tests.engines.redisserver import STARTED, running
from tests.fleets import most_within
from tests.kit import ROOT
from tests.waiting import until

RATE = 200
KEY = "sk_test_of_the_fleet_0123456789"


@attrs.frozen
class Ran:
    """What a fleet of two did.

    Attributes:
        asked: Ids.
        right: Ids that brought their own record.
        slots: The slots by Redis's clock, of both.
        own: The slots that they gave themselves.
        arrivals: When requests arrived at the server.
        monitored: All that Redis was told.
        dumped: All that was in it.
        said: What the processes logged.
    """

    asked: int
    right: int
    slots: list[float]
    own: list[float]
    arrivals: list[float]
    monitored: bytes
    dumped: bytes
    said: str

    @property
    def starts(self) -> list[float]:
        """All slots together."""
        return self.slots + self.own

    def report(self, what: str) -> None:
        """Print the figures."""
        counted = {"slots": self.starts, "arrivals": self.arrivals}
        for name, times in counted.items():
            peaks = ", ".join(f"{most_within(times, s)} in {s:g} s" for s in (1.0, 0.05))
            sys.stdout.write(f"{what}: {len(times)} {name}, at most {peaks}\n")


def seed(server):
    """Leave the line as a fleet that has just ended does: it need not begin."""
    server.command("HSET", "{calls_async}:line", "next", f"{time.time() * 1e6:.0f}")


async def spawn(server, sandbox, ids, prefix):
    variables = {
        "PYTHONPATH": str(ROOT),
        "CALLS_API_KEY": KEY,
        "CALLS_BASE_URL": sandbox.base_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engines.worker", server.url, str(RATE), str(ids), prefix,
        env=os.environ | variables, cwd=ROOT, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = [await process.stderr.readline()]
    while said[-1] not in (b"ready\n", b""):
        said.append(await process.stderr.readline())
    assert said[-1], b"".join(said).decode()
    return process


async def watch(server, heard):
    """Hear all that Redis is told, for as long as it lives."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"MONITOR\r\n")
    try:
        while piece := await reader.read(65_536):
            heard.append(piece)
    except ConnectionError:
        pass
    finally:
        writer.close()


def dump(server):
    """Every key, with its value and its expiry."""
    keys = [f"{{calls_async}}:{name}" for name in ("line", "workers")]
    return b"".join(
        (
            server.command("KEYS", "*"),
            server.command("HGETALL", keys[0]),
            server.command("ZRANGE", keys[1], 0, -1, "WITHSCORES"),
            *(server.command("PTTL", key) for key in keys),
        )
    )


async def fleet(server, *, ids, meanwhile=None):
    """Let two processes fetch so many ids each."""
    heard = []
    async with Sandbox(api_keys=[KEY]) as sandbox:
        workers = [await spawn(server, sandbox, ids, prefix) for prefix in ("a", "b")]
        monitors = [asyncio.create_task(watch(server, heard))]
        seed(server)
        done = [asyncio.create_task(worker.communicate(b"\n")) for worker in workers]
        if meanwhile is not None:
            await meanwhile(server, sandbox)
            monitors.append(asyncio.create_task(watch(server, heard)))
        while not all(task.done() for task in done):
            dumped = await asyncio.to_thread(dump, server)
            await asyncio.sleep(0.2)
        told = [await task for task in done]
        for monitor in monitors:
            monitor.cancel()
        await asyncio.gather(*monitors, return_exceptions=True)
    said = "".join(err.decode() for _, err in told)
    assert [worker.returncode for worker in workers] == [0, 0], said
    results = [json.loads(out) for out, _ in told]
    return Ran(
        asked=2 * ids,
        right=sum(result["right"] for result in results),
        slots=[slot for result in results for slot in result["slots"]],
        own=[slot for result in results for slot in result["own"]],
        arrivals=[entry.at for entry in sandbox.ledger.entries],
        monitored=b"".join(heard),
        dumped=dumped,
        said=said,
    )


def killing(*, up, down):
    """Kill Redis after so many seconds of work, and start it again after so many more."""

    async def meanwhile(server, sandbox):
        await until(lambda: len(sandbox.ledger))
        await asyncio.sleep(up)
        # In threads: the sandbox is in this loop, and must see requests when they arrive.
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)

    return meanwhile


def assert_within_the_rate(ran):
    """At most 205 slots in any second and 15 in any 50 ms, and every id has its own record."""
    assert ran.right == ran.asked
    assert most_within(ran.starts, 1.0) <= 205
    assert most_within(ran.slots, 0.05) <= 15


@pytest.fixture(scope="module")
def killed_once(redis_installed, tmp_path_factory):  # noqa: ARG001 (it skips)
    """Some seconds of a fleet whose Redis dies, and comes back without what it knew."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        ran = asyncio.run(fleet(server, ids=250, meanwhile=killing(up=1.05, down=0.9)))
    ran.report("killed once")
    return ran


def test_a_redis_that_dies_and_comes_back(killed_once):
    """Nothing is lost, and no second is above the limit: before, meanwhile and after."""
    assert_within_the_rate(killed_once)
    assert len(killed_once.own) > 20  # they did go on, at their share
    assert len(killed_once.slots) > 250


def test_no_key_of_the_api_gets_to_redis(killed_once):
    """Neither in what it is told, nor in what it keeps, nor in any log; and all of it expires."""
    ran = killed_once
    assert b"EVALSHA" in ran.monitored
    for secret in (KEY, KEY.removeprefix("sk_test_")):
        assert secret.encode() not in ran.monitored + ran.dumped
        assert secret not in ran.said
    assert "DEBUG" in ran.said  # the logs were on
    assert b"a-0" not in ran.monitored  # no id either
    assert b":-1" not in ran.dumped  # a key without an expiry
    assert "the fleet's pace" not in ran.said  # as long as the share is kept, all is well


# --- The long forms ------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_a_rate(redis_server):
    """Twenty seconds at 200/s: the promise, and nearly all of the rate is used."""
    ran = asyncio.run(fleet(redis_server, ids=2000))
    ran.report("two processes")
    assert_within_the_rate(ran)
    assert ran.own == []
    assert max(ran.slots) - min(ran.slots) < 1.15 * 4000 / RATE


@pytest.mark.slow
@pytest.mark.parametrize("how", ["forgets", "remembers"])
def test_a_redis_that_dies_again_and_again(how, redis_installed, tmp_path):  # noqa: ARG001
    """Killed five times in a minute, with and without its line on the disk."""
    options = STARTED if how == "forgets" else ("--appendonly", "yes", "--appendfsync", "always")

    async def meanwhile(server, sandbox):
        for down in (0.05, 0.3, 0.8, 1.5, 3.0):
            await killing(up=3.0, down=down)(server, sandbox)

    with running(tmp_path, *options) as server:
        ran = asyncio.run(fleet(server, ids=2500, meanwhile=meanwhile))
    ran.report(f"killed five times, {how}")
    assert_within_the_rate(ran)


@pytest.mark.slow
def test_a_redis_that_hangs(redis_server):
    """It accepts connections and answers nothing for a while, five times."""

    async def meanwhile(server, sandbox):
        await until(lambda: len(sandbox.ledger))
        for hang in (0.2, 0.45, 0.7, 1.2, 3.0):
            await asyncio.sleep(3.0)
            server.freeze()
            await asyncio.sleep(hang)
            server.thaw()

    ran = asyncio.run(fleet(redis_server, ids=2200, meanwhile=meanwhile))
    ran.report("hung five times")
    assert_within_the_rate(ran)
