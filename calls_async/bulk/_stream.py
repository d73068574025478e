"""Streaming; the rule: a bounded window, whatever the number of ids.

A slow consumer slows the source down, and at most `width` ids are on their way at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Iterator
from itertools import chain, count
from typing import TYPE_CHECKING, Self

from calls_async.bulk._crew import Crew
from calls_async.bulk._source import misplaced, number

if TYPE_CHECKING:
    from types import TracebackType

    from calls_async.bulk._crew import Job, OpenJob
    from calls_async.bulk._source import CallIds, Numbered
    from calls_async.outcomes import Outcome

__all__ = ["OutcomeStream"]


class OutcomeStream:
    """The outcomes of many calls, as they come: one for each occurrence of each id.

    It is an async iterator, and an async context manager that ends all its work on the way out. Use
    it as both, so that an early exit (a `break`, an exception) stops the requests at once::

        async with client.stream_calls(ids) as outcomes:
            async for outcome in outcomes:
                ...

    The plain `async for` works as well; left early, it stops when the stream is collected.

    An error that the source of the ids raises is raised here, after the outcomes of all ids that it
    gave. When the key is refused, or the batch's patience ends, what was pulled from the source
    yields `Failed`, and then the iteration raises that error. When the client is closed with a time
    of grace, what was pulled yields its outcomes, and then a `ClientClosedError` is raised, unless
    the source had said that there are no more ids.
    """

    def __init__(self, open_job: OpenJob, ids: CallIds, *, width: int) -> None:
        self._crew = _Streaming(open_job, ids, width=width)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        # What is at hand needs no second coroutine.
        outcome = self._crew.at_hand()
        return await self._crew.next() if outcome is None else outcome

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all work of the stream, and wait until it has ended."""
        await self._crew.disband()

    def __del__(self) -> None:
        # The workers hold the crew, not this handle, so a forgotten stream is collected.
        self._crew.abandon()


class _Streaming(Crew):
    """The workers of a stream, which hand the outcomes over.

    Args:
        open_job: Opens the batch, when the first outcome is asked for.
        ids: The source.
        width: How many ids may be on their way, and as many outcomes wait for the consumer.
    """

    def __init__(self, open_job: OpenJob, ids: CallIds, *, width: int) -> None:
        super().__init__(open_job, width=width)
        # An ordinary iterator is asked by `next`, which takes no turn of the loop. The others take
        # as long as they like, so that workers queue up for them.
        self._asked: Numbered | None = None
        self._listed: Iterator[tuple[str, int]] = iter(())
        if isinstance(ids, AsyncIterable):
            self._asked = number(ids)
        else:
            self._listed = zip(chain.from_iterable((ids,)), count(), strict=False)
        self._turn = asyncio.Lock()
        self._ready: deque[Outcome] = deque()
        # Workers that wait for room, each for that of the outcome which it has just handed over.
        self._blocked: deque[asyncio.Future[None]] = deque()

    def at_hand(self) -> Outcome | None:
        """The next outcome, if it is there already."""
        if self._over or not self._ready or self._job is None:
            return None
        self._job.check_home()
        return self._taken()

    async def next(self) -> Outcome:
        """The next outcome; raises what ended the work once all outcomes are handed over."""
        if self._over:
            raise StopAsyncIteration
        self._begin().check_home()
        while not self._ready and self.busy and not self._over:
            await self._news()
        if self._ready and not self._over:
            return self._taken()
        await self.disband()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def _taken(self) -> Outcome:
        """Take the next outcome, and let a worker go on that waits for room."""
        outcome = self._ready.popleft()
        while self._blocked:
            room = self._blocked.popleft()
            if not room.done():
                room.set_result(None)
                break
        return outcome

    async def _leave_source(self) -> None:
        self._listed = iter(())
        if self._asked is not None:
            await self._asked.aclose()

    def pull(self, job: Job) -> tuple[str, int] | None:
        if self._asked is not None or self._is_over(job):
            return None
        try:
            for pulled in self._listed:
                return pulled
        except StopAsyncIteration as exc:
            raise misplaced() from exc
        self._drained = True
        return None

    async def ask(self, job: Job) -> tuple[str, int] | None:
        if self._asked is None:
            return None
        async with self._turn:
            if self._is_over(job):
                return None
            waiting = asyncio.timeout(None)
            try:
                async with waiting:
                    with job.pull(waiting):
                        index, call_id = await anext(self._asked)
            except StopAsyncIteration:
                self._drained = True
                return None
            except TimeoutError:
                if not waiting.expired():
                    raise  # the source's own
            else:
                return None if self._over else (call_id, index)
            self._drained = True
            self._error = self._error or job.closing
            return None

    def _is_over(self, job: Job) -> bool:
        """Whether no more is to be pulled; the reason, if there is one, ends the iteration."""
        if job.closing is not None and not self._drained:
            self._drained = True
            self._error = self._error or job.closing
        return self._drained or self._over

    def put(self, outcome: Outcome) -> asyncio.Future[None] | None:
        self._ready.append(outcome)
        if self._waiting:
            self._wake_one()
        if len(self._ready) <= self._width or self._over:  # the caller's code may have survived
            return None
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._blocked.append(room)
        return room

    def _has_room(self) -> bool:
        return len(self._ready) < self._width
