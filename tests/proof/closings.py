"""`close()` at every await point of calls in flight, in virtual time and over sockets.

Each stage is played again and again, and its client is closed at the first, second, ... suspension
of the work: by one `close()`, by two at once, by one that is cancelled and called again, and by one
with a time of grace, a short or a long one. The work has to end, as what it is (a record, or its
own final failure) or with a `ClientClosedError`; nothing is sent any more, and nothing stays; see
`theatre`. The full form does all of this in virtual time and over sockets; the short form a sample
of it, over sockets with one `close()` alone.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from calls_async import CallsError, ClientClosedError, Failed
from tests.proof.suspensions import Moment, Watch
from tests.proof.tally import Tally
from tests.proof.theatre import MOST, Case, go_through, look_around, play, scene

if TYPE_CHECKING:
    from tests.proof.stages import Scene, Stage


class Way(Enum):
    """How the client is closed."""

    ONCE = "closed"
    TWICE = "closed twice at once"
    AGAIN = "closed, cancelled, closed again"
    SOON = "closed with little grace"
    LATE = "closed with much grace"


OWN_CLIENT = ("gather of the module",)
"""Stages whose client nobody else can close."""
NOTHING = "nothing, as it should be"
"""The result of work that returns `None`."""


async def sweep(*, short: bool) -> Tally:
    """Go through all stages, ways and suspensions, in a thread: each case has its own loop."""

    def ways(virtual: bool) -> list[tuple[Way, Moment]]:  # noqa: FBT001 (as `Ways` has it)
        if not short:
            return [(way, moment) for way in Way for moment in Moment]
        few = [(Way.ONCE, Moment.BEFORE), (Way.ONCE, Moment.AFTER), (Way.AGAIN, Moment.AFTER)]
        return [*few, (Way.LATE, Moment.AFTER)] if virtual else few[:1]

    return await asyncio.to_thread(
        go_through, Tally("closings"), judge, ways, short=short, without=OWN_CLIENT
    )


def judge(tally: Tally, case: Case) -> bool:
    """Play one case and put down how it ended; whether the work had so many suspensions."""
    problems: list[str] = []
    try:
        end = play(closed(case, problems), virtual=case.virtual)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it is the case's end)
        tally.note(f"{case}", "hangs" if isinstance(exc, TimeoutError) else "foreign", repr(exc))
        return case.number < MOST
    if end is None:
        return False
    if isinstance(end, BaseException) and not isinstance(end, CallsError):
        tally.note(f"{case}", "foreign", repr(end))
    elif isinstance(end, ClientClosedError):
        tally.ends[type(end).__name__] += 1
    elif end == NOTHING or case.stage.right(end) or _is_in_place(end):
        tally.ends["result"] += 1
    else:
        tally.note(f"{case}", "wrong", repr(end)[:300])
    for problem in problems:
        tally.found(f"{case}", "leaks", problem)
    return True


def _is_in_place(result: Any) -> bool:
    """Whether this is a batch that has the reason where records are missing."""
    if not isinstance(result, list):
        return False
    errors = [each.error if isinstance(each, Failed) else each for each in result]
    return any(isinstance(error, ClientClosedError) for error in errors)


async def closed(case: Case, problems: list[str]) -> Any:
    """Play a stage and close its client at one suspension; how the work ended, `None`: before."""
    loop = asyncio.get_running_loop()
    closers: list[asyncio.Task[int]] = []
    async with scene(case, problems) as played:

        def strike() -> None:
            if not work.done():
                closers.append(loop.create_task(_close(case.way, played)))

        watch = Watch(loop, case.number, case.moment, strike)
        work = loop.create_task(_work(played, case.stage, watch))
        done, _ = await asyncio.wait([work], timeout=played.patience)
        watch.stop()
        if not done:
            work.cancel()
            raise TimeoutError(f"it hangs: {work!r}")
        # Over sockets, what was sent before may arrive later.
        sent = max(await asyncio.gather(*closers), default=None)
        if case.virtual and sent is not None and len(played.server.ledger) > sent:
            problems.append("something was sent after the end")
        if closers:
            # Whoever else had a call in flight has it no more.
            played.closed += played.bystanders
            played.bystanders.clear()
        await look_around(played, watch, problems)
        return work.result() if closers else None


async def _work(played: Scene, stage: Stage, watch: Watch) -> Any:
    try:
        with watch.watching():
            result = await watch.counted(stage.work(played))
    except Exception as exc:  # noqa: BLE001 (it is looked at)
        return exc
    return NOTHING if result is None and stage.right(None) else result


async def _close(way: Enum, played: Scene) -> int:
    """Close the client; how many requests there were until then."""
    client = played.client
    match way:
        case Way.TWICE:
            await asyncio.gather(client.close(), client.close())
        case Way.AGAIN:
            first = asyncio.ensure_future(client.close())
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            await client.close()
        case Way.SOON:
            await client.close(grace=played.unit)
        case Way.LATE:
            await client.close(grace=40 * played.unit)
        case _:
            await client.close()
    return len(played.server.ledger)
