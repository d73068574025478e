"""Soak: one client, as a worker that runs for long would use it, needs no more at the end.

The rule: the last third of the time is compared with the second third. The first one is for caches
and pools to fill. At rest, that is when nobody waits for the client, no task may be there at all,
and the median of each other figure may grow by `Room` and no more.

`python -m tests.proof.soak --minutes 10` prints the figures; its exit code is the verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
from collections import Counter
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from calls_async import Call, CallsClient, CallsError, Failed, Limits, RetryPolicy, Timeouts
from tests.kit import open_sockets, other_tasks, timers
from tests.proof.unsteady import numbered_key, unsteady_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from calls_async import OutcomeStream

SAMPLED_EVERY: Final = 3.0
"""Seconds, and as long again as the rounds on their way need to come to rest."""
THIRDS: Final = 3
ROUND_HANGS_AFTER: Final = 60.0
IMPATIENT: Final = Timeouts(attempt=0.5, total=3.0)
LIMITS: Final = Limits(max_concurrency=32, patience=5.0, hedge=0.05)
MANY: Final = 150
FEW: Final = 30
DESCRIPTORS: Final = Path("/proc/self/fd")
MEMORY: Final = Path("/proc/self/statm")
MB: Final = 2**20
PAGE: Final = 4096


# --- The use -------------------------------------------------------------------------------------


@attrs.define
class Keyring:
    """The key that the server accepts, as far as its refusals have told."""

    number: int = 0

    def provider(self) -> Callable[[], str]:
        """For one client: it is asked at first, and again when what it gave was refused."""
        given: int | None = None

        def provide() -> str:
            nonlocal given
            if given == self.number:
                self.number += 1
            given = self.number
            return numbered_key(given)

        return provide


@attrs.define(kw_only=True)
class Worker:
    """What a long-lived program does with its client.

    Attributes:
        client: The client.
        open_other: Makes one more client, as a program that does not keep one would.
        dice: Its chances.
        ends: How many results came to what.
        foreign: What came out that is no error of the client's.
        wrong: Records that are not the id's own.
    """

    client: CallsClient
    open_other: Callable[[], CallsClient]
    dice: random.Random
    ends: Counter[str] = attrs.field(factory=Counter)
    foreign: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)
    _ids: Iterator[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Never twice: the sandbox's faults are for the first requests of an id.
        self._ids = (f"call-{number}" for number in count())

    async def round(self) -> None:
        """Everything once, all of it at the same time."""
        try:
            async with asyncio.timeout(ROUND_HANGS_AFTER), asyncio.TaskGroup() as group:
                for use in USES:
                    group.create_task(self._watched(use(self)))
        except TimeoutError:
            self.foreign.append("a round did not end")

    async def _watched(self, use: Awaitable[None]) -> None:
        try:
            await use
        except (Exception, asyncio.CancelledError) as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is the round that is cancelled
            self.foreign.append(repr(exc))

    async def one_by_one(self) -> None:
        """Single calls."""
        for call_id in self._some(FEW):
            await self._get(self.client, call_id)

    async def batches(self) -> None:
        """All outcomes, duplicates too."""
        ids = self._some(MANY)
        ids += self.dice.sample(ids, FEW)
        for call_id, end in zip(
            ids, await self.client.gather_calls(ids, return_exceptions=True), strict=True
        ):
            self._enter(call_id, end)

    async def failing_batches(self) -> None:
        """All or nothing: the first failure cancels the rest."""
        try:
            await self.client.gather_calls(self._some(MANY))
        except CallsError:
            self.ends["batches that failed"] += 1

    async def left_streams(self) -> None:
        """Streams of endless ids that are left early: closed, or just dropped."""
        ids: list[str] = []
        async with self.client.stream_calls(self._noted(ids)) as outcomes:
            await self._first(FEW, outcomes, ids)
        dropped: list[str] = []
        await self._first(FEW, self.client.stream_calls(self._noted(dropped)), dropped)
        self.ends["streams that were left"] += 2

    async def cancellations(self) -> None:
        """Calls and batches that nobody waits for any more."""
        for work in (
            self.client.gather_calls(self._some(MANY)),
            *map(self.client.get_call, self._some(FEW)),
        ):
            task = asyncio.ensure_future(work)
            await asyncio.wait([task], timeout=self.dice.uniform(0.0, 0.03))
            if task.cancel():
                self.ends["cancelled"] += 1
            await asyncio.wait([task])
            if not task.cancelled() and not isinstance(task.exception(), CallsError | None):
                self.foreign.append(repr(task.exception()))

    async def children(self) -> None:
        """Clients for a short while, with policies and a hook of their own."""
        for call_id in self._some(FEW):
            events: list[object] = []
            once = RetryPolicy(max_attempts=1)
            async with self.client.with_options(retry=once, hooks=(events.append,)) as child:
                await self._get(child, call_id)

    async def others(self) -> None:
        """A client that is closed while calls are in flight."""
        async with self.open_other() as other:
            tasks = [asyncio.create_task(self._get(other, one)) for one in self._some(FEW)]
            await asyncio.wait(tasks, timeout=self.dice.uniform(0.0, 0.1))
        await asyncio.gather(*tasks)

    def _some(self, number: int) -> list[str]:
        return list(islice(self._ids, number))

    async def _get(self, client: CallsClient, call_id: str) -> None:
        try:
            self._enter(call_id, await client.get_call(call_id))
        except CallsError as exc:
            self._enter(call_id, exc)

    def _noted(self, ids: list[str]) -> Iterator[str]:
        """Endless ids, each of them noted when it is taken."""
        for call_id in self._ids:
            ids.append(call_id)
            yield call_id

    async def _first(self, number: int, outcomes: OutcomeStream, ids: Sequence[str]) -> None:
        for _ in range(number):
            outcome = await anext(outcomes)
            end = outcome.error if isinstance(outcome, Failed) else outcome.call
            self._enter(ids[outcome.index], end)

    def _enter(self, call_id: str, end: Call | CallsError) -> None:
        if isinstance(end, CallsError):
            self.ends[type(end).__name__] += 1
        elif end.id == call_id:
            self.ends["record"] += 1
        else:
            self.wrong.append(f"{call_id}: {end!r}")


Use: TypeAlias = "Callable[[Worker], Awaitable[None]]"

USES: Final[tuple[Use, ...]] = (
    Worker.one_by_one,
    Worker.batches,
    Worker.failing_batches,
    Worker.left_streams,
    Worker.cancellations,
    Worker.children,
    Worker.others,
)


# --- The figures ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Sample:
    """The figures at one moment of rest; what the system does not show is 0.

    Attributes:
        memory: MB that the process has (RSS).
        objects: What the garbage collector looks after, once it has collected.
        descriptors: Files and sockets that are open, idle connections included.
        timers: What the loop would still wake up for.
        tasks: Tasks besides the one that looks.
    """

    memory: float
    objects: float
    descriptors: float
    timers: float
    tasks: float

    @classmethod
    def taken(cls) -> Sample:
        """The figures now."""
        gc.collect()
        return cls(
            memory=int(MEMORY.read_text().split()[1]) * PAGE / MB if MEMORY.exists() else 0.0,
            objects=len(gc.get_objects()),
            descriptors=len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0,
            timers=len(timers()),
            tasks=len(other_tasks()),
        )


@attrs.frozen
class Room:
    """How much a median may grow, for it is never the same twice: a share of it, and a number."""

    share: float
    number: float

    def most(self, before: float) -> float:
        """What it may be at the end."""
        return before * (1 + self.share) + self.number


ROOMS: Final = {
    "memory": Room(0.02, 1.0),
    "objects": Room(0.01, 300),
    "descriptors": Room(0.0, 5),
    "timers": Room(0.0, 3),
    "tasks": Room(0.0, 0),
}


@attrs.frozen
class Row:
    """One figure in the three thirds of the time, as medians, and the most of all."""

    name: str
    thirds: tuple[float, float, float]
    most: float

    @classmethod
    def of(cls, name: str, samples: Sequence[Sample]) -> Row:
        """What became of one figure."""
        values = [float(getattr(sample, name)) for sample in samples]
        third = len(values) // THIRDS
        parts = (values[:third], values[third : 2 * third], values[2 * third :])
        first, second, last = map(median, parts)
        return cls(name, (first, second, last), max(values))

    @property
    def grows(self) -> bool:
        """Whether the last third has more than the second and its room."""
        _, second, last = self.thirds
        return last > ROOMS[self.name].most(second) or (self.name == "tasks" and self.most > 0)

    def __str__(self) -> str:
        cells = (*self.thirds, self.most, ROOMS[self.name].most(self.thirds[1]))
        values = " | ".join(f"{value:,.1f}" for value in cells)
        return f"| {self.name} | {values} | {'grows' if self.grows else 'stays'} |"


HEAD: Final = """\
| at rest | first third | second third | last third | most | last may be | |
|---|---|---|---|---|---|---|
"""


# --- The run -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Report:
    """What a soak has shown.

    Attributes:
        rows: What became of each figure.
        samples: How many samples they come from.
        rounds: How often everything was done.
        ends: How many results came to what.
        bad: What else went wrong, a line each.
    """

    rows: Sequence[Row]
    samples: int
    rounds: int
    ends: Counter[str]
    bad: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether nothing grows, and nothing went wrong."""
        return not self.bad and not any(row.grows for row in self.rows)


async def soak(seconds: float) -> Report:
    """Use one client for so long, and report."""
    loop = asyncio.get_running_loop()
    sockets = open_sockets()
    samples: list[Sample] = []
    rounds = 0
    keyring = Keyring()
    async with unsteady_server() as url:
        with_server = open_sockets()

        def opened() -> CallsClient:
            return CallsClient(keyring.provider(), base_url=url, timeouts=IMPATIENT, limits=LIMITS)

        async with opened() as client:
            worker = Worker(client=client, open_other=opened, dice=random.Random(1))
            ends_at = loop.time() + seconds
            while loop.time() < ends_at or len(samples) < THIRDS:
                sample_at = loop.time() + SAMPLED_EVERY
                while loop.time() < sample_at:
                    await worker.round()
                    rounds += 1
                # What was cancelled or dropped last is still on its way out. A task that stays
                # is in the sample.
                with suppress(TimeoutError):
                    await until(lambda: not other_tasks())
                samples.append(Sample.taken())
            statistics = client.statistics()
        bad = [*worker.foreign, *worker.wrong]
        if statistics.in_flight or statistics.waiting:
            bad.append(f"in flight at the end: {statistics}")
        await asyncio.sleep(0)  # closed connections are let go in the next turn
        if (still := open_sockets()) != with_server:
            bad.append(f"{still} sockets after closing, {with_server} before")
    bad += [f"{task!r} stayed" for task in other_tasks()]
    if (still := open_sockets()) != sockets:
        bad.append(f"{still} sockets at the end, {sockets} before")
    rows = [Row.of(name, samples) for name in ROOMS]
    return Report(rows=rows, samples=len(samples), rounds=rounds, ends=worker.ends, bad=bad)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; the exit code says whether anything grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    options = parser.parse_args(arguments)
    report = asyncio.run(soak(60 * options.minutes))
    sys.stdout.write(HEAD)
    sys.stdout.writelines(f"{row}\n" for row in report.rows)
    ends = ", ".join(f"{number:,} {end}" for end, number in report.ends.most_common())
    sys.stdout.write(f"\n{report.rounds} rounds, {report.samples} samples: {ends}\n")
    sys.stdout.writelines(f"{line}\n" for line in report.bad)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
