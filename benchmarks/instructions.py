"""What a call costs in instructions, with callgrind; the rule: the difference of two sizes counts.

Instructions repeat where microseconds do not: to about 0.2% for calls one at a time. Each lane runs
twice, with as many calls and with twice as many; the difference of the two counts, by the calls,
has nothing of the start-up in it. The server is another process, which is not counted, and neither
is what the kernel does. `python -m benchmarks.instructions` counts all lanes, on Linux with
valgrind.

A lane "off" is the same client with the same transport, decoder and outcomes, and, in bulk, the
same workers. In place of its fetcher there are a few lines without gate, permits, timeout, hints,
verdict and retry loop. "off, timed" has asyncio's own timeout around the request, which nobody
would go without.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from benchmarks import lanes, table
from benchmarks.machine import describe
from benchmarks.record import ids
from benchmarks.rivals import ours
from benchmarks.servers import asyncio_server
from benchmarks.target import Open, Run, Target, check, in_parallel
from calls_async import Fetched, Limits, Timeouts
from calls_async._codec import decode_call
from calls_async._ids import check_call_id
from calls_async._transport import RelayTransport
from calls_async._wire import Answer
from calls_async.outcomes import fetched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from calls_async import CallsClient
    from calls_async._relay import HandOn

CALLS: Final = 400
WIDTH: Final = 64
LONG: Final = 600.0
"""Seconds for an attempt. Under callgrind all takes fifty times as long, and no timeout may end."""


# --- The lanes -----------------------------------------------------------------------------------


def patient(target: Target, transport: ours.Transport, *, at_once: int) -> CallsClient:
    """A client that nothing is too slow for."""
    limits = Limits(max_concurrency=at_once, patience=LONG)
    timeouts = Timeouts(attempt=LONG, total=LONG)
    return ours.client_of(target, transport, limits=limits, timeouts=timeouts)


@asynccontextmanager
async def on(target: Target, *, way: str, transport: ours.Transport) -> AsyncGenerator[Run]:
    """The client as it is."""
    async with patient(target, transport, at_once=target.width) as client:
        yield functools.partial(WAYS[way], client)
        seen = client.statistics()
    assert not seen.retries + seen.failed, seen  # or the server was not healthy


async def one_by_one(client: CallsClient, wanted: Sequence[str]) -> list[Any]:
    return [await client.get_call(call_id) for call_id in wanted]


async def stream(client: CallsClient, wanted: Sequence[str]) -> list[Any]:
    came: list[Any] = [None] * len(wanted)
    async with client.stream_calls(wanted) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Fetched)
            came[outcome.index] = outcome.call.id
    return came


async def gather(client: CallsClient, wanted: Sequence[str]) -> list[Any]:
    return await client.gather_calls(wanted)


async def workers(client: CallsClient, wanted: Sequence[str]) -> list[Any]:
    """The least that bulk work takes: as many tasks over one iterator."""
    job: Any = client._fetcher  # noqa: SLF001 (which is `Off`)
    return [each.call for each in await in_parallel(wanted, job.fetch, WIDTH)]


WAYS: Final = {
    "get_call": one_by_one,
    "stream_calls": stream,
    "gather_calls": gather,
    "64 workers": workers,
}


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
        self._relays = isinstance(core.transport, RelayTransport) and not timed
        # What the bulk room asks of a fetcher: there are permits for all its workers.
        self.line = SimpleNamespace(throttle=SimpleNamespace(spare=lambda: WIDTH))

    async def fetch(self, call_id: str, index: int = 0, *_: object) -> Fetched:
        """Fetch one call; what a fetcher needs besides is not used."""
        assert check_call_id(call_id) is None
        arrival = Arrival(self._loop.time, call_id, index)
        if self._timed:
            async with asyncio.timeout_at(self._loop.time() + LONG):
                came = await self._transport.get(call_id, self._key)
        else:
            came = await self._transport.get(call_id, self._key)
        arrival.came(came)
        return arrival.outcome()

    async def relay(self, call_id: str, index: int, _: object, hand_on: HandOn) -> Fetched | None:
        """Fetch a call, and those that `hand_on` names behind it, where the transport relays."""
        if not self._relays:
            return await self.fetch(call_id, index)
        assert check_call_id(call_id) is None
        arrival = Arrival(self._loop.time, call_id, index)

        def answered(came: Answer) -> str | None:
            arrival.came(came)
            following = hand_on(arrival)
            if following is None:
                return None
            arrival.follow(*following)
            return arrival.call_id

        await self._transport.relay(call_id, self._key, answered)
        return None


class Arrival:
    """A record that has arrived; see `calls_async._relay.Arrival`.

    Args:
        now: The event loop's clock.
        call_id: The id that is asked for.
        index: Its position.
    """

    def __init__(self, now: Callable[[], float], call_id: str, index: int) -> None:
        self._now = now
        self.follow(call_id, index)

    def follow(self, call_id: str, index: int) -> None:
        """This id is asked for next."""
        self.call_id, self.index, self._began = call_id, index, self._now()

    def came(self, came: object) -> None:
        """This answer has come to it."""
        assert isinstance(came, Answer)
        assert came.status == 200
        self.call = decode_call(came.body)
        assert self.call.id == self.call_id
        self._answer, self._elapsed = came, self._now() - self._began

    def outcome(self) -> Fetched:
        """All that there is to say of it, the request id as it is."""
        body, request_id = self._answer.body, self._answer.headers.get("x-request-id")
        return fetched(self.call_id, self.index, self.call, body, 1, self._elapsed, request_id)


@asynccontextmanager
async def off(
    target: Target, *, way: str, transport: ours.Transport, timed: bool = False
) -> AsyncGenerator[Run]:
    """The client without gate and policies."""
    # In bulk, a client has twice as many ids on their way as permits. Without permits all of them
    # are in flight.
    at_once = max(1, target.width // 2)
    async with patient(target, transport, at_once=at_once) as client:
        job: Any = Off(client, timed=timed)
        client._fetcher = job  # noqa: SLF001 (see above)
        yield functools.partial(WAYS[way], client)


def _lanes() -> dict[str, tuple[Open, int]]:
    """All lanes with what opens them, and calls at once."""
    found: dict[str, tuple[Open, int]] = {}
    for transport in ours.WAYS:
        for way in WAYS:
            width = 1 if way == "get_call" else WIDTH
            made = functools.partial(off, way=way, transport=transport)
            if way != "64 workers":
                opened = functools.partial(on, way=way, transport=transport)
                found[f"{way}, {transport}"] = opened, width
                timed = functools.partial(made, timed=True)
                found[f"{way}, {transport}, off, timed"] = timed, width
            found[f"{way}, {transport}, off"] = made, width
    for lane in RIVALS:
        found[lane.name] = lane.load(), 1 if lane.alone else WIDTH
    return found


RIVALS: Final = (
    lanes.SCRIPT,
    lanes.BARE,
    lanes.FLOOR,
    lanes.FLOOR_UNREAD,
    lanes.BARE_ALONE,
)
LANES: Final = _lanes()

SHORT: Final = (
    "gather_calls, ordinary",
    "gather_calls, ordinary, off",
    "gather_calls, lane",
    "gather_calls, lane, off",
    "get_call, ordinary",
    "get_call, lane",
    *(lane.name for lane in RIVALS),
)
"""The lanes that a promise needs, or that say what its figure means."""


def _ratios() -> Iterable[tuple[str, str]]:
    for transport in ours.WAYS:
        for way in ("get_call", "stream_calls", "gather_calls"):
            lane = f"{way}, {transport}"
            yield lane, f"{lane}, off"
            yield lane, f"{lane}, off, timed"
        yield f"get_call, {transport}", lanes.BARE_ALONE.name
        yield f"stream_calls, {transport}, off", f"64 workers, {transport}, off"
        for rival in (lanes.SCRIPT, lanes.BARE, lanes.FLOOR):
            yield f"gather_calls, {transport}", rival.name


# --- Counting ------------------------------------------------------------------------------------


class SlowLoop(asyncio.SelectorEventLoop):
    """A loop whose clock goes as slowly as everything does under callgrind.

    By a real clock answers would seem to queue, and the client would ask for fewer at once.
    """

    def time(self) -> float:
        """Seconds, each of which takes fifty."""
        return time.monotonic() / 50.0  # as asyncio's own, without a call in between


async def run(lane: str, url: str, calls: int, *, made: int) -> None:
    """Make so many calls in this process.

    Args:
        lane: The lane.
        url: Where.
        calls: How many.
        made: Ids that are made for them. A random id costs as much as the floor of a request, so
            both sizes make as many.
    """
    opened, width = LANES[lane]
    wanted = list(ids(made, seed=0))[:calls]
    async with opened(Target(url=url, width=width)) as fetch:
        check(wanted, await fetch(wanted))


def count(lane: str, url: str, calls: int, *, made: int) -> int:
    """All instructions of a process that makes so many calls; see `run`."""
    client = [sys.executable, "-m", "benchmarks.instructions", "--lane", lane]
    done = subprocess.run(  # noqa: S603 (this module)
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(*client, "--url", url, "--calls", str(calls), "--made", str(made)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{lane!r} failed under valgrind:\n{done.stderr}")
    return int(found[1])


def counted(names: Iterable[str], calls: int = CALLS) -> dict[str, float]:
    """Instructions of a call, by lane."""
    figures: dict[str, float] = {}
    with asyncio_server(0.0, None, None) as served:
        for lane in names:
            more, fewer = (
                count(lane, served.plain, times * calls, made=2 * calls) for times in (2, 1)
            )
            figures[lane] = (more - fewer) / calls
    return figures


def report(figures: dict[str, float]) -> Iterable[str]:
    """The tables of the counts and of their ratios."""
    yield f"\n{'lane':42}{'instructions a call':>20}"
    for lane, figure in figures.items():
        yield f"{lane:42}{figure:20,.0f}"
    yield f"\n{'lane':32}{'against':42}{'ratio':>8}{'more':>12}"
    for lane, base in _ratios():
        if lane in figures and base in figures:
            ratio, more = figures[lane] / figures[base], figures[lane] - figures[base]
            yield f"{lane:32}{base:42}{ratio:8.3f}{more:12,.0f}"


def missing() -> str | None:
    """Why nothing can be counted; `None` if it can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (it runs on Linux and FreeBSD)"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per call, with callgrind.")
    parser.add_argument("--calls", type=int, default=CALLS, help="of the shorter run of each lane")
    parser.add_argument("--only", action="append", choices=LANES, help="a lane; may be repeated")
    parser.add_argument("--lane", choices=LANES, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--made", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.lane:
        with asyncio.Runner(loop_factory=SlowLoop) as runner:
            runner.run(run(given.lane, given.url, given.calls, made=given.made))
    elif reason := missing():
        print(f"nothing was counted: {reason}")
    else:
        print(table.machine(describe()))
        print(*report(counted(given.only or LANES, given.calls)), sep="\n")


if __name__ == "__main__":
    main()
