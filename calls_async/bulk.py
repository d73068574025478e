"""Many ids at once; the rule: a bounded window, and one outcome for every occurrence of every id.

Workers pull ids from the source, fetch them, and hand the outcomes over one by one. A slow consumer
slows the source down, and at most `width` ids are on their way at any time, however many there are.
The room knows neither client nor network: it works over anything that is a `Job`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import attrs

from calls_async._ids import check_call_id
from calls_async.errors import ConfigurationError
from calls_async.outcomes import Failed, Outcome

if TYPE_CHECKING:
    from types import TracebackType

    from calls_async.errors import CallsError
    from calls_async.models import Call

__all__ = ["CallIds", "OutcomeStream"]

CallIds: TypeAlias = Iterable[str] | AsyncIterable[str]
"""Ids from anything that can be iterated, synchronously or asynchronously."""

Numbered: TypeAlias = AsyncGenerator[tuple[int, str], None]
"""Ids, each with its position among those that the caller gave."""


class Job(Protocol):
    """One batch, as far as this room is concerned."""

    @property
    def closing(self) -> CallsError | None:
        """Why no more ids are taken, once that is so."""
        ...

    def spare(self) -> int:
        """Requests that could be sent at once; less than 0 if some wait for others to end."""
        ...

    def fetch(self, call_id: str, index: int) -> Coroutine[Any, Any, Outcome]:
        """Turn one id into its outcome; raises only what the caller's own code raises."""
        ...

    def pull(self, timeout: asyncio.Timeout) -> AbstractContextManager[None]:
        """A wait for the source, which is to end when no more ids are taken."""
        ...

    def check_home(self) -> None:
        """Make sure that this is the event loop and the process to which the batch belongs."""
        ...

    def leave(self) -> None:
        """The batch is over."""
        ...


OpenJob: TypeAlias = Callable[[Callable[[], None]], Job]
"""Opens a batch, which is to call what it is given whenever one of its calls begins to sleep."""


async def gather(
    open_job: OpenJob, ids: CallIds, *, width: int, return_exceptions: bool
) -> list[Call | CallsError]:
    """Fetch all ids, each distinct one once, and return what became of them, in their order.

    Raises:
        CallsError: An id failed for good and `return_exceptions` is false. By then everything else
            was cancelled and has ended. An invalid id is found before anything is sent.
    """
    ids = checked(ids)
    wanted = _Wanted(return_exceptions=return_exceptions)
    if isinstance(ids, AsyncIterable):
        async with aclosing(_number(ids)) as given:
            async for index, call_id in given:
                wanted.add(index, call_id)
    else:
        try:
            for index, call_id in enumerate(ids):
                wanted.add(index, call_id)
        except StopAsyncIteration as exc:
            raise _misplaced() from exc
    await _Gathering(open_job, wanted, width=width).run()
    return wanted.all_results()


class _Wanted:
    """What is to be gathered, and what became of it.

    There is no object for each id, because there may be millions of them.

    Args:
        return_exceptions: Whether errors are results.
    """

    def __init__(self, *, return_exceptions: bool) -> None:
        self.return_exceptions = return_exceptions
        self._first: dict[str, int] = {}  # each valid id, and where it occurs for the first time
        self._refused: list[tuple[Any, int]] = []  # what is no valid id may not even be hashable
        self._repeats: list[int] = []  # where others occur once more
        # One for each occurrence; until all are there, a repeated one is the place of the first.
        self.results: list[Any] = []

    def add(self, index: int, call_id: Any) -> None:
        """Note one more id.

        Raises:
            InvalidCallIdError: It is none, and errors are no results.
        """
        problem = check_call_id(call_id)
        if problem is None:
            place = self._first.setdefault(call_id, index)
            self.results.append(place)
            if place != index:
                self._repeats.append(index)
        elif self.return_exceptions:
            self._refused.append((call_id, index))
            self.results.append(None)
        else:
            raise problem

    def each(self) -> Iterator[tuple[Any, int]]:
        """Each distinct id, with its place."""
        return chain(self._refused, self._first.items())

    def all_results(self) -> list[Call | CallsError]:
        """What became of each occurrence, in their order."""
        results = self.results
        for index in self._repeats:
            results[index] = results[results[index]]
        return results


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


class _Crew(ABC):
    """The workers of one gather or stream, and what they share.

    Args:
        open_job: Opens the batch, when the work begins.
        width: How many ids may be on their way.
    """

    def __init__(self, open_job: OpenJob, *, width: int) -> None:
        self._open_job = open_job
        self._width = width
        # Half the window is enough for all permits; the other half is for those who stand in.
        self._enough = width // 2
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._drained = False
        self._over = False
        self._hiring = False
        self._error: BaseException | None = None
        # An id on its way, and the future that later occurrences of it wait for, once one does.
        self._flights: dict[str, asyncio.Future[Outcome] | None] = {}
        # Consumers that wait for news; a dict is an ordered set.
        self._waiting: dict[asyncio.Future[None], None] = {}

    # --- What a gathering and a stream have of their own ---------------------------------------

    @abstractmethod
    def _next(self, job: Job) -> tuple[Any, int] | None:
        """The next id with its index; `None` if no more is to be fetched, or `_ask` has to."""

    async def _ask(self, job: Job) -> tuple[Any, int] | None:  # noqa: ARG002 (see the stream's)
        """The next id of a source that has to be waited for; `None` if no more is to be fetched."""
        return None

    @abstractmethod
    async def _leave_source(self) -> None:
        """Let go of the source, and wait until it has cleaned up."""

    @abstractmethod
    def _put(self, outcome: Outcome) -> asyncio.Future[None] | None:
        """Hand an outcome over; what to wait for before there is room for another."""

    def _has_room(self) -> bool:
        """Whether outcomes find somebody who takes them."""
        return True

    # --- Who works -----------------------------------------------------------------------------

    def _begin(self) -> Job:
        """Open the batch, if that has not been done, and take on the first worker."""
        if self._job is None:
            self._job = self._open_job(self._stand_in)
            self._loop = asyncio.get_running_loop()
            self._hire(self._job)
        return self._job

    async def disband(self) -> None:
        """Cancel the workers and wait until the last one has ended."""
        if self._job is not None:
            self._job.check_home()
        self._dismiss()
        interrupted: asyncio.CancelledError | None = None
        while working := [worker for worker in self._workers if not worker.done()]:
            try:
                await asyncio.wait(working)
            except asyncio.CancelledError as exc:  # they are ending; nobody is left behind
                interrupted = exc
        for worker in self._workers.copy():
            self._left(worker)  # whose turn has not come yet
        await self._leave_source()
        if interrupted is not None:
            raise interrupted

    def abandon(self) -> None:
        """End the work from wherever the collector runs, without waiting for it."""
        if self._loop is not None and not self._over:
            with suppress(RuntimeError):  # the loop is closed, and the workers with it
                self._loop.call_soon_threadsafe(self._dismiss)

    def _dismiss(self) -> None:
        self._over = True
        for worker in self._workers:
            worker.cancel()
        if self._job is not None:
            self._job.leave()
        self._wake_all()  # a consumer may wait in another task

    def _stand_in(self) -> None:
        """A call is about to sleep: somebody else may use its permit."""
        if self._job is not None and self._job.spare() > 0 and not self._over:
            self._hire(self._job)

    def _hire(self, job: Job) -> None:
        """Take on one more worker, if the window has room for it."""
        if self._busy < self._width:
            self._busy += 1
            self._hiring = True
            worker = asyncio.create_task(self._work(job))
            self._hiring = False
            self._workers.add(worker)
            worker.add_done_callback(self._left)

    def _consider(self, job: Job) -> None:
        """Take on one more worker, if it would find a permit, beside that of the id just pulled."""
        # Where outcomes wait for the consumer, it is not the server that holds the batch back.
        if self._has_room() and job.spare() > 1:
            self._hire(job)

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            worker.exception()  # the consumer gets it; asyncio need not report it as forgotten
        if not self._workers and self._busy:
            # Who is cancelled before the first step never gets to count itself out.
            self._busy = 0
            if not self._drained:
                self._fail(asyncio.CancelledError())
            self._wake_all()

    def _fail(self, error: BaseException) -> None:
        """An outcome is missing, and the consumer has to know."""
        self._drained = True
        if not self._over:
            self._error = self._error or error

    async def _work(self, job: Job) -> None:  # noqa: C901 (one frame, as few as can be awaited)
        """Pull, fetch and hand over, until the source has no more, or others wait for a permit.

        As many workers as permits are enough: one more, and each call would have to wait for
        another's permit, which costs more than all else that the throttle does for it. While a
        call waits for its next try, another worker takes its place.
        """
        flights = self._flights
        flying: str | None = None
        try:
            if self._hiring:
                # Where tasks begin eagerly, inside who makes them, each worker would hire the next
                # one from its own first step, and that one the next: too deep for the stack.
                await asyncio.sleep(0)
            while pulled := self._next(job) or await self._ask(job):
                call_id, index = pulled
                del pulled  # the source's own iterator uses it again, if nobody else does
                if self._busy < self._enough:
                    self._consider(job)
                if isinstance(call_id, str) and call_id not in flights:
                    flights[call_id] = None
                    flying = call_id
                    outcome = await job.fetch(call_id, index)
                    flying = None
                    if (flight := flights.pop(call_id, None)) is not None:
                        _tell(flight, outcome)
                else:
                    outcome = await self._settled(job, call_id, index)
                if (room := self._put(outcome)) is not None:
                    await room
                if self._busy > 1 and job.spare() < 1:
                    break
        except BaseException as exc:
            # The caller's source or strategy raised, or somebody else cancelled this task: either
            # way there is one outcome less.
            self._fail(exc)
            self._crashed(flying, exc)
            if not isinstance(exc, Exception):
                raise
        finally:
            self._busy -= 1
            if not self._busy:
                self._wake_all()

    async def _settled(self, job: Job, call_id: Any, index: int) -> Outcome:
        """The outcome of an id that is on its way already, or that is none."""
        if not isinstance(call_id, str):
            return await job.fetch(call_id, index)  # which refuses it; it may not even be hashable
        flight = self._flights[call_id]
        if flight is None:
            flight = self._flights[call_id] = asyncio.get_running_loop().create_future()
        return attrs.evolve(await flight, index=index)

    def _crashed(self, flying: str | None, exc: BaseException) -> None:
        """Those who wait for the same id see the same; a cancellation reaches them by itself."""
        flight = None if flying is None else self._flights.pop(flying, None)
        if flight is not None and not flight.done():
            flight.set_exception(exc) if isinstance(exc, Exception) else flight.cancel()

    # --- Who waits -----------------------------------------------------------------------------

    async def _news(self) -> None:
        """Wait until there is an outcome, or the end."""
        news = asyncio.get_running_loop().create_future()
        self._waiting[news] = None
        try:
            await news
        except BaseException:
            if self._waiting.pop(news, self) is self:
                self._wake_one()  # who was woken in this very turn: somebody else may be waiting
            raise

    def _wake_one(self) -> None:
        for news in self._waiting:
            del self._waiting[news]
            _tell(news, None)
            return

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_one()


class _Gathering(_Crew):
    """The workers of a gather, which put each result into its place.

    Args:
        open_job: Opens the batch.
        wanted: What is fetched.
        width: How many ids may be on their way.
    """

    def __init__(self, open_job: OpenJob, wanted: _Wanted, *, width: int) -> None:
        super().__init__(open_job, width=width)
        self._wanted = wanted
        self._left_over = wanted.each()
        self._results = wanted.results
        self._final: CallsError | None = None

    async def run(self) -> None:
        """Fetch everything; raises the first final failure, unless errors are results."""
        try:
            self._begin()
            while self._busy and self._final is None:
                await self._news()
        finally:
            await self.disband()
        if (error := self._final or self._error) is not None:
            raise error

    def _next(self, job: Job) -> tuple[Any, int] | None:  # noqa: ARG002 (each id gets its error)
        if self._drained or self._over:
            return None
        for pulled in self._left_over:
            return pulled
        self._drained = True
        return None

    async def _leave_source(self) -> None:
        self._left_over = iter(())

    def _put(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            self._results[outcome.index] = outcome.call
        elif self._wanted.return_exceptions:
            self._results[outcome.index] = outcome.error
        else:
            self._final = self._final or outcome.error
            self._drained = True
            self._wake_all()


class _Streaming(_Crew):
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
            self._asked = _number(ids)
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
        while not self._ready and self._busy and not self._over:
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

    def _next(self, job: Job) -> tuple[str, int] | None:
        if self._asked is not None or self._is_over(job):
            return None
        try:
            for pulled in self._listed:
                return pulled
        except StopAsyncIteration as exc:
            raise _misplaced() from exc
        self._drained = True
        return None

    async def _ask(self, job: Job) -> tuple[str, int] | None:
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

    def _put(self, outcome: Outcome) -> asyncio.Future[None] | None:
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


def _tell(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _misplaced() -> RuntimeError:
    # Raised as it is, in a coroutine, it would pass for the end of the ids.
    return RuntimeError("an ordinary iterable of ids raised StopAsyncIteration")


def checked(ids: CallIds) -> CallIds:
    """`ids` as they were given.

    Raises:
        ConfigurationError: It is nothing that holds ids; one `str` is not, though it iterates.
    """
    given: Any = ids
    if isinstance(given, str | bytes) or not isinstance(given, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"ids must be an iterable of call ids, not one {type(ids).__name__}: "
            "for a single call use get_call"
        )
    return ids


def numbered(ids: CallIds) -> Numbered:
    """The ids one by one, from whatever holds them, each with its position.

    Raises:
        ConfigurationError: It is nothing that holds ids.
    """
    return _number(checked(ids))


async def _number(ids: CallIds) -> Numbered:
    if isinstance(ids, AsyncIterable):
        index = 0
        async for call_id in ids:
            yield index, call_id
            index += 1
    else:
        for pair in enumerate(ids):
            yield pair
