"""The workers of a batch; the rule: as many as there are permits.

One more, and each call would have to wait for another's permit, which costs more than all else that
the throttle does for it. While a call waits for its next try, another worker takes its place.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from calls_async._ids import check_call_id
from calls_async.bulk._worker import Worker, tell

if TYPE_CHECKING:
    from calls_async._relay import Arrival, HandOn
    from calls_async.bulk._worker import Flights
    from calls_async.errors import CallsError
    from calls_async.outcomes import Outcome


class Job(Protocol):
    """One batch, as far as this room is concerned."""

    @property
    def closing(self) -> CallsError | None:
        """Why no more ids are taken, once that is so."""
        ...

    def spare(self) -> int:
        """Requests that could be sent at once; less than 0 if some wait for others to end."""
        ...

    def fetch(
        self, call_id: str, index: int, hand_on: HandOn
    ) -> Coroutine[Any, Any, Outcome | None]:
        """Turn one id into its outcome; raises only what the caller's own code raises.

        Args:
            call_id: The id.
            index: Its position among those given.
            hand_on: May be called, also from outside of the task, with a record. It takes that, and
                gives the valid id to be fetched behind it, if there is one at hand.

        Returns:
            The outcome of the last id that was fetched; `None` if `hand_on` has taken it.
        """
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


class Crew(ABC):
    """The workers of one gather or stream, and what they share.

    Args:
        open_job: Opens the batch, when the work begins.
        width: How many ids may be on their way.
    """

    def __init__(self, open_job: OpenJob, *, width: int) -> None:
        self.flights: Flights = {}
        """The ids on their way."""
        self.busy = 0
        """Workers that have something to do."""
        self.enough = width // 2
        """Workers that are enough for all permits; the others of the window are for those who stand
        in."""
        self._open_job = open_job
        self._width = width
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._drained = False
        self._over = False
        self.hiring = False
        """Whether a task is being made at this moment."""
        self._error: BaseException | None = None
        # Consumers that wait for news; a dict is an ordered set.
        self._waiting: dict[asyncio.Future[None], None] = {}

    # --- What a gathering and a stream have of their own ---------------------------------------

    @abstractmethod
    def pull(self, job: Job) -> tuple[Any, int] | None:
        """The next id with its index; `None` if no more is to be fetched, or `ask` has to."""

    def is_valid(self, call_id: Any) -> bool:
        """Whether what was pulled is a valid id."""
        return check_call_id(call_id) is None

    async def ask(self, job: Job) -> tuple[Any, int] | None:  # noqa: ARG002 (see the stream's)
        """The next id of a source that has to be waited for; `None` if no more is to be fetched."""
        return None

    @abstractmethod
    async def _leave_source(self) -> None:
        """Let go of the source, and wait until it has cleaned up."""

    @abstractmethod
    def put(self, outcome: Outcome) -> asyncio.Future[None] | None:
        """Hand an outcome over; what to wait for before there is room for another."""

    def keep(self, arrival: Arrival) -> asyncio.Future[None] | None:
        """Hand over what became of an id whose record has arrived; see `put`."""
        return self.put(arrival.outcome())

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
        if self.busy < self._width:
            self.busy += 1
            self.hiring = True
            worker = asyncio.create_task(Worker(self, job).work())
            self.hiring = False
            self._workers.add(worker)
            worker.add_done_callback(self._left)

    def consider(self, job: Job, *, needed: int) -> None:
        """Take on one more worker, if it would find a permit.

        Args:
            job: The batch.
            needed: Permits that are needed besides: 1 for an id that has none yet.
        """
        # Where outcomes wait for the consumer, it is not the server that holds the batch back.
        if self._has_room() and job.spare() > needed:
            self._hire(job)

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            worker.exception()  # the consumer gets it; asyncio need not report it as forgotten
        if not self._workers and self.busy:
            # Who is cancelled before the first step never gets to count itself out.
            self.busy = 0
            if not self._drained:
                self.fail(asyncio.CancelledError())
            self._wake_all()

    def count_out(self) -> None:
        """A worker has nothing to do any more."""
        self.busy -= 1
        if not self.busy:
            self._wake_all()

    def fail(self, error: BaseException) -> None:
        """An outcome is missing, and the consumer has to know."""
        self._drained = True
        if not self._over:
            self._error = self._error or error

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
            tell(news, None)
            return

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_one()
