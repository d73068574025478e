"""Cancellation at every await point of every public coroutine, in virtual time and over sockets.

Each stage is played again and again, and interrupted at its first, second, ... suspension, until
it ends before that: while what it waits for is not there, and in the turn in which it has come; by
`Task.cancel` with a message, by three of them in three turns, by `asyncio.timeout`, by a task group
whose other task fails, and by cancelling all tasks, as `asyncio.run` does in the end. The
interruption has to come out, as it was and counted as it should be, and what it leaves is looked
at; see `theatre`. The full form does all of this in virtual time and over sockets; the short form a
sample of it, over sockets with single cancellations alone.
"""

from __future__ import annotations

import asyncio
import traceback
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

from tests.proof.suspensions import Moment, Watch
from tests.proof.tally import Tally
from tests.proof.theatre import MOST, Case, go_through, look_around, play, scene

if TYPE_CHECKING:
    from tests.proof.stages import Scene

MESSAGE = "enough of that"


class Way(Enum):
    """How the work is interrupted."""

    CANCEL = "cancelled"
    MORE = "cancelled three times"
    TIMEOUT = "timed out"
    GROUP = "sibling failed"
    ALL = "all cancelled"


class SiblingError(Exception):
    """What the other task of a group fails with."""


@attrs.define
class End:
    """How the interrupted work ended.

    Attributes:
        struck: Whether it was interrupted before it ended.
        suspensions: How often it was suspended.
        result: What came out, if a result did.
        raised: What came out otherwise.
        cancelling: How many cancellations the task still counts, where the work ended.
    """

    struck: bool = False
    suspensions: int = 0
    result: Any = None
    raised: BaseException | None = None
    cancelling: int = 0


async def sweep(*, short: bool) -> Tally:
    """Go through all stages, ways and suspensions, in a thread: each case has its own loop."""

    def ways(virtual: bool) -> list[tuple[Way, Moment]]:  # noqa: FBT001 (as `Ways` has it)
        if not short:
            return [(way, moment) for way in Way for moment in Moment]
        few = [(way, Moment.BEFORE) for way in Way]
        return [*few, (Way.CANCEL, Moment.AFTER)] if virtual else few[:1]

    return await asyncio.to_thread(go_through, Tally("cancellations"), judge, ways, short=short)


def judge(tally: Tally, case: Case) -> bool:
    """Play one case and put down how it ended; whether the work had so many suspensions."""
    problems: list[str] = []
    try:
        end = play(interrupted(case, problems), virtual=case.virtual)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it is the case's end)
        tally.note(f"{case}", "hangs" if isinstance(exc, TimeoutError) else "foreign", repr(exc))
        return case.number < MOST
    if end.suspensions < case.number:
        return False
    if wrong := wrongs(end, case):
        tally.note(f"{case}", "wrong", wrong)
    else:
        tally.ends["record" if end.raised is None else type(end.raised).__name__] += 1
    for problem in problems:
        tally.found(f"{case}", "leaks", problem)
    return True


def wrongs(end: End, case: Case) -> str:
    """What is wrong with an end; nothing is, if this is empty."""
    way = case.way
    exc = end.raised
    if exc is None:
        # What comes a turn later may come too late. A cancellation is at once.
        late = not end.struck or way in (Way.TIMEOUT, Way.GROUP)
        if not late:
            return f"the cancellation was swallowed: {end.result!r}"
        return "" if case.stage.right(end.result) and not end.cancelling else f"{end.result!r}"
    if not end.struck:
        return f"not interrupted, and yet: {exc!r}"
    match way:
        case Way.CANCEL | Way.MORE:
            right = type(exc) is asyncio.CancelledError and exc.args in _messages(exc, case)
            counted = end.cancelling >= 1
        case Way.ALL:
            right, counted = type(exc) is asyncio.CancelledError, True
        case Way.TIMEOUT:
            right, counted = type(exc) is TimeoutError, end.cancelling == 0
        case Way.GROUP:
            right = isinstance(exc, ExceptionGroup) and (
                [type(each) for each in exc.exceptions] == [SiblingError]
            )
            counted = end.cancelling == 0
    return "" if right and counted else f"{exc!r}, {end.cancelling} cancellations"


def _messages(exc: BaseException, case: Case) -> tuple[tuple[str, ...], ...]:
    """What a cancellation may say in the end: its message, or nothing where asyncio loses that.

    It does so in two places. A future that is cancelled twice in one turn keeps the first message,
    and a time limit, such as an attempt's or the fake's latency, gives none. And a cancelled
    `asyncio.gather` has the message of its last part, which has none if it was done already; with
    one of these aiohttp waits for the ends of a session's connections.
    """
    frames = traceback.walk_tb(exc.__traceback__)
    closing = any(frame.f_code.co_name == "_wait_for_close" for frame, _ in frames)
    return ((MESSAGE,), ()) if closing or case.moment is Moment.AFTER else ((MESSAGE,),)


async def interrupted(case: Case, problems: list[str]) -> End:
    """Play a stage and interrupt it at one suspension."""
    loop = asyncio.get_running_loop()
    async with scene(case, problems) as played:
        interruption = Interruption(case, played)
        watch = Watch(loop, case.number, case.moment, interruption.strike)
        end = await interruption.of(watch)
        patient = case.way in (Way.MORE, Way.ALL)
        await look_around(played, watch, problems, patient=patient)
    return end


class Interruption:
    """One piece of work, inside of what interrupts it.

    Args:
        case: What is played, and how it is interrupted.
        played: The stage.
    """

    def __init__(self, case: Case, played: Scene) -> None:
        self._case = case
        self._played = played
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._failing: asyncio.Future[None] = self._loop.create_future()
        self._end = End()

    async def of(self, watch: Watch) -> End:
        """Do the work, and be interrupted; how it ended."""
        self._watch = watch
        self._task = self._loop.create_task(self._work())
        done, _ = await asyncio.wait([self._task], timeout=self._played.patience)
        self._end.suspensions = watch.count
        watch.stop()
        if not done:
            self._task.cancel()
            raise TimeoutError(f"it hangs: {self._task!r}")
        return self._end

    def strike(self) -> None:
        """Interrupt the work, if it is not over."""
        if self._task.done():
            return
        self._end.struck = True
        match self._case.way:
            case Way.TIMEOUT:
                self._limit.reschedule(self._loop.time())
            case Way.GROUP:
                if not self._failing.done():
                    self._failing.set_exception(SiblingError())
            case Way.ALL:
                for task in {self._task, *self._watch.tasks, *self._played.closed}:
                    task.cancel(MESSAGE)
            case Way.MORE:
                self._cancel(times=3)
            case _:
                self._cancel(times=1)

    def _cancel(self, times: int) -> None:
        """Cancel, and be impatient in the next turns."""
        if not self._task.done():
            self._task.cancel(MESSAGE)
            if times > 1:
                self._loop.call_soon(self._cancel, times - 1)

    async def _work(self) -> None:
        """Do the work inside what interrupts it, and note how it ended."""
        task, end = asyncio.current_task(), self._end
        assert task is not None
        try:
            match self._case.way:
                case Way.TIMEOUT:
                    async with self._limit:
                        end.result = await self._watched()
                case Way.GROUP:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_settled(self._failing))
                        end.result = await self._watched()
                        if not self._failing.done():
                            self._failing.set_result(None)
                case _:
                    end.result = await self._watched()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 (it is judged)
            end.raised = exc
        end.cancelling = task.cancelling()

    async def _watched(self) -> Any:
        with self._watch.watching():
            return await self._watch.counted(self._case.stage.work(self._played))


async def _settled(failing: asyncio.Future[None]) -> None:
    await failing
