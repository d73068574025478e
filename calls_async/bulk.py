"""Many ids at once; the rule: a bounded window, and one outcome for every occurrence of every id.

Workers pull ids from the source, fetch them, and hand the outcomes over one by one. A slow consumer
slows the source down, and at most `width` ids are on their way at any time, however many there are.
The room knows neither client nor network: it works over anything that is a `Job`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, assert_never

import attrs

from calls_async._ids import check_call_id
from calls_async.errors import ConfigurationError
from calls_async.outcomes import Failed, Fetched, Outcome

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
    def stopped(self) -> CallsError | None:
        """Why nothing more is sent, once that is so."""
        ...

    @property
    def spare(self) -> int:
        """Requests that could be sent at once; less than 0 if some wait for others to end."""
        ...

    def fetch(self, call_id: str, index: int) -> Coroutine[Any, Any, Outcome]:
        """Turn one id into its outcome; raises only what the caller's own code raises."""
        ...

    def pull(self, timeout: asyncio.Timeout) -> AbstractContextManager[None]:
        """A wait for the source, which is to end when the job is stopped."""
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
    wanted: list[tuple[int, str]] = []  # each distinct id, where it occurs for the first time
    first: dict[str, int] = {}
    places: list[int] = []  # where the result of each occurrence is
    async with aclosing(numbered(ids)) as given:
        async for index, call_id in given:
            problem = check_call_id(call_id)
            if problem is not None and not return_exceptions:
                raise problem
            # What is no valid id may not even be hashable.
            place = first.setdefault(call_id, index) if problem is None else index
            if place == index:
                wanted.append((index, call_id))
            places.append(place)
    results: dict[int, Call | CallsError] = {}
    async with OutcomeStream(open_job, _each(wanted), width=width, finite=True) as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Fetched(index=place, call=call):
                    results[place] = call
                case Failed(index=place, error=error):
                    if not return_exceptions:
                        raise error
                    results[place] = error
                case _:
                    assert_never(outcome)
    return [results[place] for place in places]


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
    yields `Failed`, and then the iteration raises that error.
    """

    def __init__(
        self, open_job: OpenJob, source: Numbered, *, width: int, finite: bool = False
    ) -> None:
        self._crew = _Crew(open_job, source, width=width, finite=finite)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        return await self._crew.next()

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


class _Crew:
    """The workers of one stream, and what they share.

    Args:
        open_job: Opens the batch, when the first outcome is asked for.
        source: The ids.
        width: How many ids may be on their way, and as many outcomes wait for the consumer.
        finite: Whether a stopped batch pulls the rest of the source all the same, so that each id
            gets its error; otherwise the iteration ends with that error.
    """

    def __init__(self, open_job: OpenJob, source: Numbered, *, width: int, finite: bool) -> None:
        self._open_job = open_job
        self._source = source
        self._width = width
        self._finite = finite
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._turn = asyncio.Lock()
        self._drained = False
        self._over = False
        self._hiring = False
        self._error: BaseException | None = None
        # An id on its way, and the future that later occurrences of it wait for, once one does.
        self._flights: dict[str, asyncio.Future[Outcome] | None] = {}
        # The room is what bounds the outcomes that wait; so the end, `None`, always finds a place.
        self._room = asyncio.Semaphore(width)
        self._ready: asyncio.Queue[Outcome | None] = asyncio.Queue()

    async def next(self) -> Outcome:
        """The next outcome; raises what ended the work once all outcomes are handed over."""
        if self._over:
            raise StopAsyncIteration
        if self._job is None:
            self._job = self._open_job(self._stand_in)
            self._loop = asyncio.get_running_loop()
            self._hire(self._job)
        self._job.check_home()
        outcome = await self._ready.get()
        if outcome is not None:
            self._room.release()
            return outcome
        await self.disband()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def disband(self) -> None:
        """Cancel the workers and wait until the last one has ended."""
        if self._job is not None:
            self._job.check_home()
        self._dismiss()
        interrupted: asyncio.CancelledError | None = None
        while self._workers:
            try:
                await asyncio.wait(self._workers)
            except asyncio.CancelledError as exc:  # they are ending; nobody is left behind
                interrupted = exc
        await self._source.aclose()
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
            self._room.release()  # the caller's code may swallow a cancellation
        if self._job is not None:
            self._job.leave()
        self._ready.put_nowait(None)  # a consumer may wait in another task

    def _stand_in(self) -> None:
        """A call is about to sleep: somebody else may use its permit."""
        if self._job is not None and self._job.spare > 0 and not self._over:
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

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            worker.exception()  # the consumer gets it; asyncio need not report it as forgotten
        if not self._workers and self._busy:
            # Who is cancelled before the first step never gets to count itself out.
            self._busy = 0
            if not self._drained:
                self._fail(asyncio.CancelledError())
            self._ready.put_nowait(None)

    def _fail(self, error: BaseException) -> None:
        """An outcome is missing, and the consumer has to know."""
        self._drained = True
        if not self._over:
            self._error = self._error or error

    async def _work(self, job: Job) -> None:
        """Pull, fetch and hand over, until the source has no more, or others wait for a permit.

        As many workers as permits are enough: one more, and each call would have to wait for
        another's permit, which costs more than all else that the throttle does for it. While a
        call waits for its next try, another worker takes its place.
        """
        try:
            if self._hiring:
                # Where tasks begin eagerly, inside who makes them, each worker would hire the next
                # one from its own first step, and that one the next: too deep for the stack.
                await asyncio.sleep(0)
            while (pulled := await self._pull(job)) is not None and not self._over:
                # One permit is for the id that was just pulled. Half the window is enough for
                # all permits; the other half is for those who stand in. Where outcomes wait for
                # the consumer, it is not the server that holds the batch back.
                enough = self._busy >= self._width // 2 or self._room.locked()
                if job.spare > 1 and not enough:
                    self._hire(job)
                outcome = await self._settle(job, *pulled)
                await self._room.acquire()
                self._ready.put_nowait(outcome)
                if job.spare < 1 and self._busy > 1:
                    break
        except BaseException as exc:
            # The caller's source or strategy raised, or somebody else cancelled this task: either
            # way there is one outcome less.
            self._fail(exc)
            if not isinstance(exc, Exception):
                raise
        finally:
            self._busy -= 1
            if not self._busy:
                self._ready.put_nowait(None)

    async def _pull(self, job: Job) -> tuple[int, str] | None:
        """The next id with its index; `None` if no more is to be fetched."""
        async with self._turn:
            if self._drained:
                return None
            waiting = asyncio.timeout(None)
            try:
                if job.stopped is None or self._finite:
                    async with waiting:
                        with job.pull(waiting):
                            return await anext(self._source)
            except StopAsyncIteration:
                self._drained = True
                return None
            except TimeoutError:
                if not waiting.expired():
                    raise  # the source's own
            self._drained = True
            self._error = self._error or job.stopped
            return None

    async def _settle(self, job: Job, index: int, call_id: Any) -> Outcome:
        """The outcome of one occurrence; an id that is on its way already is not sent again."""
        if not isinstance(call_id, str):
            return await job.fetch(call_id, index)  # which refuses it; it may not even be hashable
        if call_id in self._flights:
            flight = self._flights[call_id]
            if flight is None:
                flight = self._flights[call_id] = asyncio.get_running_loop().create_future()
            return attrs.evolve(await flight, index=index)
        self._flights[call_id] = None
        try:
            outcome = await job.fetch(call_id, index)
        except BaseException as exc:
            flight = self._flights.pop(call_id, None)
            if flight is not None and not flight.done():
                # The others see the same; a cancellation reaches them by itself.
                flight.set_exception(exc) if isinstance(exc, Exception) else flight.cancel()
            raise
        flight = self._flights.pop(call_id, None)
        if flight is not None and not flight.done():
            flight.set_result(outcome)
        return outcome


def numbered(ids: CallIds) -> Numbered:
    """The ids one by one, from whatever holds them, each with its position.

    Raises:
        ConfigurationError: It is nothing that holds ids; one `str` is not, though it iterates.
    """
    given: Any = ids
    if isinstance(given, str | bytes) or not isinstance(given, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"ids must be an iterable of call ids, not one {type(ids).__name__}: "
            "for a single call use get_call"
        )
    return _number(ids)


async def _number(ids: CallIds) -> Numbered:
    if isinstance(ids, AsyncIterable):
        index = 0
        async for call_id in ids:
            yield index, call_id
            index += 1
    else:
        for pair in enumerate(ids):
            yield pair


async def _each(pairs: Iterable[tuple[int, str]]) -> Numbered:
    for pair in pairs:
        yield pair
