"""One worker of a batch; the rule: one outcome for each id that it pulls.

It pulls ids from the source, fetches them, and hands the outcomes over, one after another. An id
that is on its way already is not sent again: who pulls it once more waits for the same outcome.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from calls_async._relay import Arrival, HandOn
    from calls_async.bulk._crew import Crew, Job
    from calls_async.outcomes import Outcome

Flights: TypeAlias = "dict[str, asyncio.Future[Outcome] | None]"
"""Ids on their way, each with the future that later occurrences of it wait for, once one does."""


class Worker:
    """Pulls, fetches and hands over, until the source has no more, or others wait for a permit.

    Args:
        crew: The crew that it is one of.
        job: The batch.
    """

    def __init__(self, crew: Crew, job: Job) -> None:
        self._crew = crew
        self._job = job
        self._flights = crew.flights
        self._flying: str | None = None
        # What `hand_on` leaves to `work`: an id that was pulled, and a wait for room.
        self._pulled: tuple[Any, int] | None = None
        self._room: asyncio.Future[None] | None = None

    async def work(self) -> None:
        """Do so; what goes wrong is the crew's to tell."""
        crew, job = self._crew, self._job
        # The caller's own iterator sees the same context variables wherever it is called from.
        # (mypy: the stub of `run` wants all arguments at once.)
        hand_on = partial(copy_context().run, self.hand_on)  # type: ignore[call-arg]
        try:
            if crew.hiring:
                # Where tasks begin eagerly, inside who makes them, each worker would hire the next
                # one from its own first step, and that one the next: too deep for the stack.
                await asyncio.sleep(0)
            while pulled := self._pull() or await crew.ask(job):
                call_id, index = pulled
                del pulled  # the source's own iterator uses it again, if nobody else does
                if crew.busy < crew.enough:
                    crew.consider(job, needed=1)
                outcome = await self._fetched(call_id, index, hand_on)
                if outcome is not None:
                    self._room = crew.put(outcome)
                if self._room is not None:
                    await self._room
                    self._room = None
                if self._pulled is None and crew.busy > 1 and job.spare() < 1:
                    break
        except BaseException as exc:
            # The caller's source or strategy raised, or somebody else cancelled this task: either
            # way there is one outcome less.
            crew.fail(exc)
            self._crash(exc)
            if not isinstance(exc, Exception):
                raise
        finally:
            crew.count_out()

    def hand_on(self, arrival: Arrival) -> tuple[str, int] | None:
        """Hand a record over, and pull the next id; see `Job.fetch`."""
        crew, job = self._crew, self._job
        if (flight := self._landed()) is not None:
            tell(flight, arrival.outcome())
        self._room = crew.keep(arrival)
        if self._room is not None:
            return None
        pulled = crew.pull(job)
        if pulled is None:
            return None
        if crew.busy < crew.enough:
            crew.consider(job, needed=0)
        call_id, _ = pulled
        if crew.is_valid(call_id) and call_id not in self._flights:
            self._take_off(call_id)
            return pulled
        self._pulled = pulled
        return None

    def _pull(self) -> tuple[Any, int] | None:
        pulled, self._pulled = self._pulled, None
        return pulled or self._crew.pull(self._job)

    async def _fetched(self, call_id: Any, index: int, hand_on: HandOn) -> Outcome | None:
        """The outcome of an id; `None` if that, and those behind it, were handed on."""
        if not isinstance(call_id, str):  # which is refused; it may not even be hashable
            return await self._job.fetch(call_id, index, hand_on)
        if call_id in self._flights:
            return await self._same(call_id, index)
        self._take_off(call_id)
        outcome = await self._job.fetch(call_id, index, hand_on)
        if outcome is not None and (flight := self._landed()) is not None:
            tell(flight, outcome)
        return outcome

    async def _same(self, call_id: str, index: int) -> Outcome:
        """The outcome of an id that is on its way already."""
        flight = self._flights[call_id]
        if flight is None:
            flight = self._flights[call_id] = asyncio.get_running_loop().create_future()
        return attrs.evolve(await flight, index=index)

    def _take_off(self, call_id: str) -> None:
        self._flights[call_id] = None
        self._flying = call_id

    def _landed(self) -> asyncio.Future[Outcome] | None:
        """What those wait for who want the same id, now that it is no longer on its way."""
        call_id, self._flying = self._flying, None
        return None if call_id is None else self._flights.pop(call_id, None)

    def _crash(self, exc: BaseException) -> None:
        """Those who wait for the same id see the same; a cancellation reaches them by itself."""
        flight = self._landed()
        if flight is not None and not flight.done():
            flight.set_exception(exc) if isinstance(exc, Exception) else flight.cancel()


def tell(future: asyncio.Future[Any], result: object) -> None:
    """Give who waits what it waits for, if it still does."""
    if not future.done():
        future.set_result(result)
