"""A job; the rule: ids into the journal, what has no final outcome out of it, outcomes into it.

Ids are read and calls are fetched at the same time, so a slow source holds nobody up. What is
fetched comes out of the journal, in the order of the ids: so a run that goes on after a kill and
the first one are the same, and an id that was given twice, or is settled, is not met again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import attrs

from calls_async import Failed, InvalidCallIdError, StoppedBy
from calls_async.bulk._source import numbered
from calls_async.journal._journal import Journal, store_of
from calls_async.journal._rows import Source
from calls_async.journal._writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from calls_async import CallIds, CallsClient, CallsError, Outcome
    from calls_async.bulk._source import Numbered
    from calls_async.journal._records import JobStatus
    from calls_async.journal._rows import Place
    from calls_async.journal._store import Store

__all__ = ["export_calls"]

_SLICE: Final = 0.005
"""Seconds for which ids are read from an ordinary iterator before others have their turn."""

_ABOUT_THE_JOB: Final = frozenset(
    {StoppedBy.CLOSED, StoppedBy.KEY_REFUSED, StoppedBy.PATIENCE},
)


async def export_calls(
    client: CallsClient,
    ids: CallIds | None,
    journal: Journal,
    *,
    retry_failed: bool = False,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], object] | None = None,
    digest: str | None = None,
    stop: asyncio.Event | None = None,
) -> JobStatus:
    """Fetch all ids that have no final outcome in the journal yet, and enter what becomes of them.

    It may be killed at any moment, and called again: what was committed is not fetched again. Any
    number of ids takes the same memory.

    Args:
        client: Fetches the calls.
        ids: Any (async) iterable of ids, new ones or those of an earlier run; `None`: what the
            journal has left. It is read as fast as the journal takes it. An ordinary iterator must
            not block.
        journal: The journal, opened for writing.
        retry_failed: Whether failures that may be tried again are; until then they stay as they
            are.
        fail_fast: Whether the first final failure ends the job: nothing new is sent, what is in
            flight is finished and committed, and the error is raised.
        on_outcome: Called with each final outcome; `index` is the position among the distinct ids.
        digest: A name of the content of `ids`, such as its SHA-256. A source that was read to its
            end under that name is not read again, and one that was read in part is read on.
        stop: Once it is set, nothing new is sent; what is in flight is finished and committed, and
            then the job returns, with ids left.

    Returns:
        The job's status. Without `stop`, every id has its final outcome.

    Raises:
        CallsError: The key was refused, or the batch's patience ended; with `fail_fast`, a call
            failed. What was fetched is committed.
        JournalError: The journal cannot be written. What was committed before is kept.
    """
    export = _Export(
        client=client,
        store=store_of(journal),
        ids=None if ids is None else numbered(ids),
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        on_outcome=on_outcome,
        digest=digest,
        stop=stop or asyncio.Event(),
    )
    await export.run()
    return journal.status()


def is_final(outcome: Outcome) -> bool:
    """Whether the outcome says something about the id, and not only about the job.

    An id that was not sent because the key was refused, patience ended or the client was closed,
    stays left. So does any other that was not sent at all, unless it is no valid id: its failure
    (the key's provider was too slow, for example) is nothing that the server said of it.
    """
    match outcome:
        case Failed(error=InvalidCallIdError()):
            return True
        case Failed(error=error, attempts=attempts):
            return attempts > 0 and error.stopped_by not in _ABOUT_THE_JOB
        case _:
            return True


@attrs.define(kw_only=True, eq=False)
class _Export:
    """One run of a job."""

    client: CallsClient
    store: Store
    ids: Numbered | None
    retry_failed: bool
    fail_fast: bool
    on_outcome: Callable[[Outcome], object] | None
    digest: str | None
    stop: asyncio.Event
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _places: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    """Of the ids on their way."""
    _error: CallsError | None = attrs.field(default=None, init=False)
    """Why the job is to end, or ended without an outcome for every id."""

    async def run(self) -> None:
        """Fetch what is to be fetched; when this ends, in whichever way, all of it is committed."""
        async with Writer(self.store, self._news) as writer:
            intake = asyncio.create_task(self._take_in(writer))
            intake.add_done_callback(lambda _: self._news.set())
            stopper = asyncio.create_task(self._stopped(intake))
            try:
                todo = self._todo(writer, intake)
                async with self.client.stream_calls(todo) as outcomes:
                    async for outcome in outcomes:
                        await self._settle(writer, outcome)
                if self._error is not None:
                    raise self._error
            finally:
                await _ended(stopper, intake)
            if not intake.cancelled():
                intake.result()  # what the caller's iterable raised passes, after all it gave

    async def _take_in(self, writer: Writer) -> None:
        """Read the ids into the journal; when this ends, what was read is committed."""
        try:
            if self.ids is not None:
                await self._read(writer, self.ids)
        finally:
            await writer.commit()

    async def _read(self, writer: Writer, ids: Numbered) -> None:
        source = None
        if self.digest is not None:
            source = await writer.ask(self.store.source, self.digest)
            if source.complete:
                return
        known = 0 if source is None else source.given
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + _SLICE
        async for index, call_id in ids:
            if index >= known:
                if source is not None:
                    source = Source(digest=source.digest, given=index + 1)
                await writer.add(call_id, source)
            if loop.time() > turn_ends:
                self._tell_refused(writer)
                await asyncio.sleep(0)
                turn_ends = loop.time() + _SLICE
        if source is not None:
            writer.note(attrs.evolve(source, complete=True))

    async def _stopped(self, intake: asyncio.Task[None]) -> None:
        await self.stop.wait()
        intake.cancel()

    async def _todo(self, writer: Writer, intake: asyncio.Task[None]) -> AsyncGenerator[str]:
        """The ids to fetch: failures that are tried again, then what has no outcome."""
        if self.retry_failed:
            place = 0
            while found := await writer.ask(self.store.retryable, place):
                for call_id in self._on_their_way(found):
                    yield call_id
                place = found[-1][0]
        place = 0
        last = False
        while not (last or self._is_over):
            self._news.clear()
            last = intake.done()
            found = await writer.ask(self.store.pending, place)
            for call_id in self._on_their_way(found):
                yield call_id
            if found:
                place, last = found[-1][0], False
            elif not last:
                await self._news.wait()
                writer.check()
            self._tell_refused(writer)

    def _on_their_way(self, found: list[Place]) -> Iterator[str]:
        for place, call_id in found:
            if self._is_over:
                return
            self._places[call_id] = place
            yield call_id

    @property
    def _is_over(self) -> bool:
        return self._error is not None or self.stop.is_set()

    async def _settle(self, writer: Writer, outcome: Outcome) -> None:
        place = self._places.pop(outcome.id)
        if not is_final(outcome):
            # The stream may go on, but this job cannot end well any more.
            if isinstance(outcome, Failed):
                self._error = self._error or outcome.error
            return
        await writer.settle(place, outcome)
        if self.on_outcome is not None or self.fail_fast:
            self._tell(attrs.evolve(outcome, index=place - 1))

    def _tell_refused(self, writer: Writer) -> None:
        refused, writer.refused = writer.refused, []
        for outcome in refused:
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if self.fail_fast and isinstance(outcome, Failed):
            self._error = self._error or outcome.error
        if self.on_outcome is not None:
            self.on_outcome(outcome)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until all have ended; what they raised, they keep."""
    for task in tasks:
        task.cancel()
    interrupted: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as exc:  # they are ending; none is left behind
            interrupted = exc
    for task in tasks:
        if not task.cancelled():
            task.exception()  # so that asyncio does not report it as forgotten
    if interrupted is not None:
        raise interrupted
