"""The connections to a journal; the rule: one connection writes, under the lock, and others read.

A read has a connection of its own, in one transaction: it sees the journal of one moment, while the
job goes on. The writing connection is used by one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from calls_async import JournalError
from calls_async.journal import _rows, _schema
from calls_async.journal._lock import Lock
from calls_async.journal._place import as_path

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from calls_async import Failed
    from calls_async.journal._rows import Place, Settled, Source

PAGE: Final = 1000
"""Ids that are looked up at a time."""


class Store:
    """An open journal, as far as this package is concerned; `Journal` is what users see of it."""

    def __init__(
        self, path: Path, writer: sqlite3.Connection | None = None, lock: Lock | None = None
    ) -> None:
        self.path: Final = path
        self.closed: bool = False
        self._writer = writer
        self._lock = lock
        self._leased = False
        self._pid = os.getpid()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool) -> Self:
        """Open what is there, or make it; see `Journal.open`."""
        place = Path(os.path.realpath(as_path(path)))
        there = _schema.check(place)
        if read_only:
            if not there:
                raise JournalError(f"there is no journal at {place}")
            _schema.open_reader(place).close()
            return cls(place)
        lock = Lock(place)
        try:
            if not _schema.check(place):  # what was there before the lock may be another by now
                _schema.create(place)
            return cls(place, _schema.open_writer(place), lock)
        except BaseException:
            lock.release()
            raise

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written."""
        return self._writer is None

    def close(self) -> None:
        """Close the file and release the lock. It may be called again."""
        if self.closed or self._pid != os.getpid():
            return  # the child of a fork has to leave the parent's file and locks alone
        self.check_free()
        self.closed = True
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def check_free(self) -> None:
        """Make sure that `export_calls` is not at work.

        Raises:
            JournalError: It is.
        """
        if self._leased:
            raise JournalError(f"export_calls is at work on the journal {self.path}: await it")

    @contextmanager
    def lease(self) -> Generator[None]:
        """Keep everybody else of this process from writing; make sure that writing is possible."""
        self.check_free()
        with self.writing():
            pass
        self._leased = True
        try:
            yield
        finally:
            self._leased = False

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection of its own, which sees the journal of one moment."""
        self._check_usable()
        with self._translating(), closing(_schema.open_reader(self.path)) as db:
            try:
                yield db
            except (TypeError, ValueError, OverflowError, OSError) as exc:
                # A number where a text should be, or a time that no calendar has.
                raise _schema.damaged(self.path) from exc

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """The writing connection, in a transaction that is committed at the end."""
        self._check_usable()
        db = self._writer
        if db is None:
            raise JournalError(f"the journal {self.path} was opened to be read only")
        with self._translating():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk may have rolled it back already
                    db.execute("ROLLBACK")
                raise

    def write(
        self,
        ids: Sequence[object],
        settled: Sequence[Settled] = (),
        *,
        known: int,
        source: Source | None = None,
    ) -> list[Failed]:
        """Write all of this in one transaction; see `_rows.add` for what comes back."""
        with self.writing() as db:
            refused = _rows.add(db, ids, known=known) if ids else []
            _rows.enter(db, settled)
            if source is not None:
                _rows.note_source(db, source)
        return refused

    def pending(self, after: int) -> list[Place]:
        """The first ids behind the place `after` that have no final outcome."""
        with self.reading() as db:
            return _rows.pending(db, after, PAGE)

    def retryable(self, after: int) -> list[Place]:
        """The first ids behind the place `after` that failed and may succeed later."""
        with self.reading() as db:
            return _rows.retryable(db, after, PAGE)

    def source(self, digest: str) -> Source:
        """How far the source with this digest was read."""
        with self.reading() as db:
            return _rows.source(db, digest)

    def asked(self) -> int:
        """How many distinct ids were given so far."""
        with self.reading() as db:
            return _rows.asked(db)

    def _check_usable(self) -> None:
        if self._pid != os.getpid():
            raise JournalError(
                f"the journal {self.path} was opened before a fork: open it again in this process"
            )
        if self.closed:
            raise JournalError(f"the journal {self.path} was closed")

    @contextmanager
    def _translating(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise _schema.translated(self.path, exc) from exc
