"""The record of a job, as users see it; the rule: what a method has written is committed then."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final, Self

from calls_async import JournalError
from calls_async.journal import _rows
from calls_async.journal._records import FailureRecord, FetchedRecord, JobStatus, Minute
from calls_async.journal._store import Store

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from calls_async import Outcome

__all__ = ["Journal", "store_of"]

_BATCH: Final = 1000
"""Ids or outcomes that go into one transaction where there are many."""

_RECENT: Final = 5
"""Minutes of work that the rate is taken from."""
_PAUSE: Final = 60.0
"""Seconds without an outcome after which the work before counts no more for the rate."""


class Journal:
    """The record of a job: which ids were asked for, and what became of each.

    It is one SQLite file. One process may write to it at a time, any number may read it, also while
    it is written. Open it with `Journal.open`, and close it, or use it as a context manager::

        with Journal.open("calls.journal", read_only=True) as journal:
            print(journal.status().left)
    """

    _store: Store

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open a journal; one that is not there is made, unless it is only to be read.

        Args:
            path: The file.
            read_only: Whether nothing is to be written. Then no lock is needed.

        Raises:
            JournalError: The file is no journal, or of a newer version, or damaged; another process
                writes to it; the folder cannot be written to. The file was not touched.
        """
        return cls(Store.open(path, read_only=read_only))

    @property
    def path(self) -> Path:
        """Where the file is, links resolved."""
        return self._store.path

    def close(self) -> None:
        """Close the file and release the lock. It may be called again.

        Raises:
            JournalError: `export_calls` is at work on it.
        """
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        store = self._store
        state = "closed" if store.closed else "read only" if store.is_read_only else "open"
        return f"<{type(self).__name__} {str(self.path)!r}, {state}>"

    # --- Reading -------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """How far the job is, from the numbers that it keeps: at once, for any number of ids."""
        with self._store.reading() as db:
            started, asked, duplicates, fetched, failed, retryable = db.execute(
                "SELECT started_at, asked, duplicates, fetched, failed, retryable FROM job"
            ).fetchone()
            families = dict(db.execute("SELECT error, number FROM families ORDER BY error"))
            (last,) = db.execute("SELECT max(last_at) FROM minutes").fetchone()
            recent = db.execute(
                "SELECT first_at, last_at, fetched + failed FROM minutes"
                " ORDER BY minute DESC LIMIT ?",
                (_RECENT,),
            ).fetchall()
        left = asked - fetched - failed
        rate = _rate(recent)
        return JobStatus(
            asked=asked,
            duplicates=duplicates,
            fetched=fetched,
            failed=failed,
            failed_by=families,
            retryable=retryable,
            left=left,
            started_at=_utc(started),
            last_at=None if last is None else _utc(last),
            rate=rate,
            forecast=None if rate is None else left / rate,
        )

    def fetched(self) -> Iterator[FetchedRecord]:
        """The calls that were fetched, in the order in which their ids were first given."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT id, place, at, attempts, elapsed, request_id, raw"
                " FROM fetched JOIN ids USING (place) ORDER BY place"
            )
            for call_id, place, at, attempts, elapsed, request_id, raw in rows:
                yield FetchedRecord(
                    id=_rows.text_of(call_id),
                    index=place - 1,
                    raw=raw,
                    attempts=attempts,
                    elapsed=elapsed,
                    at=_utc(at),
                    request_id=request_id,
                )

    def failed(self, *, retryable: bool | None = None) -> Iterator[FailureRecord]:
        """The calls that failed for good, in the order in which their ids were first given.

        Args:
            retryable: Only those that may succeed later (`True`), or only the others (`False`).
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT id, place, at, attempts, elapsed, request_id, error, message, status,"
                " retryable, stopped_by FROM failed JOIN ids USING (place)"
                " WHERE retryable = coalesce(?, retryable) ORDER BY place",
                (retryable,),
            )
            for row in rows:
                call_id, place, at, attempts, elapsed, request_id, *rest = row
                error, message, status, may_succeed, stopped_by = rest
                yield FailureRecord(
                    id=_rows.text_of(call_id),
                    index=place - 1,
                    error=error,
                    message=message,
                    status=status,
                    retryable=bool(may_succeed),
                    stopped_by=stopped_by,
                    attempts=attempts,
                    elapsed=elapsed,
                    at=_utc(at),
                    request_id=request_id,
                )

    def left(self) -> Iterator[str]:
        """The ids without a final outcome, in the order in which they were first given."""
        with self._store.reading() as db:
            rows = db.execute("SELECT id FROM pending JOIN ids USING (place) ORDER BY place")
            for (call_id,) in rows:
                yield _rows.text_of(call_id)

    def history(self) -> Iterator[Minute]:
        """What happened, minute by minute; minutes without an outcome are left out."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT minute, first_at, last_at, fetched, failed, requests, retries, class,"
                " number FROM minutes JOIN latencies USING (minute) ORDER BY minute, class"
            )
            for numbers, of_minute in groupby(rows, key=lambda row: row[:7]):
                minute, first, last, fetched, failed, requests, retries = numbers
                yield Minute(
                    at=_utc(minute * 60),
                    first_at=_utc(first),
                    last_at=_utc(last),
                    fetched=fetched,
                    failed=failed,
                    requests=requests,
                    retries=retries,
                    latencies=tuple((_rows.latency_bound(row[7]), row[8]) for row in of_minute),
                )

    # --- Writing -------------------------------------------------------------------------------

    def add(self, ids: Iterable[str]) -> int:
        """Add ids to those asked for; how many of them are new comes back.

        An id that is no valid id fails at once, with an `InvalidCallIdError`.

        Raises:
            JournalError: The journal is only read, or cannot be written.
        """
        self._store.check_free()
        known = self._store.asked()
        given = iter(ids)
        while batch := list(islice(given, _BATCH)):
            self._store.write(batch, known=known)
        return self._store.asked() - known

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Enter outcomes of ids that were added; they are the final ones.

        An outcome of an id that was fetched already changes nothing, and one of an id that had
        failed takes the failure's place.

        Raises:
            JournalError: The journal is only read, or cannot be written; or an id was never added.
        """
        self._store.check_free()
        given = iter(outcomes)
        while batch := list(islice(given, _BATCH)):
            with self._store.writing() as db:
                _rows.enter(db, [(self._place(db, o.id), time.time(), o) for o in batch])

    def _place(self, db: sqlite3.Connection, call_id: str) -> int:
        place = _rows.place_of(db, call_id)
        if place is None:
            raise JournalError(f"the id {call_id!a} is not in the journal {self.path}")
        return place


def store_of(journal: Journal) -> Store:
    """What is behind a journal, for the rest of this package."""
    return journal._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _rate(recent: Sequence[tuple[float, float, int]]) -> float | None:
    """Outcomes per second over minutes of work, the latest first, back to the last pause."""
    number = 0
    first = last = None
    for began, ended, outcomes in recent:
        if first is not None and first - ended > _PAUSE:
            break
        first, last = began, last or ended
        number += outcomes
    if first is None or last is None or last <= first:
        return None
    return number / (last - first)
