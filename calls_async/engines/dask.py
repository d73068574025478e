"""A bulk job on Dask; the rule: Dask keeps the work alive, and the dataset says what is done.

Ids are cut into chunks, and each chunk is a task that makes one part of a Parquet dataset. A task
may be run again, anywhere, and a part that is there is not made again. So a worker may be lost at
any moment, and so may the scheduler, or this process: the same job goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async.engines._chunks import Chunk, chunks
from calls_async.engines._config import PortableConfig, portable, secret_free
from calls_async.engines._dataset import Dataset
from calls_async.engines._place import Place
from calls_async.engines._worker import ChunkResult, Job, fetch_chunk
from calls_async.errors import CallsError, ConfigurationError, EngineError
from calls_async.journal import _parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike
    from threading import Event

    from calls_async.client import CallsClient, ClientOptions
    from calls_async.engines._parts import PartCounts

__all__ = ["DaskProgress", "DaskSummary", "export_calls_dask"]

CHUNK_SIZE: Final = 5_000
"""Ids to a chunk, unless it is said: a part of about a megabyte."""
MOST_IDS: Final = 100_000
"""Ids to a chunk at most: a chunk goes through the scheduler, and a lost one is fetched again."""
_AHEAD: Final = 2
"""Chunks under way for each thread of the workers: one that is fetched, and one that waits."""
_TICK: Final = 0.5
"""Seconds between two looks at the cluster, and two calls of `progress`, if nothing happens."""
_WAITS: Final = (0.1, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try to reach all workers, at the beginning."""
_LOSSES: Final = 5
"""How often a chunk is given to Dask anew, each time after Dask has lost `allowed-failures`
workers with it (3, unless it is set to another number)."""


@attrs.frozen(kw_only=True)
class DaskProgress:
    """How far a job is.

    Attributes:
        asked: Ids that were read so far, each counted once within its chunk.
        reading: Whether more ids may come.
        fetched: Ids whose record is in the dataset.
        failed: Ids that failed for good.
        failed_by: How many of those failed with which error.
        parts: Finished parts.
        parts_before: Those of them that an earlier run had finished.
        under_way: Chunks that are being fetched or wait for a worker.
        workers: Workers that the cluster has.
        elapsed: Seconds since the run began.
    """

    asked: int
    reading: bool
    fetched: int
    failed: int
    failed_by: Mapping[str, int]
    parts: int
    parts_before: int
    under_way: int
    workers: int
    elapsed: float


@attrs.frozen(kw_only=True)
class DaskSummary:
    """What a run came to.

    Attributes:
        destination: Where the dataset is, as a URL.
        asked: Ids that were read, each counted once within its chunk.
        duplicates: Occurrences beside those: an id that was given again within a chunk.
        fetched: Ids whose record is in the dataset, those of earlier runs included.
        fetched_now: Those of them that this run has fetched.
        failed: Ids that failed for good.
        failed_by: How many of those failed with which error.
        parts: Finished parts.
        parts_before: Those of them that an earlier run had finished and this one left as they are.
        complete: Whether every id has its outcome; false if the run was told to stop.
        elapsed: Seconds that the run took.
    """

    destination: str
    asked: int
    duplicates: int
    fetched: int
    fetched_now: int
    failed: int
    failed_by: Mapping[str, int]
    parts: int
    parts_before: int
    complete: bool
    elapsed: float


def export_calls_dask(
    dask_client: Any,
    ids: Iterable[str],
    destination: str | PathLike[str],
    *,
    config: CallsClient | ClientOptions,
    chunk_size: int = CHUNK_SIZE,
    retry_failed: bool = False,
    max_rate: float | None = None,
    progress: Callable[[DaskProgress], object] | None = None,
    stop: Event | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> DaskSummary:
    """Fetch all ids on a Dask cluster, into a Parquet dataset.

    It blocks until the job is done. It may be killed at any moment and run again, on the same
    cluster or a new one: what is finished is not fetched again. One run at a time may write to a
    destination.

    Args:
        dask_client: A `distributed.Client` that is not asynchronous.
        ids: Any iterable of ids, such as those of `calls_async.journal.sources`. It is read as the
            work goes on, and anew from its beginning in each run. A chunk of ids is held at one
            time for each that is under way. An id that occurs again in a later chunk is fetched
            again, and has a record in each of the two parts.
        destination: A folder, or a URL that fsspec knows. A local folder must be the same one for
            all workers. The records are in `calls/*.parquet`, the failures in `errors/*.parquet`.
        config: The options of the workers' clients, or a client that has them. The API key is no
            part of it: it is in the environment of the workers, or given by a function that they
            can import.
        chunk_size: Ids to a part. It is what is fetched again if a worker is lost; large parts are
            what readers like.
        retry_failed: Whether failures of finished parts that may be tried again are.
        max_rate: Requests a second that all workers together start, at most. It is shared out
            evenly: over as many chunks as there are threads of workers when the run begins, and
            only so many are ever under way. So workers that join later make it no more, and
            workers that are lost make it less until others are there. A pace that the workers have
            in common (`pace` in `config`, such as `SharedPace`) loses nothing of the rate, and
            takes the place of this.
        progress: Called in this thread with how far the job is, after each part and at least every
            half second.
        stop: Once it is set, no chunk is begun; those under way are finished, and then the job
            returns.
        storage_options: What fsspec opens the destination with. They travel with the chunks; the
            workers' environment is a better place for secrets.

    Returns:
        What it came to. Without `stop`, every id has its outcome.

    Raises:
        ConfigurationError: Something given cannot be used, or there is no key where the workers
            look for it.
        OutputError: The destination cannot be written, or is of another job.
        EngineError: The cluster went away, or a chunk ended its worker again and again.
        CallsError: The key was refused, or a chunk's patience ended. The chunks under way are
            called off; finished parts are kept.
    """
    _check_client(dask_client)
    _check_ids(ids)
    _check_number("chunk_size", chunk_size, least=1, most=MOST_IDS, whole=True)
    if max_rate is not None:
        _check_number("max_rate", max_rate, least=0.001, most=1e9)
    secret_free(storage_options or {})
    settings = portable(config)
    place = Place.at(destination, storage_options)
    _parquet.check_installed()
    run = _Run(
        dask=dask_client,
        ids=ids,
        place=place,
        config=settings,
        chunk_size=chunk_size,
        retry_failed=retry_failed,
        max_rate=max_rate,
        progress=progress,
        stop=stop,
    )
    return run.run()


# --- What is given -------------------------------------------------------------------------------


def _check_client(dask_client: Any) -> None:
    try:
        kind: Any = import_module("distributed").Client
    except ImportError as exc:
        raise ConfigurationError("this needs Dask: pip install 'calls_async[dask]'") from exc
    if not isinstance(dask_client, kind):
        raise ConfigurationError(
            f"dask_client must be a distributed Client, not {type(dask_client).__name__}"
        )
    if dask_client.asynchronous:
        raise ConfigurationError(
            "dask_client must not be asynchronous, because the job is driven by a thread: from "
            "asyncio, await asyncio.to_thread(export_calls_dask, client, ...)"
        )


def _check_ids(ids: Any) -> None:
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise ConfigurationError(
            f"ids must be an ordinary iterable of call ids, not {type(ids).__name__}"
        )


def _check_number(name: str, value: Any, *, least: float, most: float, whole: bool = False) -> None:
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"{name} must be {kind} from {least:g} to {most:g}")


# --- The run -------------------------------------------------------------------------------------


@attrs.define(kw_only=True, eq=False)
class _Flight:
    """A chunk under way."""

    chunk: Chunk
    future: Any
    losses: int = 0


class _StoppedError(Exception):
    """Told to stop while the ids of finished chunks are read."""


@attrs.define(kw_only=True, eq=False)
class _Run:
    """One run of a job."""

    dask: Any
    ids: Iterable[str]
    place: Place
    config: PortableConfig
    chunk_size: int
    retry_failed: bool
    max_rate: float | None
    progress: Callable[[DaskProgress], object] | None
    stop: Event | None
    _began: float = attrs.field(factory=time.monotonic, init=False)
    _flights: dict[str, _Flight] = attrs.field(factory=dict[str, _Flight], init=False)
    _news: SimpleQueue[None] = attrs.field(factory=SimpleQueue[None], init=False)
    _looked: float = attrs.field(default=float("-inf"), init=False)
    _told: float = attrs.field(default=float("-inf"), init=False)
    _workers: int = attrs.field(default=0, init=False)
    _threads: int = attrs.field(default=0, init=False)
    _reading: bool = attrs.field(default=True, init=False)
    _asked: int = attrs.field(default=0, init=False)
    _duplicates: int = attrs.field(default=0, init=False)
    _fetched: int = attrs.field(default=0, init=False)
    _fetched_now: int = attrs.field(default=0, init=False)
    _failed_by: Counter[str] = attrs.field(factory=Counter[str], init=False)
    _parts: int = attrs.field(default=0, init=False)
    _parts_before: int = attrs.field(default=0, init=False)

    def run(self) -> DaskSummary:
        """Do the job."""
        base_url = self.config.base_url
        dataset = Dataset(self.place, base_url=base_url, chunk_size=self.chunk_size)
        dataset.begin()
        shares = self._await_workers()
        if shares:
            self._work(dataset, shares)
        return DaskSummary(
            destination=self.place.url,
            asked=self._asked,
            duplicates=self._duplicates,
            fetched=self._fetched,
            fetched_now=self._fetched_now,
            failed=self._failed_by.total(),
            failed_by=dict(self._failed_by),
            parts=self._parts,
            parts_before=self._parts_before,
            complete=not self._reading,
            elapsed=time.monotonic() - self._began,
        )

    def _await_workers(self) -> int:
        """How many threads the cluster's workers have, once there are any; 0 if told to stop."""
        while not self._is_to_stop:
            self._look()
            if self._threads:
                break
            self._tell()
            time.sleep(_TICK)
        return self._threads

    def _work(self, dataset: Dataset, shares: int) -> None:
        job = Job(
            run=secrets.token_hex(8),
            config=self.config,
            place=self.place,
            share=None if self.max_rate is None else self.max_rate / shares,
            retry_failed=self.retry_failed,
        )
        # By the destination, so that a run ends what another has left there whose driver was
        # killed: Dask lets a coroutine that it has begun go on.
        name = f"calls-async-{hashlib.sha256(self.place.url.encode()).hexdigest()[:16]}"
        todo = dataset.todo(
            self._counted(), retry_failed=self.retry_failed, on_finished=self._pass_over
        )
        try:
            self._register(import_module("calls_async.engines._plugin").RunPlugin(job.run), name)
            self._drive(job, todo, shares)
        finally:
            with suppress(Exception):  # where the scheduler is gone, so is all this
                if self._flights:
                    self.dask.cancel([flight.future for flight in self._flights.values()])
                self.dask.unregister_worker_plugin(name)

    def _register(self, plugin: Any, name: str) -> None:
        """Have a home on each worker, those that join later too."""
        for wait in (*_WAITS, None):
            try:
                self.dask.register_plugin(plugin, name=name)
            except OSError as exc:  # a worker that has just died
                if wait is None:
                    raise EngineError(f"a worker does not answer: {exc}") from exc
                time.sleep(wait)
            else:
                return

    def _drive(self, job: Job, todo: Iterator[Chunk], shares: int) -> None:
        """Keep as many chunks under way as the cluster can use, until there are no more."""
        while True:
            self._look()
            room = shares if self.max_rate is not None else _AHEAD * max(1, self._threads)
            while len(self._flights) < room and not self._is_to_stop and self._reading:
                self._launch_next(job, todo)
            self._tell()
            if not self._flights:
                return
            with suppress(Empty):
                self._news.get(timeout=_TICK)
            for key, flight in list(self._flights.items()):
                self._settle(job, key, flight)

    def _launch_next(self, job: Job, todo: Iterator[Chunk]) -> None:
        try:
            chunk = next(todo, None)
        except _StoppedError:
            return
        if chunk is None:
            self._reading = False
        else:
            self._launch(job, _Flight(chunk=chunk, future=None))

    def _launch(self, job: Job, flight: _Flight) -> None:
        # Dask takes what has the same key for the same result, for as long as it remembers it. So a
        # key is one of this run; that a chunk is done is told by its part and by nothing else.
        chunk = flight.chunk
        key = f"calls-async-chunk-{chunk.index:08d}-{job.run}-{flight.losses}"
        flight.future = self.dask.submit(fetch_chunk, job, chunk, key=key, pure=False)
        flight.future.add_done_callback(self._wake)
        self._flights[key] = flight

    def _wake(self, _: object) -> None:
        self._news.put(None)

    def _settle(self, job: Job, key: str, flight: _Flight) -> None:
        """See whether a chunk has ended, and how."""
        status = flight.future.status
        if status not in ("finished", "error", "cancelled"):
            return  # "lost", too: a worker died with the result, and Dask runs the task again
        try:
            result: ChunkResult = flight.future.result()
        except CallsError:
            raise
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 (Dask's, all kinds of)
            self._settle_loss(job, key, flight, exc)
        else:
            del self._flights[key]
            flight.future.release()
            self._enter(result.counts)
            self._fetched_now += result.fetched
            self._tell(now=True)

    def _settle_loss(self, job: Job, key: str, flight: _Flight, exc: BaseException) -> None:
        if type(exc).__name__ not in ("KilledWorker", "CancelledError"):
            told = "the cluster went away" if flight.future.cancelled() else "a chunk cannot be run"
            raise EngineError(f"{told}: {type(exc).__name__}: {exc}") from exc
        if flight.losses >= _LOSSES:
            raise EngineError(
                f"chunk {flight.chunk.index} ended its worker again and again: "
                "see the workers' logs, they may lack memory"
            ) from exc
        # Dask marks a task as bad when several workers have died with it. Where workers die for
        # reasons of their own, that happens to good chunks.
        del self._flights[key]
        flight.losses += 1
        self._launch(job, flight)

    # --- Counting ------------------------------------------------------------------------------

    def _counted(self) -> Iterator[Chunk]:
        for chunk in chunks(self.ids, self.chunk_size):
            self._asked += len(chunk.ids)
            self._duplicates += chunk.repeats
            yield chunk
            if self._is_to_stop:
                raise _StoppedError

    def _pass_over(self, _: Chunk, counts: PartCounts) -> None:
        self._parts_before += 1
        self._enter(counts)
        self._tell()

    def _enter(self, counts: PartCounts) -> None:
        self._parts += 1
        self._fetched += counts.fetched
        self._failed_by.update(counts.failed_by)

    # --- Looking and telling -------------------------------------------------------------------

    @property
    def _is_to_stop(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    def _look(self) -> None:
        """See how many threads the workers have, every so often."""
        now = time.monotonic()
        if now < self._looked + _TICK:
            return
        self._looked = now
        try:
            threads: list[int] = list(self.dask.nthreads().values())
        except Exception as exc:
            raise EngineError(
                f"the scheduler does not answer: {type(exc).__name__}: {exc}"
            ) from exc
        self._workers, self._threads = len(threads), sum(threads)

    def _tell(self, *, now: bool = False) -> None:
        at = time.monotonic()
        if self.progress is None or (at < self._told + _TICK and not now):
            return
        self._told = at
        self.progress(
            DaskProgress(
                asked=self._asked,
                reading=self._reading,
                fetched=self._fetched,
                failed=self._failed_by.total(),
                failed_by=dict(self._failed_by),
                parts=self._parts,
                parts_before=self._parts_before,
                under_way=len(self._flights),
                workers=self._workers,
                elapsed=at - self._began,
            )
        )
