"""`SharedPace` on a real Redis: what it promises while all is well, and while it is not."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import re
import shlex
import time
import traceback
from types import SimpleNamespace

import pytest

from calls_async import (
    CallsClient,
    ConfigurationError,
    FleetPaceError,
    Limits,
    WrongEventLoopError,
)
from calls_async.engines import _line
from calls_async.engines._line import LEASE
from calls_async.engines.redis import SharedPace
from calls_async.testing import Fault, Sandbox
from tests.engines.redisserver import STARTED
from tests.examples.pages import blocks, run
from tests.kit import ROOT, call_ids, open_sockets, other_tasks, run_python
from tests.waiting import until

PASSWORD = "hunter2-and-more"
NOWHERE = "redis://127.0.0.1:1/0"

pytestmark = pytest.mark.usefixtures("redis_installed")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("CALLS_SHARED_PACE_URL", raising=False)


def warm(server, name="calls_async"):
    """Leave a line behind that was used until a moment ago, so that nobody has to wait for one."""
    server.command("HSET", f"{{{name}}}:line", "next", f"{time.time() * 1e6:.0f}")


@pytest.fixture
def quiet(monkeypatch):
    """A shorter silence at the beginning of a line, in seconds; the way there is the same."""
    monkeypatch.setattr(_line, "QUIET", 0.7)
    return 0.7


@pytest.fixture
async def pace(redis_server):
    warm(redis_server)
    pace = SharedPace(redis_server.url, rate=100.0)
    yield pace
    await pace.close()
    assert other_tasks() == set()


# --- While all is well ---------------------------------------------------------------------------


async def test_two_share_one_line(redis_server, pace):
    """Their slots are those of one line, and each counts the other."""
    other = SharedPace(redis_server.url, rate=100.0)
    first, second = await pace.reserve(2), await other.reserve(50)
    assert (first.count, second.count) == (2, 5)
    assert first.interval == second.interval == 0.01
    assert other._last_slot > pace._last_slot
    assert other.statistics().workers == 2
    await other.close()
    await pace.reserve(1)
    assert pace.statistics().workers == 1  # who closes leaves
    assert pace.statistics().slots == 3


async def test_a_fleet_of_another_name_is_another_one(redis_server, pace):
    """Each name has a line, a park and processes of its own."""
    await pace.park(10.0)
    warm(redis_server, "other")
    other = SharedPace(redis_server.url, rate=100.0, name="other")
    assert (await other.reserve(1)).count == 1
    assert other.statistics().workers == 1
    await other.close()
    assert (await pace.reserve(1)).count == 0


async def test_a_server_that_forgot_the_script_is_told_it_again(redis_server, pace):
    """After SCRIPT FLUSH, as after a restart, nothing fails."""
    await pace.reserve(1)
    redis_server.command("SCRIPT", "FLUSH")
    assert (await pace.reserve(1)).count == 1
    assert not pace.statistics().away


async def test_a_connection_that_lay_idle_and_was_closed(redis_server, pace):
    """Redis may close it; that alone is no outage."""
    await pace.reserve(1)
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    assert (await pace.reserve(1)).count == 1
    assert pace.statistics().kept == 0


async def test_a_far_slot_is_no_use_once_the_fleet_is_parked(redis_server):
    """A small rate that many share gives slots far ahead; a park in between takes them back."""
    warm(redis_server)
    one, other = (SharedPace(redis_server.url, rate=2.0) for _ in range(2))
    assert (await one.reserve(5)).first < 0.1
    began = time.monotonic()
    given = await one.reserve(5)  # near enough by now
    assert given.count == 1
    assert given.first < 0.15
    assert time.monotonic() - began > 0.2
    waiting = asyncio.create_task(one.reserve(5))
    await until(lambda: one.statistics().slots == 2)
    await other.park(10.0)
    given = await waiting
    assert given.count == 0
    assert given.first > 9.0
    await one.close()
    await other.close()


async def test_a_refusal_of_one_client_parks_the_other(redis_server):
    """A 429 that one is given silences both, by way of Redis, until it is over."""
    warm(redis_server)
    slow = Fault.status(429, headers={"Retry-After": "1"})
    async with Sandbox(faults={"b-0": [slow]}) as sandbox:

        def client():
            pace = SharedPace(redis_server.url, rate=100.0)
            return CallsClient(sandbox.api_key, base_url=sandbox.base_url, pace=pace)

        def refused():
            entries = sandbox.ledger.entries
            return next((entry.at for entry in entries if entry.status == 429), math.inf)

        async with client() as one, client() as other:
            job = asyncio.create_task(one.gather_calls(call_ids(2000)))
            await until(lambda: len(sandbox.ledger) > 10)
            await other.gather_calls(["b-0"])
            await until(lambda: sandbox.ledger.entries[-1].at > refused() + 1.1)
            job.cancel()
            await asyncio.wait({job})
    at = [entry.at - refused() for entry in sandbox.ledger.entries]
    assert [time for time in at if 0.25 < time < 0.99] == []


# --- While Redis is away -------------------------------------------------------------------------


@pytest.mark.parametrize("when_away", ["keep", "hold"])
async def test_who_has_never_reached_redis_starts_nothing(when_away):
    """Nobody knows then how many share the rate."""
    pace = SharedPace(NOWHERE, rate=100.0, when_away=when_away)
    for attempt in (pace.reserve(1), pace.park(1.0)):
        with pytest.raises(FleetPaceError, match=r"Redis at 127\.0\.0\.1:1 is away") as caught:
            await attempt
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert pace.statistics().away
    assert repr(pace) == "<SharedPace 'calls_async' of 100/s at 127.0.0.1:1, away>"
    assert repr(pace._address) == "<127.0.0.1:1>"
    await pace.close()


async def test_kept_shares(redis_server, quiet):
    """With "keep" each goes on at its share after a moment, and returns to the line by itself."""
    warm(redis_server)
    paces = [SharedPace(redis_server.url, rate=100.0) for _ in range(2)]
    pace = paces[0]
    for each in (*paces, *paces):
        await each.reserve(1)
    redis_server.kill()
    given = await pace.reserve(100)
    assert given.interval == 0.02  # half of the rate
    assert given.count == 5
    assert given.first > 0.2  # what is out of the line is over by then
    again = await pace.reserve(1)
    assert again.first == pytest.approx(given.first + 0.1, abs=0.05)
    assert pace.statistics().kept == 6
    began = time.monotonic()
    redis_server.start()
    while (given := await pace.reserve(1)).interval == 0.02:  # noqa: ASYNC110 (Redis is elsewhere)
        await asyncio.sleep(0.01)
    assert time.monotonic() + given.first > began + quiet
    assert not pace.statistics().away
    for each in paces:
        await each.close()
    assert other_tasks() == set()


async def test_held_starts(redis_server, quiet):
    """With "hold" nothing is given until Redis is back."""
    warm(redis_server)
    pace = SharedPace(redis_server.url, rate=100.0, when_away="hold")
    await pace.reserve(1)
    redis_server.kill()
    with pytest.raises(FleetPaceError):
        await pace.reserve(1)
    began = time.monotonic()
    redis_server.start()
    given = await pace.reserve(1)
    assert time.monotonic() + given.first > began + quiet
    assert pace.statistics().kept == 0
    await pace.close()


async def test_a_redis_that_hangs_is_away(redis_server, pace):
    """No answer within half a second is none, and the way back is the same."""
    await pace.reserve(1)
    redis_server.freeze()
    assert (await pace.reserve(1)).interval == 0.01
    assert pace.statistics().kept == 1
    redis_server.thaw()
    while pace.statistics().away:
        await pace.reserve(1)
        await asyncio.sleep(0.01)


async def test_who_was_idle_meanwhile_asks_before_it_goes_on(redis_server, pace, quiet):
    """A share is kept only as long as it is sure that Redis is away."""
    await pace.reserve(1)
    redis_server.kill()
    await pace.reserve(1)
    began = time.monotonic()
    redis_server.start()
    pace._tried -= 60.0
    given = await pace.reserve(1)
    assert time.monotonic() + given.first > began + quiet
    assert pace.statistics().kept == 1


@pytest.mark.parametrize("moment", [0.0, 0.05])
async def test_cancelled_while_redis_hangs(moment, redis_server, pace):
    """No connection stays with whoever was cancelled, and the next answer is nobody else's."""
    await pace.reserve(1)
    redis_server.freeze()
    asking = asyncio.create_task(pace.reserve(7))
    await asyncio.sleep(moment)
    asking.cancel()
    await asyncio.wait({asking})
    redis_server.thaw()
    assert other_tasks() - {pace._looking} == set()
    while pace.statistics().away:
        await pace.reserve(1)
        await asyncio.sleep(0.01)
    assert (await pace.reserve(1)).count == 1


async def test_closing_leaves_nothing_behind(redis_server):
    """No socket, no task, no place in the fleet; used again, it opens anew."""
    warm(redis_server)
    before = open_sockets()
    pace = SharedPace(redis_server.url, rate=100.0)
    await pace.close()
    for _ in range(2):
        await asyncio.gather(pace.reserve(1), pace.park(0.0), pace.reserve(1))
        await pace.close()
        assert open_sockets() == before
        assert redis_server.command("ZCARD", "{calls_async}:workers") == b":0\r\n"
    assert other_tasks() == set()


async def test_two_clients_may_share_one_pace_object(redis_server):
    """When one is closed the other goes on, on connections that are opened anew."""
    warm(redis_server)
    pace = SharedPace(redis_server.url, rate=1000.0)
    async with Sandbox() as sandbox:
        clients = [
            CallsClient(sandbox.api_key, base_url=sandbox.base_url, pace=pace) for _ in range(2)
        ]
        job = asyncio.create_task(clients[0].gather_calls(call_ids(300)))
        await clients[1].get_call("other")
        await clients[1].close()
        assert len(await job) == 300
        await clients[0].close()
    assert other_tasks() == set()


async def test_closing_while_redis_is_away(redis_server, pace):
    """It does not wait for a Redis that is gone; the place in the fleet ends with its lease."""
    await pace.reserve(1)
    redis_server.kill()
    for _ in range(3):
        await pace.reserve(1)
        await asyncio.sleep(0.15)
    await pace.close()
    assert other_tasks() == set()
    assert LEASE < 60.0


def test_a_pace_belongs_to_one_loop(redis_server):
    """Its connections do; after it was closed it may be used in another."""
    warm(redis_server)
    pace = SharedPace(redis_server.url, rate=100.0)

    async def use(*, close):
        await pace.reserve(1)
        if close:
            await pace.close()

    asyncio.run(use(close=True))
    with asyncio.Runner() as first:
        first.run(use(close=False))
        with asyncio.Runner() as second, pytest.raises(WrongEventLoopError):
            second.run(use(close=False))
        first.run(use(close=True))


# --- The how-to ----------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "how-to" / "shared-pace.md").read_text(encoding="utf-8")


def test_redis_is_started_as_the_page_says():
    """The command of the page is the one that the tests start theirs with."""
    (command,) = re.findall(r"^\$ (redis-server .*)$", PAGE, re.MULTILINE)
    assert shlex.split(command) == ["redis-server", "--port", "6379", *STARTED]


async def test_the_rights_of_the_page_are_enough(redis_server):
    """A user with no more than those can do all that a pace does, and nothing else."""
    warm(redis_server)
    (rights,) = re.findall(r"^user (fleet on .*)$", PAGE, re.MULTILINE)
    assert redis_server.command("ACL", "SETUSER", *rights.split()) == b"+OK\r\n"
    url = redis_server.url.replace("redis://", "redis://fleet:password@")
    pace = SharedPace(url, rate=100.0)
    assert (await pace.reserve(1)).count == 1
    await pace.park(0.0)
    await pace.close()
    assert redis_server.command("ZCARD", "{calls_async}:workers") == b":0\r\n"
    other = SharedPace(url, rate=100.0, name="other")
    with pytest.raises(ConfigurationError, match="NoPermissionError"):
        await other.reserve(1)
    await other.close()
    redis_server.command("ACL", "DELUSER", "fleet")


async def test_the_code_of_the_page_runs(redis_server, monkeypatch, capsys):
    """A shared pace, what it tells, an even division, and a pace of the reader's own."""
    warm(redis_server)
    shared, told, divided, own = blocks("shared-pace.md")
    asked = []

    async def ask(*what):
        asked.append(what)
        return SimpleNamespace(wait=0.0, interval=0.001, count=what[-1] if what else 0)

    async with Sandbox() as sandbox:
        monkeypatch.setenv("CALLS_API_KEY", sandbox.api_key)
        monkeypatch.setenv("CALLS_BASE_URL", sandbox.base_url)
        here = shared.replace("redis://redis.internal:6379/0", redis_server.url)
        names = await run(here, ids=call_ids(3))
        assert len(names["calls"]) == 3
        await run(told, **names)
        assert capsys.readouterr().out.startswith("PaceStatistics(workers=")
        await run(divided, workers=4, CallsClient=CallsClient, Limits=Limits)
        names = await run(own, ask_my_service=ask, close_my_service=ask)
        async with names["client"] as client:
            await client.get_call("call-1")
    assert asked[0][0] == "reserve"
    assert asked[-1] == ()  # closed with the client


# --- Configuration and secrets -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, r"SharedPace\(rate=...\) must be a number, at least 0.001"),
        ({"rate": "200"}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"ahead": 0.0}, r"SharedPace\(ahead=...\)"),
        ({"when_away": "panic"}, r"SharedPace\(when_away=...\) must be 'keep' or 'hold'"),
        ({"name": ""}, r"SharedPace\(name=...\)"),
        ({"name": "a{b}"}, "without braces"),
        ({"name": 5}, "name"),
        ({"url": 5}, r"SharedPace\(url=...\) must be a str, not int"),
        ({"url": None}, r"SharedPace\(url=...\) or set CALLS_SHARED_PACE_URL"),
        ({"url": f"http://:{PASSWORD}@localhost"}, "must look like redis://host:6379/0"),
        ({"url": f"redis://:{PASSWORD}@localhost:port"}, "must look like redis://"),
        ({"url": f"redis://:{PASSWORD}@[::1"}, "must look like redis://"),
        ({"url": f"redis://:{PASSWORD}@localhost/0?socket_timeout={PASSWORD}"}, "cannot be used"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    """It is found here and now, and the URL, which may hold a password, is not quoted."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        SharedPace(**({"url": NOWHERE, "rate": 100.0} | options))
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told
    assert caught.value.__context__ is None


def test_the_url_may_come_from_the_environment(monkeypatch):
    """What is given wins over `CALLS_SHARED_PACE_URL`."""
    monkeypatch.setenv("CALLS_SHARED_PACE_URL", "redis://redis.example:6380/1")
    assert "redis.example:6380" in repr(SharedPace(rate=1.0))
    assert "127.0.0.1:1" in repr(SharedPace(NOWHERE, rate=1.0))
    monkeypatch.setenv("CALLS_SHARED_PACE_URL", f"http://{PASSWORD}")
    with pytest.raises(ConfigurationError, match=r"^CALLS_SHARED_PACE_URL must look like"):
        SharedPace(rate=1.0)


def test_a_socket_is_shown_by_its_path():
    """`unix://` has no host."""
    assert "/run/redis.sock" in repr(SharedPace("unix:///run/redis.sock", rate=1.0))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pace_travels(protocol):
    """Every option is the same on the other side; it is another process of the fleet."""
    options = {"rate": 12.5, "name": "crm", "when_away": "hold", "ahead": 0.2}
    pace = SharedPace(NOWHERE, **options)
    there = pickle.loads(pickle.dumps(pace, protocol))
    assert there.__reduce__()[1][1] == {"url": NOWHERE, **options}
    assert there._worker != pace._worker
    assert repr(copy.copy(pace)) == repr(pace)


@pytest.mark.parametrize(
    "url", [f"redis://user:{PASSWORD}@localhost", f"redis://localhost/0?password={PASSWORD}"]
)
def test_a_password_does_not_travel(url, monkeypatch):
    """It is in no pickle and no repr; the other side finds its own URL, or is told what to do."""
    client = CallsClient("sk_test_x", base_url="http://127.0.0.1:1", pace=SharedPace(url, rate=1.0))
    data = pickle.dumps(client)
    for shown in (repr(client), repr(client._config), repr(client._config.pace), str(data)):
        assert PASSWORD not in shown
    monkeypatch.setenv("CALLS_API_KEY", "sk_test_there")
    with pytest.raises(ConfigurationError, match="CALLS_SHARED_PACE_URL"):
        pickle.loads(data)
    monkeypatch.setenv("CALLS_SHARED_PACE_URL", "redis://there.example:6379")
    assert "there.example" in repr(pickle.loads(data)._config.pace)


async def test_a_password_that_is_refused(redis_server, caplog):
    """It ends the batch at once, with one error that shows neither password nor chain."""
    redis_server.command("CONFIG", "SET", "requirepass", "another one")
    url = redis_server.url.replace("redis://", f"redis://:{PASSWORD}@")
    async with Sandbox() as sandbox:
        pace = SharedPace(url, rate=100.0)
        async with CallsClient(sandbox.api_key, base_url=sandbox.base_url, pace=pace) as client:
            with pytest.raises(ConfigurationError, match="refuses the user or the pass") as caught:
                await client.gather_calls(call_ids(3))
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told + caplog.text
    assert len(sandbox.ledger) == 0


async def test_without_the_extra_it_says_what_to_install():
    """One line, and nothing is imported before it is asked for."""
    code = """
import sys
from calls_async.engines.redis import SharedPace
assert "redis" not in sys.modules
sys.modules["redis.asyncio"] = None
try:
    SharedPace("redis://localhost", rate=1.0)
except ValueError as exc:
    print(exc)
"""
    exit_code, out, err = await run_python(code)
    assert (exit_code, err) == (0, "")
    assert out == "SharedPace needs redis: pip install 'calls_async[redis]'\n"
