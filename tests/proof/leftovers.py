"""What cases leave behind; the rule: no task, socket or timer, and nothing to complain of.

A leak rarely shows where it happens. It shows later, as a warning of the garbage collector or as a
message of the event loop ("exception was never retrieved"), and both are easily overheard. Here
they are listened to while the cases run, and called up before the count.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.kit import open_sockets, other_tasks, timers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.proof.tally import Tally


@asynccontextmanager
async def nothing_left(tally: Tally, cases: str) -> AsyncIterator[None]:
    """Put down as a leak what the block leaves behind.

    Args:
        tally: Where it is put down.
        cases: Which cases they are; it cannot be told which of them it was.
    """
    loop = asyncio.get_running_loop()
    heard: list[str] = []

    def hear(_: object, context: dict[str, Any]) -> None:
        heard.append(f"the loop: {context.get('message')} {context.get('exception')!r}")

    def hear_collector(unraisable: Any) -> None:
        heard.append(f"the collector: {unraisable.exc_value!r} in {unraisable.object!r}")

    gc.collect()  # what others left is not ours
    tasks, sockets, due = other_tasks(), open_sockets(), set(timers())
    theirs = loop.get_exception_handler(), sys.unraisablehook
    loop.set_exception_handler(hear)
    sys.unraisablehook = hear_collector
    with warnings.catch_warnings(record=True) as warned:
        # A warning that is an error could only be lost in a destructor.
        warnings.simplefilter("always", ResourceWarning)
        warnings.simplefilter("always", RuntimeWarning)
        try:
            yield
            await asyncio.sleep(0)  # connections that are closed are let go in the next turn
            gc.collect()
        finally:
            loop.set_exception_handler(theirs[0])
            sys.unraisablehook = theirs[1]
    heard += [f"{warning.category.__name__}: {warning.message}" for warning in warned]
    if running := other_tasks() - tasks:
        heard.append(f"tasks: {sorted(map(repr, running))}")
    if waking := set(timers()) - due:
        heard.append(f"timers: {sorted(map(repr, waking))}")
    if (still := open_sockets()) != sockets:
        heard.append(f"sockets: {still} instead of {sockets}")
    for each in heard:
        tally.found(cases, "leaks", each)
