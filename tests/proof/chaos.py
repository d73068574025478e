"""Chaos: 10,000 ids, 1,000 of them twice, through every kind of fault and two server restarts.

The rule: the client's outcomes are held against the server's ledger. Nothing may be lost, swapped
or duplicated, nothing left in flight, and no more than `MOST_REQUESTS` a distinct id. All three
ways of asking for many calls go such a road (`tests.proof.road`), each of them with two seeds.

`python -m tests.proof.chaos` prints a line for each run, and beside them the page that anybody
would write (`tests.proof.rival`), on the first of these roads.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from calls_async import CallsClient, Fetched, Timeouts
from calls_async.journal import Journal, export_calls
from calls_async.testing import (
    DeadlockError,
    FakeTransport,
    Sandbox,
    fake_client,
    run_in_virtual_time,
)
from tests.kit import open_sockets, other_tasks, timers
from tests.proof.rival import fetch_all
from tests.proof.road import Account, lay
from tests.proof.tally import Tally
from tests.waiting import until
from tests.ways import is_usual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from calls_async import Outcome
    from calls_async.testing import Ledger
    from tests.proof.road import Came, Road

IDS: Final = 10_000
SEEDS: Final = 2
"""For each way; no two runs of a sweep have the same."""
MOST_REQUESTS: Final = 2.2
"""Requests for each distinct id, on average, that a run may need."""
SHORT_IDS: Final = 1_000
"""In virtual time."""
SHORT_EXPORT: Final = 200
"""In real time, for an export has a file and a thread; so nothing is refused, which takes long."""
PATIENT: Final = Timeouts(attempt=0.5)
"""An answer that never comes costs half a second."""
LATENCY: Final = (0.0, 0.010)
AWAY: Final = 0.5
"""Seconds for which a server that restarts is away."""
RESTARTS: Final = (0.4, 0.9)
"""When it does: after so many requests for each distinct id."""
HANGS_AFTER: Final = 300.0
RIVALS: Final = ((0.5, None), (10.0, None), (0.5, 64))
"""Seconds for an attempt, and how many at a time: all of them wait within that for the pool."""

Way: TypeAlias = "Callable[[CallsClient, Road], Awaitable[Came]]"


class Server(Protocol):
    """A server that can go away."""

    @property
    def ledger(self) -> Ledger: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@attrs.define(kw_only=True, eq=False)
class Distant(FakeTransport):
    """The fake, as a server that can go away."""

    async def start(self) -> None:
        """Be there again."""
        self.reachable = True

    async def stop(self) -> None:
        """Drop what is in flight, and refuse what comes."""
        self.reachable = False
        await self.close()


# --- The three ways ------------------------------------------------------------------------------


async def gathered(client: CallsClient, road: Road) -> Came:
    """`gather_calls`: the place in the list is the position."""
    return list(enumerate(await client.gather_calls(road.ids, return_exceptions=True)))


async def streamed(client: CallsClient, road: Road) -> Came:
    """`stream_calls`: each outcome names its position."""
    async with client.stream_calls(road.ids) as outcomes:
        return [(outcome.index, _result(outcome)) async for outcome in outcomes]


async def exported(client: CallsClient, road: Road) -> Came:
    """`export_calls`: what it tells of, as far as the journal has the same."""
    told: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal.open(Path(folder) / "calls.journal") as journal,
    ):
        await export_calls(client, road.ids, journal, on_outcome=told.append)
        kept: dict[int, bytes | str] = {record.index: record.raw for record in journal.fetched()}
        kept |= {record.index: record.error for record in journal.failed()}
    return [(one.index, _result(one)) for one in told if kept.get(one.index) == _kept_as(one)]


def _result(outcome: Outcome) -> object:
    return outcome.call if isinstance(outcome, Fetched) else outcome.error


def _kept_as(outcome: Outcome) -> bytes | str:
    return outcome.raw if isinstance(outcome, Fetched) else type(outcome.error).__name__


WAYS: Final[tuple[Way, ...]] = (gathered, streamed, exported)


# --- One run -------------------------------------------------------------------------------------


async def _restarting(server: Server, road: Road) -> None:
    """Let the server go away and come back, each time so many requests have arrived."""
    for share in RESTARTS:
        while len(server.ledger) < share * len(road.distinct):  # noqa: ASYNC110 (see `until`)
            await asyncio.sleep(0.001)
        await server.stop()
        await asyncio.sleep(AWAY)
        await server.start()


async def measured(
    name: str, road: Road, asked: Sequence[str], server: Server, going: Awaitable[Came]
) -> Account:
    """Go a road while the server restarts, and take account of it.

    Args:
        name: The run's name.
        road: The road.
        asked: The ids whose results are due, in the order of the positions.
        server: The server, which is running.
        going: What goes; a `TimeoutError` comes out if it does not arrive.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    restarts = asyncio.create_task(_restarting(server, road))
    try:
        async with asyncio.timeout(HANGS_AFTER):
            came = await going
        restarted = restarts.done()
    finally:
        restarts.cancel()
        with suppress(asyncio.CancelledError):
            await restarts
    sheet = Account.of(name, road, asked, came, server.ledger)
    sheet.restarted = restarted
    sheet.seconds = clock() - began
    return sheet


async def real(way: Way, road: Road, name: str, tally: Tally) -> Account:
    """One run over real sockets."""
    sockets = open_sockets()
    async with Sandbox(faults=road.faults, latency=LATENCY) as sandbox:
        async with CallsClient(
            sandbox.api_key, base_url=sandbox.base_url, timeouts=PATIENT
        ) as client:
            sheet = await measured(name, road, _asked(way, road), sandbox, way(client, road))
            _check_quiet(name, client, tally)
        await until(lambda: sandbox.ledger.in_flight == 0)
    await until(lambda: not other_tasks())
    if open_sockets() != sockets:
        tally.found(name, "leaks", f"{open_sockets()} sockets, {sockets} before")
    _enter(sheet, tally)
    return sheet


def virtual(way: Way, road: Road, name: str, tally: Tally) -> Account:
    """One run over the fake transport, in virtual time."""

    async def run() -> Account:
        server = Distant(faults=road.faults, latency=LATENCY)
        async with fake_client(server, timeouts=PATIENT) as client:
            sheet = await measured(name, road, _asked(way, road), server, way(client, road))
            _check_quiet(name, client, tally)
        if server.ledger.in_flight or other_tasks() or timers():
            tally.found(name, "leaks", f"{server.ledger}, {other_tasks()}, {timers()}")
        return sheet

    sheet = run_in_virtual_time(run())
    _enter(sheet, tally)
    return sheet


async def rival(road: Road, *, attempt: float, width: int | None) -> Account:
    """The page that anybody would write; see `fetch_all`."""
    room = "all at once" if width is None else f"{width} at a time"
    async with Sandbox(faults=road.faults, latency=LATENCY) as sandbox:
        going = fetch_all(sandbox.base_url, sandbox.api_key, road.ids, attempt=attempt, width=width)
        name = f"aiohttp + tenacity, {room}, {attempt} s"
        return await measured(name, road, road.ids, sandbox, going)


def _asked(way: Way, road: Road) -> Sequence[str]:
    return road.distinct if way is exported else road.ids


def _check_quiet(name: str, client: CallsClient, tally: Tally) -> None:
    statistics = client.statistics()
    if statistics.in_flight or statistics.waiting:
        tally.found(name, "leaks", f"in the client: {statistics}")


def _enter(sheet: Account, tally: Tally) -> None:
    """Put a run down, with each law that it broke."""
    tally.ends.update(sheet.ends)
    tally.measured("requests for each id", sheet.per_id)
    for what in sheet.bad:
        tally.found(sheet.name, "wrong", what)
    if not sheet.restarted:
        tally.found(sheet.name, "wrong", "it was over before all restarts")
    if sheet.per_id > MOST_REQUESTS:
        tally.found(sheet.name, "wrong", f"{sheet.per_id:.2f} requests for each id")


# --- All runs ------------------------------------------------------------------------------------


async def sweep(*, short: bool, told: Callable[[Account], object] = lambda _: None) -> Tally:
    """All runs; `told` hears of each when it is over."""
    tally = Tally("chaos")
    with _server_unheard():
        for name, run in _short(tally) if short else _full(tally):
            try:
                told(await run)
            except Exception as exc:  # noqa: BLE001 (whatever it is, it is how the run ended)
                hung = isinstance(exc, TimeoutError | DeadlockError)
                tally.note(name, "hangs" if hung else "foreign", repr(exc))
    return tally


def _short(tally: Tally) -> Iterator[tuple[str, Awaitable[Account]]]:
    # In virtual time nobody is asked on the way.
    for way in (gathered, streamed) if is_usual() else ():
        name = f"{way.__name__}, in virtual time"
        road = lay(SHORT_IDS, seed=1)
        yield name, asyncio.to_thread(virtual, way, road, name, tally)
    road = lay(SHORT_EXPORT, seed=1, refusing=False)
    yield exported.__name__, real(exported, road, exported.__name__, tally)


def _full(tally: Tally) -> Iterator[tuple[str, Awaitable[Account]]]:
    for seed, way in enumerate(WAYS * SEEDS, start=1):
        name = f"{way.__name__}, seed {seed}"
        yield name, real(way, lay(IDS, seed=seed), name, tally)


@contextmanager
def _server_unheard() -> Iterator[None]:
    """Requests that a shutdown has ended: aiohttp's server complains of them."""
    log = logging.getLogger("aiohttp.server")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


# --- The table -----------------------------------------------------------------------------------

HEAD: Final = """\
| run | results | lost | swapped | wrong error | duplicated | requests per id | most | s |
|---|---|---|---|---|---|---|---|---|
"""


def _print(sheet: Account) -> None:
    bad = (sheet.lost, sheet.swapped, sheet.wrong, sheet.duplicated)
    counts = " | ".join(f"{count:,}" for count in (len(sheet.asked), *bad))
    sys.stdout.write(
        f"| {sheet.name} | {counts} | {sheet.per_id:.2f} | {sheet.most} | {sheet.seconds:.0f} |\n"
    )
    sys.stdout.flush()


async def main() -> int:
    """Print the table; the exit code says whether nothing got through."""
    sys.stdout.write(HEAD)
    tally = await sweep(short=False, told=_print)
    with _server_unheard():
        for attempt, width in RIVALS:
            _print(await rival(lay(IDS, seed=1), attempt=attempt, width=width))
    sys.stdout.writelines(f"\n{case}" for case in tally.bad)
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
