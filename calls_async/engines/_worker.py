"""What a worker holds and does; the rule: nothing of a chunk runs on the worker's own event loop.

A worker's loop talks to its scheduler, and a worker that is silent is taken for dead. So each
process has a thread with a loop of its own for a run. Its clients live there, records are
structured there, and Parquet is made in further threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async.engines._parts import Part, PartCounts
from calls_async.errors import CallsError, EngineError, OutputError
from calls_async.journal import _parquet
from calls_async.journal._export import is_final
from calls_async.journal._records import FailureRecord
from calls_async.outcomes import Failed, Fetched

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future

    from calls_async.client import CallsClient
    from calls_async.engines._chunks import Chunk
    from calls_async.engines._config import PortableConfig
    from calls_async.engines._place import Place
    from calls_async.outcomes import Outcome

_BATCH: Final = 1_000
"""Records that are Python objects at one time; then they become columns, off the loop."""


@attrs.frozen(kw_only=True)
class Job:
    """What all chunks of a run have in common.

    Attributes:
        run: The name of the run, which no other has.
        config: What clients are made from.
        place: The dataset.
        share: Requests a second of each chunk that is under way; `None`: no such limit.
        retry_failed: Whether failures of finished chunks are tried again.
    """

    run: str
    config: PortableConfig
    place: Place
    share: float | None
    retry_failed: bool


@attrs.frozen(kw_only=True)
class ChunkResult:
    """What became of a chunk.

    Attributes:
        counts: What is in its part.
        fetched: Records that were fetched for it now; 0 if it was finished already.
    """

    counts: PartCounts
    fetched: int


# --- The task ------------------------------------------------------------------------------------


async def fetch_chunk(job: Job, chunk: Chunk) -> ChunkResult:
    """Make the part of a chunk, if it is not there; this is what Dask runs.

    It may be run again, after a worker was lost, or at the same time, if one was taken for lost.

    Raises:
        CallsError: The job cannot go on: the key was refused, nobody answers, or the part cannot be
            written.
    """
    home = _homes.get(job.run)
    if home is None:
        raise EngineError("the run is over on this worker")
    return await asyncio.wrap_future(home.begin(job, chunk))


# --- The process's homes -------------------------------------------------------------------------

_homes: Final[dict[str, Home]] = {}
_tenants: Final[Counter[str]] = Counter()
_moving: Final = threading.Lock()


def move_in(run: str) -> None:
    """A worker of this process takes part in a run."""
    with _moving:
        if run not in _homes:
            _homes[run] = Home()
        _tenants[run] += 1


async def move_out(run: str) -> None:
    """A worker takes part no more; with the last one of the process, what it does is ended."""
    home = None
    with _moving:
        _tenants[run] -= 1
        if not _tenants[run]:
            del _tenants[run]
            home = _homes.pop(run)
    if home is not None:
        await asyncio.wrap_future(home.end())
        await asyncio.to_thread(home.join)


class Home:
    """A thread with an event loop, and the clients that live on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, because a worker may be told to end at once.
        self._thread = threading.Thread(target=self._run, name="calls-async", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._clients: list[CallsClient] = []
        self._idle: dict[float | None, list[CallsClient]] = {}
        self._thread.start()

    def begin(self, job: Job, chunk: Chunk) -> Future[ChunkResult]:
        """Begin with a chunk; to cancel what comes back is to cancel the work."""
        return asyncio.run_coroutine_threadsafe(self._kept(job, chunk), self._loop)

    def end(self) -> Future[None]:
        """Cancel all work, and close the clients when it has ended."""
        return asyncio.run_coroutine_threadsafe(self._end(), self._loop)

    def join(self) -> None:
        """Wait until the thread is gone; `end` was waited for before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def _end(self) -> None:
        working = self._tasks - {asyncio.current_task()}
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for client in self._clients:
            await client.close()

    async def _kept(self, job: Job, chunk: Chunk) -> ChunkResult:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (for type checkers)
        self._tasks.add(task)
        try:
            return await self._fetched(job, chunk)
        finally:
            self._tasks.discard(task)

    @contextmanager
    def _lent(self, job: Job) -> Generator[CallsClient]:
        """A client for a chunk: the process's one, or where the rate is shared out, one of its own.

        Each client keeps to its own limit. So as many chunks as there are shares may be under way,
        wherever they are, and together they keep to the fleet's.
        """
        idle = self._idle.setdefault(job.share, [])
        if not idle:
            idle.append(job.config.client(max_rate=job.share))
            self._clients.append(idle[-1])
        if job.share is None:
            yield idle[-1]
            return
        client = idle.pop()
        try:
            yield client
        finally:
            idle.append(client)

    async def _fetched(self, job: Job, chunk: Chunk) -> ChunkResult:
        part = Part(place=job.place, name=chunk.name)
        there = await asyncio.to_thread(part.counts)
        if there is None:
            rows = _Rows(chunk.ids)
            with self._lent(job) as client:
                await rows.fetch(client, chunk.ids)
            counts = await asyncio.to_thread(rows.finish, part)
            return ChunkResult(counts=counts, fetched=rows.number)
        if not (job.retry_failed and there.failed_by):
            return ChunkResult(counts=there, fetched=0)
        failures = await asyncio.to_thread(part.errors)
        again = [row["id"] for row in failures if row["retryable"]]
        if not again:
            return ChunkResult(counts=there, fetched=0)
        rows = _Rows(chunk.ids, kept=[row for row in failures if not row["retryable"]])
        with self._lent(job) as client:
            await rows.fetch(client, again)
        counts = await asyncio.to_thread(rows.replace, part)
        return ChunkResult(counts=counts, fetched=rows.number)


# --- The rows of a part --------------------------------------------------------------------------


class _Rows:
    """Outcomes as they come, and the part that is made of them.

    Args:
        ids: The chunk's ids, whose order the rows of its part have.
        kept: Failures that are not tried again.
    """

    def __init__(self, ids: Sequence[str], *, kept: Sequence[dict[str, Any]] = ()) -> None:
        self._places = {call_id: place for place, call_id in enumerate(ids)}
        self._fresh: list[Fetched] = []
        self._tables: list[Any] = []
        self._order: list[int] = []
        self._failures = [(self._place(row["id"]), _again(row)) for row in kept]

    @property
    def number(self) -> int:
        """How many records were fetched and set."""
        return sum(table.num_rows for table in self._tables)

    async def fetch(self, client: CallsClient, ids: Sequence[str]) -> None:
        """Fetch these ids; when this ends well, each of them has an outcome that says something.

        Raises:
            CallsError: The job cannot go on.
        """
        async with client.stream_calls(ids) as outcomes:
            async for outcome in outcomes:
                self._take(outcome)
                if len(self._fresh) >= _BATCH:
                    fresh, self._fresh = self._fresh, []
                    await asyncio.to_thread(self._set, fresh)

    def finish(self, part: Part) -> PartCounts:
        """Write the part of a chunk that had none."""
        return part.finish(self._calls([]), self._errors())

    def replace(self, part: Part) -> PartCounts:
        """Write the part anew, with the records that it had and those that are new."""
        before = part.calls()
        places = [] if before is None else list(map(self._place, before.column("id").to_pylist()))
        self._order = places + self._order
        return part.replace(self._calls([] if before is None else [before]), self._errors())

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, Fetched):
            self._fresh.append(outcome)
        elif is_final(outcome):
            self._fail(outcome)
        else:
            raise outcome.error  # of the job, not of the id

    def _set(self, fresh: Sequence[Fetched]) -> None:
        """Make columns of records."""
        rows: list[dict[str, Any]] = []
        for outcome in fresh:
            try:
                rows.append(_parquet.row_of(outcome.call))
            except OutputError as exc:  # one record that no column can hold is one failed id
                self._fail(_unwritable(outcome, exc))
            else:
                self._order.append(self._place(outcome.id))
        self._tables.append(_parquet.calls_table(rows))

    def _fail(self, outcome: Failed) -> None:
        self._failures.append((self._place(outcome.id), _record(outcome)))

    def _calls(self, before: list[Any]) -> Any:
        self._set(self._fresh)
        ranks = sorted(range(len(self._order)), key=self._order.__getitem__)
        return _parquet.joined([*before, *self._tables], ranks)

    def _errors(self) -> Any:
        ordered = sorted(self._failures, key=lambda failure: failure[0])
        return _parquet.failures_table(record for _, record in ordered)

    def _place(self, call_id: str) -> int:
        # An id with a lone surrogate is written in another way, so it is not found again.
        return self._places.get(call_id, len(self._places))


def _unwritable(outcome: Fetched, error: OutputError) -> Failed:
    return Failed(id=outcome.id, error=error, attempts=outcome.attempts, elapsed=outcome.elapsed)


def _record(outcome: Failed) -> FailureRecord:
    error: CallsError = outcome.error
    return FailureRecord(
        id=_encodable(outcome.id),
        index=0,  # nobody asks
        error=type(error).__name__,
        message=_encodable(error.message),
        status=getattr(error, "status", None),
        retryable=error.retryable,
        stopped_by=None if error.stopped_by is None else str(error.stopped_by),
        attempts=outcome.attempts,
        elapsed=outcome.elapsed,
        at=datetime.now(UTC),
        request_id=getattr(error, "request_id", None),
    )


def _again(row: dict[str, Any]) -> FailureRecord:
    """The failure that a row of a part is."""
    return FailureRecord(
        id=row["id"],
        index=0,
        error=row["error"],
        message=row["message"],
        status=row["status"],
        retryable=row["retryable"],
        stopped_by=row["stoppedBy"],
        attempts=row["attempts"],
        elapsed=row["elapsed"],
        at=row["at"],
        request_id=row["requestId"],
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
