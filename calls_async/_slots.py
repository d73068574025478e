"""The slots of a fleet's pace; the rule: they are asked for while somebody waits, in one task.

What is here is what the fleet has given this client and it has not used yet. Slots are used in time
or not at all: a loop that was busy for a while does not catch up on them in a burst. More are asked
for before the last is used, because the answer takes a round trip.

The pace is the user's own code, or speaks with a service that may be away. It may fail and it may
hang: no call is lost to that, and closing the client does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from calls_async.errors import CallsError, FleetPaceError
from calls_async.fleet import Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from calls_async.fleet import FleetPace

LATE: Final = 0.025
"""Seconds after its time in which a slot may be used. A busy loop is late by some milliseconds as a
rule; what waits longer would make a burst together with the slots after it."""
AGAIN: Final = (0.1, 2.0)
"""Seconds, at most, from a failure of the pace to the next try: after the first, and in the end.
They double from one to the other, and jitter takes up to half of each."""
OVERDUE: Final = 5.0
"""Seconds without an answer after which those who wait are told, and every so many seconds again.
It is their patience that then decides."""
GRACE: Final = 1.0
"""Seconds that closing gives to what the pace is still doing, and again to its own closing."""
_MORE: Final = 0.05
"""Seconds by which a silence must end later for the fleet to be told again."""

_log = logging.getLogger("calls_async")


class Slots:
    """What a fleet's pace has given one client.

    Args:
        pace: The pace.
        loop: The client's event loop, whose clock is the only one used.
        ready: Called when there is something new to start with.
        troubled: Called with the problem when there is none, and for how many seconds that will
            stay so.
    """

    def __init__(
        self,
        pace: FleetPace,
        *,
        loop: asyncio.AbstractEventLoop,
        ready: Callable[[], None],
        troubled: Callable[[CallsError, float], None],
    ) -> None:
        self.problem: CallsError | None = None
        """Why the pace gave nothing when it was last asked; `None` if it answered."""
        self.not_before = -inf
        """Until when the fleet is parked, as far as it is known, by the loop's clock."""
        self._pace = pace
        self._loop = loop
        self._ready = ready
        self._troubled = troubled
        self._stock: deque[float] = deque()
        self._low = 0  # slots in stock at which more are asked for
        self._most = 0
        self._asking: asyncio.Task[Reservation] | None = None
        self._silent_until = -inf  # what the fleet was last told
        self._parking: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Any]] = set()
        self._closed = False

    def next_start(self, now: float) -> float:
        """When the next request may start; infinity: nobody knows, `ready` will be called."""
        stock = self._stock
        while stock and stock[0] < now - LATE:
            stock.popleft()
        if stock:
            return stock[0]
        return self.not_before if self.not_before > now else inf

    def earliest(self, now: float) -> float:
        """Before when no request can start."""
        start = self.next_start(now)
        return -inf if start == inf else start

    def started(self) -> None:
        """Use the first slot up."""
        self._stock.popleft()

    def want(self, most: int, now: float) -> None:
        """Have so many slots in stock soon, the ones that are there included.

        Args:
            most: How many requests could start now, if there were slots for them.
            now: The time, by the loop's clock.
        """
        held = len(self._stock)
        self._most = most - held
        if (
            self._asking is None
            and not self._closed
            and held <= min(self._low, most - 1)
            and self.not_before <= now
        ):
            self._asking = self._spawn(self._reserved())
            self._asking.add_done_callback(self._given)

    def rest(self) -> None:
        """Nobody waits any more: ask for nothing."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def park(self, until: float) -> None:
        """Tell the fleet to keep silent until then, by the loop's clock."""
        if self._closed or until <= max(self._loop.time(), self._silent_until + _MORE):
            return
        self._silent_until = until
        if self._parking is None:
            self._parking = self._spawn(self._parked())
            self._parking.add_done_callback(self._told)

    async def close(self) -> None:
        """End what is under way, and close the pace; it takes some seconds at most."""
        if self._closed:
            return
        self._closed = True
        self.rest()
        try:
            if self._parking is not None:  # the others shall hear of it
                await asyncio.wait({self._parking}, timeout=GRACE)
        finally:
            for task in self._ending:
                task.cancel()
        if self._ending:
            await asyncio.wait(self._ending, timeout=GRACE)
        closing = self._loop.create_task(self._shut())
        try:
            await asyncio.wait({closing}, timeout=GRACE)
        finally:
            closing.cancel()
        if not closing.done():
            await asyncio.wait({closing}, timeout=GRACE)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _reserved(self) -> Reservation:
        """What the pace gives, however often it must be asked."""
        pause, longest = AGAIN
        while True:
            most = max(1, self._most)
            try:
                given = await self._watched(self._pace.reserve(most))
                if (problem := _problem(given, most)) is None:
                    return given
                self._failed(FleetPaceError(f"reserve() gave {problem}"))
            except Exception as exc:  # noqa: BLE001 (whatever the pace's own code raises)
                self._failed(exc)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._failed(FleetPaceError("reserve() was cancelled by itself"))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            pause = min(2 * pause, longest)

    async def _watched(self, reserving: Coroutine[Any, Any, Reservation]) -> Reservation:
        """Await it, and tell those who wait every so often that there is no answer yet."""
        timer: asyncio.TimerHandle

        def overdue() -> None:
            nonlocal timer
            timer = self._loop.call_later(OVERDUE, overdue)
            self._failed(FleetPaceError(f"reserve() has not answered for {OVERDUE:g} s"))

        timer = self._loop.call_later(OVERDUE, overdue)
        try:
            return await reserving
        finally:
            timer.cancel()

    def _given(self, asking: asyncio.Task[Reservation]) -> None:
        """Put what was given into stock."""
        if asking is not self._asking:  # it was called off
            return
        self._asking = None
        if asking.cancelled():  # by whoever ends all tasks of the loop
            return
        given, now = asking.result(), self._loop.time()
        self.problem = None
        first = now + given.first
        if given.count:
            self._low = given.count // 2
            self._stock.extend(first + n * given.interval for n in range(given.count))
        else:
            self.not_before = first
            self._troubled(FleetPaceError("the fleet is parked"), max(0.0, given.first))
        self._ready()

    def _failed(self, exc: Exception) -> None:
        """Tell those who wait, and the log the first time."""
        known = exc if isinstance(exc, CallsError) else FleetPaceError(_named(exc, "reserve"))
        if self.problem is None:
            _log.warning("the fleet's pace gives no slots: %s", known.message)
        self.problem = known
        self._troubled(known, 0.0)

    async def _parked(self) -> None:
        told = -inf
        while told < self._silent_until:
            told = self._silent_until
            await self._pace.park(max(0.0, told - self._loop.time()))

    def _told(self, parking: asyncio.Task[None]) -> None:
        self._parking = None
        if not parking.cancelled() and (exc := parking.exception()) is not None:
            # This client keeps silent all the same, and each of the others will be told by the
            # server itself.
            _log.warning("the fleet could not be parked: %s", _named(exc, "park"))

    async def _shut(self) -> None:
        try:
            await self._pace.close()
        except Exception as exc:  # noqa: BLE001 (whatever the pace's own code raises)
            _log.warning("the fleet's pace could not be closed: %s", _named(exc, "close"))


def _problem(given: object, most: int) -> str | None:
    """What keeps this from being what was asked for; `None` if nothing does."""
    if not isinstance(given, Reservation):
        return f"a {type(given).__name__}, and no Reservation"
    return f"{given.count} slots for {most}" if given.count > most else None


def _named(exc: BaseException, method: str) -> str:
    # Not its text: that is not ours, and may hold a password.
    told = exc.message if isinstance(exc, CallsError) else type(exc).__name__
    return f"{method}() raised {told}"
