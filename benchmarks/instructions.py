"""What the gate and the policies cost a call of a healthy server, in instructions.

Run it from the checkout, on Linux with valgrind: `python -m benchmarks.instructions`. Instructions
repeat where microseconds do not: to about 0.2% for calls one at a time. Each lane runs twice under
callgrind, with as many calls and with twice as many; the difference of the two counts, by the
calls, has nothing of the start-up in it. The server is another process, which is not counted.

A lane "off" is the same client with the same transport, decoder and outcomes, and, in bulk, the
same workers. In place of its fetcher there are a few lines without gate, permits, timeout, hints,
verdict and retry loop. "off, timed" has asyncio's own timeout around the request, which nobody
would go without.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
import orjson

from calls_async import CallsClient, Fetched, Limits, Timeouts
from calls_async import __version__ as our_version
from calls_async._codec import decode_call
from calls_async._ids import check_call_id
from calls_async._wire import Answer
from calls_async.testing.records import record_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator

CALLS: Final = 400
WIDTH: Final = 64
KEY: Final = "sk_test_instructions"
LONG: Final = 600.0
"""Seconds for an attempt. Under callgrind all takes fifty times as long, and no timeout may end."""


# --- The server ----------------------------------------------------------------------------------


class Server(asyncio.Protocol):
    """Answers each GET with one record under the id asked for, and keeps the connection."""

    _members = record_body("instructions").partition(b",")[2]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            call_id = head.split(b" ", 2)[1].rpartition(b"/")[2]
            body = b'{"id":"%b",%b' % (call_id, self._members)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n"
                b"x-request-id: 0123456789abcdef\r\n\r\n%b" % (len(body), body)
            )


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The server in a process of its own, and its base URL."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (me)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


# --- The lanes -----------------------------------------------------------------------------------


def some_ids(calls: int) -> Iterator[str]:
    return (f"123e4567-e89b-12d3-a456-{number:012}" for number in range(calls))


@contextlib.asynccontextmanager
async def client_of(url: str, *, at_once: int = WIDTH) -> AsyncGenerator[CallsClient]:
    limits = Limits(max_concurrency=at_once, patience=LONG)
    timeouts = Timeouts(attempt=LONG, total=LONG)
    async with CallsClient(KEY, base_url=url, limits=limits, timeouts=timeouts) as client:
        yield client
        seen = client.statistics()
    assert not seen.retries + seen.failed, seen  # or the server was not healthy


async def ours(url: str, calls: int) -> None:
    async with client_of(url) as client:
        await one_by_one(client, calls)


async def our_stream(url: str, calls: int) -> None:
    async with client_of(url) as client:
        await stream(client, calls)


async def our_gather(url: str, calls: int) -> None:
    async with client_of(url) as client:
        await client.gather_calls(some_ids(calls))


async def one_by_one(client: CallsClient, calls: int) -> None:
    for call_id in some_ids(calls):
        await client.get_call(call_id)


async def stream(client: CallsClient, calls: int) -> None:
    async with client.stream_calls(some_ids(calls)) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Fetched)


class Off:
    """What a client has in place of its fetcher when gate and policies are off.

    Args:
        client: The client, whose transport and key are used.
        timed: Whether a request has a timeout.
    """

    def __init__(self, client: CallsClient, *, timed: bool) -> None:
        core = client._core  # noqa: SLF001 (there is no public way to switch the policies off)
        assert core.credentials.held is not None
        self._transport, self._key = core.transport, core.credentials.held
        self._loop = asyncio.get_running_loop()
        self._timed = timed
        # What the bulk room asks of a fetcher: there are permits for all its workers.
        self.line = SimpleNamespace(throttle=SimpleNamespace(spare=WIDTH))

    async def fetch(self, call_id: str, *, index: int = 0, **_: object) -> Fetched:
        """Fetch one call; what a fetcher needs besides is not used."""
        began = self._loop.time()
        assert check_call_id(call_id) is None
        if self._timed:
            async with asyncio.timeout_at(began + LONG):
                came = await self._transport.get(call_id, self._key)
        else:
            came = await self._transport.get(call_id, self._key)
        assert isinstance(came, Answer)
        assert came.status == 200
        call = decode_call(came.body)
        assert call.id == call_id
        return Fetched(
            id=call_id,
            index=index,
            call=call,
            raw=came.body,
            attempts=1,
            elapsed=self._loop.time() - began,
            request_id=came.headers.get("x-request-id"),
        )


@contextlib.asynccontextmanager
async def switched_off(url: str, *, timed: bool = False) -> AsyncGenerator[CallsClient]:
    # In bulk, a client has twice as many ids on their way as permits. Without permits all of them
    # are in flight.
    async with client_of(url, at_once=WIDTH // 2) as client:
        job: Any = Off(client, timed=timed)
        client._fetcher = job  # noqa: SLF001 (see above)
        yield client


async def off(url: str, calls: int) -> None:
    async with switched_off(url) as client:
        await one_by_one(client, calls)


async def off_timed(url: str, calls: int) -> None:
    async with switched_off(url, timed=True) as client:
        await one_by_one(client, calls)


async def off_stream(url: str, calls: int) -> None:
    async with switched_off(url) as client:
        await stream(client, calls)


async def off_stream_timed(url: str, calls: int) -> None:
    async with switched_off(url, timed=True) as client:
        await stream(client, calls)


async def off_gather(url: str, calls: int) -> None:
    async with switched_off(url) as client:
        await client.gather_calls(some_ids(calls))


async def off_workers(url: str, calls: int) -> None:
    """The least that bulk work takes: as many tasks over one iterator."""
    async with switched_off(url) as client:
        await in_parallel(some_ids(calls), Off(client, timed=False).fetch)


async def aiohttp_alone(url: str, calls: int) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        for call_id in some_ids(calls):
            await plain_get(session, url, call_id)


async def aiohttp_workers(url: str, calls: int) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        await in_parallel(some_ids(calls), lambda call_id: plain_get(session, url, call_id))


async def plain_get(session: aiohttp.ClientSession, url: str, call_id: str) -> object:
    async with session.get(f"{url}/v1/calls/{call_id}") as response:
        return orjson.loads(await response.read())


async def in_parallel(ids: Iterable[str], fetch: Callable[[str], Awaitable[object]]) -> None:
    left = iter(ids)

    async def work() -> None:
        for call_id in left:
            await fetch(call_id)

    await asyncio.gather(*(work() for _ in range(WIDTH)))


Lane: TypeAlias = "Callable[[str, int], Coroutine[Any, Any, None]]"

LANES: Final[dict[str, Lane]] = {
    "get_call": ours,
    "get_call, off": off,
    "get_call, off, timed": off_timed,
    "aiohttp get + read + orjson": aiohttp_alone,
    "stream_calls": our_stream,
    "gather_calls": our_gather,
    "stream_calls, off": off_stream,
    "stream_calls, off, timed": off_stream_timed,
    "gather_calls, off": off_gather,
    "64 workers, off": off_workers,
    "64 workers, aiohttp get + read + orjson": aiohttp_workers,
}

RATIOS: Final = (
    ("get_call", "get_call, off"),
    ("get_call", "get_call, off, timed"),
    ("get_call", "aiohttp get + read + orjson"),
    ("stream_calls", "stream_calls, off"),
    ("stream_calls", "stream_calls, off, timed"),
    ("gather_calls", "gather_calls, off"),
    ("stream_calls, off", "64 workers, off"),
    ("stream_calls", "64 workers, aiohttp get + read + orjson"),
)


# --- Counting ------------------------------------------------------------------------------------


def count(lane: str, url: str, calls: int) -> int:
    """All instructions of a process that makes so many calls."""
    client = [sys.executable, __file__, "--lane", lane, "--url", url, "--calls", str(calls)]
    done = subprocess.run(  # noqa: S603 (this very file)
        [  # noqa: S607 (whichever valgrind is installed)
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            *client,
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"{lane!r} failed under valgrind:\n{done.stderr}")
    return int(found[1])


def per_call(lane: str, url: str, calls: int) -> float:
    return (count(lane, url, 2 * calls) - count(lane, url, calls)) / calls


def print_machine() -> None:
    packages = " ".join(f"{name} {version(name)}" for name in ("aiohttp", "attrs", "cattrs"))
    valgrind = subprocess.run(
        ["valgrind", "--version"],  # noqa: S607 (whichever is installed)
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    print(f"calls_async {our_version}, {packages}, orjson {version('orjson')}, {valgrind}")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}")
    print(f"{processor()}; {WIDTH} at once in bulk\n")


def processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.machine()


def compare(calls: int, lanes: Iterable[str]) -> None:
    print_machine()
    figures: dict[str, float] = {}
    print(f"{'lane':42}{'instructions a call':>20}")
    with served() as url:
        for lane in lanes:
            figures[lane] = per_call(lane, url, calls)
            print(f"{lane:42}{figures[lane]:20,.0f}", flush=True)
    print(f"\n{'lane':20}{'against':42}{'ratio':>8}{'more':>10}")
    for lane, base in RATIOS:
        if lane in figures and base in figures:
            more = figures[lane] - figures[base]
            print(f"{lane:20}{base:42}{figures[lane] / figures[base]:8.3f}{more:10,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per call, with callgrind.")
    parser.add_argument("--calls", type=int, default=CALLS, help="of the shorter run of each lane")
    parser.add_argument("--only", action="append", choices=LANES, help="a lane; may be repeated")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lane", choices=LANES, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
    elif given.lane:
        asyncio.run(LANES[given.lane](given.url, given.calls))
    elif shutil.which("valgrind") is None:
        print("nothing was counted: valgrind is not installed (it runs on Linux and FreeBSD)")
    else:
        compare(given.calls, given.only or LANES)


if __name__ == "__main__":
    main()
