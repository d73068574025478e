"""The record of a job; the rule: what a method has written is committed when it returns.

Reads have connections of their own, each in one transaction: they see the journal of one moment,
while the job goes on. The writing connection is used by one thread at a time, and has the lock.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import attrs

from calls_async import Failed, Fetched, JournalError
from calls_async._ids import check_call_id
from calls_async.journal import _schema
from calls_async.journal._records import FailureRecord, FetchedRecord, JobStatus, Minute

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from types import TracebackType

    from calls_async import Outcome

__all__ = ["Journal"]

_PAGE: Final = 1000
"""Ids that are looked at, or written, in one transaction where there are many."""

_RECENT: Final = 5
"""Minutes of work that the rate is taken from."""
_PAUSE: Final = 60.0
"""Seconds without an outcome after which the work before counts no more for the rate."""

_Settled: TypeAlias = "tuple[int, float, Outcome]"
"""The place of an id, when its outcome came (seconds since 1970), and the outcome."""


class Journal:
    """The record of a job: which ids were asked for, and what became of each.

    It is one SQLite file. One process may write to it at a time, any number may read it, also while
    it is written. Open it with `Journal.open`, and close it, or use it as a context manager::

        with Journal.open("calls.journal", read_only=True) as journal:
            print(journal.status().left)
    """

    def __init__(self, path: Path, writer: sqlite3.Connection | None) -> None:
        self.path: Final = path
        """Where the file is."""
        self._writer = writer
        self._closed = False
        self._pid = os.getpid()

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
        place = Path(os.path.realpath(path))
        there = _schema.check(place)
        if read_only:
            if not there:
                raise JournalError(f"there is no journal at {place}")
            _schema.open_reader(place).close()
            return cls(place, None)
        if not there:
            _schema.create(place)
        return cls(place, _schema.open_writer(place))

    def close(self) -> None:
        """Close the file and release the lock. It may be called again."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close()

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
        state = "closed" if self._closed else "read only" if self._writer is None else "open"
        return f"<{type(self).__name__} {str(self.path)!r}, {state}>"

    # --- Reading -------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """How far the job is, from the numbers that it keeps: at once, for any number of ids."""
        with self._reading() as db:
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
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, place, at, attempts, elapsed, request_id, raw"
                " FROM fetched JOIN ids USING (place) ORDER BY place"
            )
            for call_id, place, at, attempts, elapsed, request_id, raw in rows:
                yield FetchedRecord(
                    id=_text(call_id),
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
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, place, at, attempts, elapsed, request_id, error, message, status,"
                " retryable, stopped_by FROM failed JOIN ids USING (place)"
                " WHERE ?1 IS NULL OR retryable = ?1 ORDER BY place",
                (retryable,),
            )
            for row in rows:
                call_id, place, at, attempts, elapsed, request_id, *rest = row
                error, message, status, may_succeed, stopped_by = rest
                yield FailureRecord(
                    id=_text(call_id),
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
        with self._reading() as db:
            rows = db.execute("SELECT id FROM pending JOIN ids USING (place) ORDER BY place")
            for (call_id,) in rows:
                yield _text(call_id)

    def history(self) -> Iterator[Minute]:
        """What happened, minute by minute; minutes without an outcome are left out."""
        with self._reading() as db:
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
                    latencies=tuple((_bound(row[7]), row[8]) for row in of_minute),
                )

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        self._check()
        with self._translating(), closing(_schema.open_reader(self.path)) as db:
            yield db

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise JournalError(
                f"the journal {self.path} was opened before a fork: open it again in this process"
            )
        if self._closed:
            raise JournalError(f"the journal {self.path} was closed")

    @contextmanager
    def _translating(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise _schema.translated(self.path, exc) from exc

    # --- Writing -------------------------------------------------------------------------------

    def add(self, ids: Iterable[str]) -> int:
        """Add ids to those asked for; how many of them are new comes back.

        An id that is no valid id fails at once, with an `InvalidCallIdError`.

        Raises:
            JournalError: The journal is only read, or cannot be written.
        """
        given = iter(ids)
        new = 0
        while batch := list(islice(given, _PAGE)):
            new += self._add(batch).new
        return new

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Enter outcomes of ids that were added; they are the final ones.

        An outcome of an id that was fetched already changes nothing, and one of an id that had
        failed takes the failure's place.

        Raises:
            JournalError: The journal is only read, or cannot be written; or an id was never added.
        """
        given = iter(outcomes)
        while batch := list(islice(given, _PAGE)):
            self._settle([(self._place(outcome.id), time.time(), outcome) for outcome in batch])

    def _place(self, call_id: str) -> int:
        with self._translating():
            row = self._open_writer().execute(
                "SELECT place FROM ids WHERE id = ?", (_key(call_id),)
            )
            found = row.fetchone()
        if found is None:
            raise JournalError(f"the id {call_id!a} is not in the journal {self.path}")
        place: int = found[0]
        return place

    def _add(
        self, ids: Sequence[Any], *, source: tuple[str, int, bool] | None = None, known: int = 0
    ) -> _Added:
        """Add one batch of ids in one transaction.

        Args:
            ids: The ids. What is no valid id is settled here, because not every such thing can be
                stored in a way that it could be asked for again.
            source: The digest of the source, how many ids it has given with these, and whether it
                has no more.
            known: How many ids the journal had before this run.
        """
        db = self._open_writer()
        with self._translating(), _transaction(db):
            (before,) = db.execute("SELECT asked FROM job").fetchone()
            problems = {_key(i): p for i in ids if (p := check_call_id(i)) is not None}
            keys = [_key(call_id) for call_id in ids]
            cursor = db.executemany(
                "INSERT OR IGNORE INTO ids (id) VALUES (?)", ((key,) for key in keys)
            )
            new = cursor.rowcount
            db.execute("INSERT INTO pending SELECT place FROM ids WHERE place > ?", (before,))
            again = len(keys) - new
            if again and known:  # those of earlier runs are no duplicates
                again = -new
                for key in keys:
                    row = db.execute("SELECT place FROM ids WHERE id = ?", (key,))
                    again += row.fetchone()[0] > known
            db.execute(
                "UPDATE job SET asked = asked + ?, duplicates = duplicates + ?", (new, again)
            )
            refused: list[_Settled] = []
            for key, problem in problems.items():
                row = db.execute("SELECT place FROM ids WHERE id = ?", (key,))
                (place,) = row.fetchone()
                if place > before:
                    failed = Failed(id=_text(key), error=problem, attempts=0, elapsed=0.0)
                    refused.append((place, time.time(), failed))
            _enter(db, refused)
            if source is not None:
                db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", source)
        return _Added(new=new, refused=tuple(outcome for _, _, outcome in refused))

    def _settle(self, settled: Sequence[_Settled]) -> None:
        """Enter outcomes in one transaction."""
        db = self._open_writer()
        with self._translating(), _transaction(db):
            _enter(db, settled)

    def _pending(self, after: int, limit: int = _PAGE) -> list[tuple[int, str]]:
        """The first places behind `after` that have no final outcome, and their ids."""
        with self._translating():
            return _places(self._open_writer(), "pending", after, limit)

    def _retryable(self, after: int, limit: int = _PAGE) -> list[tuple[int, str]]:
        """The first places behind `after` that failed and may be tried again, and their ids."""
        with self._translating():
            return _places(self._open_writer(), "failed", after, limit, "AND retryable")

    def _source(self, digest: str) -> tuple[int, bool]:
        """How many ids the source with this digest has given, and whether those were all."""
        with self._translating():
            row = self._open_writer().execute(
                "SELECT given, complete FROM sources WHERE digest = ?", (digest,)
            )
            given, complete = row.fetchone() or (0, 0)
        return given, bool(complete)

    def _open_writer(self) -> sqlite3.Connection:
        self._check()
        if self._writer is None:
            raise JournalError(f"the journal {self.path} was opened to be read only")
        return self._writer


@attrs.frozen(kw_only=True)
class _Added:
    """What became of a batch of ids: how many are new, and the outcomes of the invalid ones."""

    new: int
    refused: tuple[Outcome, ...]


# --- Rows ----------------------------------------------------------------------------------------


@contextmanager
def _transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def _places(
    db: sqlite3.Connection, table: str, after: int, limit: int, condition: str = ""
) -> list[tuple[int, str]]:
    rows = db.execute(
        f"SELECT place, id FROM {table} JOIN ids USING (place)"  # noqa: S608 (our own words)
        f" WHERE place > ? {condition} ORDER BY place LIMIT ?",
        (after, limit),
    )
    return [(place, _text(call_id)) for place, call_id in rows]


def _enter(db: sqlite3.Connection, settled: Sequence[_Settled]) -> None:
    """Enter the outcomes of places that have no final one, or whose failure is replaced."""
    if not settled:
        return
    cursor = db.executemany("DELETE FROM pending WHERE place = ?", ((row[0],) for row in settled))
    if cursor.rowcount != len(settled):
        settled = _without_settled(db, settled)
    fetched = [_fetched_row(place, at, o) for place, at, o in settled if isinstance(o, Fetched)]
    failed = [_failed_row(place, at, o) for place, at, o in settled if isinstance(o, Failed)]
    db.executemany("INSERT INTO fetched VALUES (?, ?, ?, ?, ?, ?)", fetched)
    db.executemany("INSERT INTO failed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", failed)
    _count(db, len(fetched), failed, step=1)
    _chronicle(db, settled)


def _without_settled(db: sqlite3.Connection, settled: Sequence[_Settled]) -> list[_Settled]:
    """Those whose place has no outcome in the tables; a failure is taken out to make way."""
    accepted: dict[int, _Settled] = {}
    for row in settled:
        place = row[0]
        if db.execute("SELECT 1 FROM fetched WHERE place = ?", (place,)).fetchone():
            continue
        old = db.execute("SELECT * FROM failed WHERE place = ?", (place,)).fetchall()
        db.execute("DELETE FROM failed WHERE place = ?", (place,))
        _count(db, 0, old, step=-1)
        accepted[place] = row
    return list(accepted.values())


def _count(
    db: sqlite3.Connection, fetched: int, failed: Sequence[tuple[Any, ...]], *, step: int
) -> None:
    """Change the job's numbers by these outcomes: `step` is 1, or -1 to take them out."""
    db.execute(
        "UPDATE job SET fetched = fetched + ?, failed = failed + ?, retryable = retryable + ?",
        (step * fetched, step * len(failed), step * sum(row[8] for row in failed)),
    )
    for row in failed:
        db.execute(
            "INSERT INTO families VALUES (?1, ?2)"
            " ON CONFLICT (error) DO UPDATE SET number = number + ?2",
            (row[5], step),
        )
    if step < 0:
        db.execute("DELETE FROM families WHERE number = 0")


def _chronicle(db: sqlite3.Connection, settled: Sequence[_Settled]) -> None:
    """Add the outcomes to the history."""
    for minute, rows in groupby(settled, key=lambda row: int(row[1] // 60)):
        times: list[float] = []
        classes: dict[int, int] = {}
        fetched = requests = retries = 0
        for _, at, outcome in rows:
            times.append(at)
            fetched += isinstance(outcome, Fetched)
            requests += outcome.attempts
            retries += max(0, outcome.attempts - 1)
            kind = _class(outcome.elapsed)
            classes[kind] = classes.get(kind, 0) + 1
        db.execute(
            "INSERT INTO minutes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            " ON CONFLICT (minute) DO UPDATE SET first_at = min(first_at, ?2),"
            " last_at = max(last_at, ?3), fetched = fetched + ?4, failed = failed + ?5,"
            " requests = requests + ?6, retries = retries + ?7",
            (minute, min(times), max(times), fetched, len(times) - fetched, requests, retries),
        )
        db.executemany(
            "INSERT INTO latencies VALUES (?1, ?2, ?3)"
            " ON CONFLICT (minute, class) DO UPDATE SET number = number + ?3",
            ((minute, kind, number) for kind, number in classes.items()),
        )


def _fetched_row(place: int, at: float, outcome: Fetched) -> tuple[Any, ...]:
    return place, at, outcome.attempts, outcome.elapsed, outcome.request_id, outcome.raw


def _failed_row(place: int, at: float, outcome: Failed) -> tuple[Any, ...]:
    error = outcome.error
    return (
        place,
        at,
        outcome.attempts,
        outcome.elapsed,
        getattr(error, "request_id", None),
        type(error).__name__,
        error.message,
        getattr(error, "status", None),
        int(error.retryable),
        None if error.stopped_by is None else str(error.stopped_by),
    )


# --- Values --------------------------------------------------------------------------------------


def _key(call_id: object) -> str | bytes:
    """How an id is stored: as text, or, where it is none that UTF-8 can carry, as bytes."""
    if isinstance(call_id, str):
        try:
            call_id.encode()
        except UnicodeEncodeError:
            return call_id.encode("utf-8", "surrogatepass")
        return call_id
    problem = check_call_id(call_id)
    return str(problem and problem.call_id).encode("utf-8", "surrogatepass")


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "surrogatepass")


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _class(elapsed: float) -> int:
    """The class of a latency; see the table `latencies`."""
    return max(0, math.ceil(4 * math.log2(max(elapsed, 1e-9) / 0.001)))


def _bound(kind: int) -> float:
    return 0.001 * math.pow(2, kind / 4)


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
