"""Playing a stage once with one interruption, and looking at what it left behind.

The rule: whatever was interrupted, and wherever, nothing stays (no task, timer, request, permit,
wait or connection), and the same client goes on to fetch the right records.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from calls_async import Call, CallsClient, ClientClosedError, Timeouts
from calls_async.testing import (
    SANDBOX_KEY,
    FakeTransport,
    Sandbox,
    VirtualTimeLoop,
    fake_client,
    record_body,
)
from tests.kit import open_sockets, turns
from tests.proof.stages import STAGES, Scene, Stage, common, faults
from tests.ways import is_usual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from enum import Enum

    from tests.proof.suspensions import Moment, Watch
    from tests.proof.tally import Tally

STRIDE = 23
"""In the short form, which suspensions are tried: every so many."""
MOST = 2_000
"""Suspensions that no stage has: where cases hang, it is not known when to stop."""
REAL_UNIT = 0.004
"""Seconds of a unit over real sockets."""
PATIENCE = 500.0
"""Seconds after which a piece of work hangs in virtual time."""
REAL_PATIENCE = 30.0
"""And over real sockets."""
_told: list[str] = []
"""What event loops and the collector complained of. Some of it comes when the case is over."""
SETTLING = 3
"""Turns of the loop in which what was dropped may end: generators are closed by tasks."""


@attrs.frozen
class Case:
    """One interruption.

    Attributes:
        stage: What is played.
        virtual: Whether in virtual time, or over sockets.
        way: What is done to the work.
        moment: When at a suspension.
        number: At which suspension, from 1.
    """

    stage: Stage
    virtual: bool
    way: Enum
    moment: Moment
    number: int

    def __str__(self) -> str:
        where = "virtual" if self.virtual else "sockets"
        return f"{where}, {self.stage.name}, {self.way.value} {self.moment.value}, {self.number}"


Ways: TypeAlias = "Callable[[bool], list[tuple[Any, Moment]]]"


def go_through(
    tally: Tally,
    judge: Callable[[Tally, Case], bool],
    ways: Ways,
    *,
    short: bool,
    without: tuple[str, ...] = (),
) -> Tally:
    """Play all stages, in all ways, at all suspensions; in virtual time nobody is asked on the way.

    Args:
        tally: Where to put down how the cases end.
        judge: Plays one case and puts it down; whether the work had so many suspensions.
        ways: What is done to the work and when, in virtual time or not.
        short: Whether a sample is enough.
        without: Stages that are left out.
    """
    stride = STRIDE if short else 1
    for virtual in (True, False) if is_usual() else (False,):
        for stage in STAGES:
            if not (stage.virtual if virtual else stage.real) or stage.name in without:
                continue
            for position, (way, moment) in enumerate(ways(virtual)):
                number = 1 + position % stride
                while judge(tally, Case(stage, virtual, way, moment, number)):
                    number += stride
            for problem in collected():
                tally.found(stage.name, "leaks", problem)
    return tally


def play(case: Coroutine[Any, Any, Any], *, virtual: bool) -> Any:
    """Run one case in a loop of its own."""
    # The jitter is the same in each run, so that the n-th suspension is always the same one.
    random.seed(20)
    factory = VirtualTimeLoop if virtual else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(case)


@asynccontextmanager
async def scene(case: Case, problems: list[str]) -> AsyncIterator[Scene]:
    """The stage with its server, as it is when the work begins; and afterwards, the look around."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _told.append(f"the loop: {context}"))
    stage = case.stage
    unit = 1.0 if case.virtual else REAL_UNIT
    times = {"unit": unit, "patience": PATIENCE if case.virtual else REAL_PATIENCE}
    options = common(unit) | stage.options(unit)
    script: Any = {"faults": faults(unit)}
    with tempfile.TemporaryDirectory() as folder:
        if case.virtual:
            fake = FakeTransport(latency=0.5, **script)
            client = fake_client(fake, **options)
            played = Scene(client=client, server=fake, folder=Path(folder), **times)
            await _prepare(stage, played)
            yield played
            return
        async with Sandbox(**script) as sandbox:
            sockets = open_sockets()
            options = {"api_key": SANDBOX_KEY} | options
            client = CallsClient(base_url=sandbox.base_url, **options)
            played = Scene(client=client, server=sandbox, folder=Path(folder), **times)
            await _prepare(stage, played)
            yield played
            if sockets is not None and not await soon(lambda: (open_sockets() or 0) <= sockets):
                problems.append(f"sockets: {open_sockets()} are open, {sockets} were")


async def _prepare(stage: Stage, played: Scene) -> None:
    if stage.before is not None:
        await stage.before(played)


async def soon(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds after some turns of the loop, which may take 10 seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 10.0
    while not condition() and loop.time() < until:  # noqa: ASYNC110 (the sockets tell nobody)
        await asyncio.sleep(0.001)
    return condition()


async def look_around(
    played: Scene, watch: Watch, problems: list[str], *, patient: bool = False
) -> None:
    """What the work has left behind, directly after its end.

    Args:
        played: What was played.
        watch: Which tasks and timers are the work's.
        problems: Where to put down what is wrong.
        patient: Whether tasks may take some turns to end.
    """
    client, server = played.client, played.server
    own: set[Any] = {asyncio.current_task(), *played.bystanders}
    await _ended_by_closing(played, problems)
    if patient:
        await soon(lambda: not (watch.tasks - own))
    await turns(SETTLING)
    if left := watch.tasks - own:
        problems.append(f"tasks: {left}")
    await _bystanders(played, problems)
    core: Any = client._core
    throttle, scope = core._throttle, core.scope
    statistics = client.statistics()
    left = {
        "in flight": statistics.in_flight,
        "waiting": statistics.waiting,
        "batches": len(scope._children),
        "waits": len(scope._waits),
        "pulls": len(scope._pulls) + len(scope._questions),
        "under way": int(scope.busy),
        "watchers": len(scope._watchers),
        "requests": len(scope._requests._running),
        "owing": 0 if throttle is None else throttle._owing,
    }
    for name, number in left.items():
        if number:
            problems.append(f"{name}: {number}")
    if not await soon(lambda: not server.ledger.in_flight):
        problems.append(f"the server still answers {server.ledger.in_flight} requests")
    await _goes_on(played, problems)
    await client.close()
    await turns(SETTLING)
    if timers := watch.timers:
        problems.append(f"timers: {timers}")


async def _ended_by_closing(played: Scene, problems: list[str]) -> None:
    """What the work was to close is closed in the end, and what was in flight has ended with it."""
    if played.closed:
        await played.client.close()
        ends = await asyncio.gather(*played.closed, return_exceptions=True)
        right = Call | ClientClosedError | asyncio.CancelledError
        problems += [f"a closed client: {end!r}" for end in ends if not isinstance(end, right)]


async def _bystanders(played: Scene, problems: list[str]) -> None:
    """The others' calls have come to their own ends."""
    calls = await asyncio.gather(*played.bystanders, return_exceptions=True)
    problems += [f"a bystander: {call!r}" for call in calls if not isinstance(call, Call)]


async def _goes_on(played: Scene, problems: list[str]) -> None:
    """The client fetches, or is closed and says so."""
    if isinstance(played.server, FakeTransport):
        played.server.reachable = True
    ids = ["after-1", "after-2", "after-3"]
    closed = "closed" in repr(played.client)
    patient = played.client.with_options(timeouts=Timeouts())
    async with asyncio.timeout(played.patience):
        ends = await asyncio.gather(
            *(patient.fetch_call(call_id, timeout=100.0) for call_id in ids),
            return_exceptions=True,
        )
    for call_id, end in zip(ids, ends, strict=True):
        if closed:
            if not isinstance(end, ClientClosedError):
                problems.append(f"after the end: {end!r}")
        elif isinstance(end, BaseException) or end.raw != record_body(call_id):
            problems.append(f"{call_id}: {end!r}")


def collected() -> list[str]:
    """What the collector has to say: exceptions nobody looked at, and what was not closed."""
    before, sys.unraisablehook = sys.unraisablehook, lambda it: _told.append(f"collected: {it}")
    try:
        gc.collect()
        return [*_told]
    finally:
        sys.unraisablehook = before
        _told.clear()
