"""The file: its tables, how it is recognised, made and opened; what is no journal is not touched.

An SQLite file says what it is by an application id and a user version. Both are read through a
connection that takes no lock, looks for no write-ahead log and cannot write (`immutable`), before
any other one is opened: to open a foreign file in the ordinary way might already recover its log.
(To read the header by hand would be worse: closing that file would drop the POSIX locks that an
SQLite connection of the same process has on it; see "How To Corrupt An SQLite Database File".)
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_type_hints
from urllib.parse import quote

from calls_async import Call, Caller, Contact, JournalError, PhoneNumber
from calls_async.journal._printable import printable
from calls_async.models import wire_names

if TYPE_CHECKING:
    from pathlib import Path

    import attrs

APPLICATION_ID: Final = int.from_bytes(b"CAjl")
VERSION: Final = 1

_BUSY: Final = 10.0
"""Seconds to wait for a lock of SQLite's. Readers and the writer do not wait for each other; only
opening, recovery and the end of a log do."""

_NESTED: Final = (Contact, PhoneNumber, Caller)

_TABLES: Final = """
-- Every distinct id, in the order in which they were given. An id that is no text that UTF-8 can
-- carry is a BLOB.
CREATE TABLE ids (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);

-- The places without a final outcome. A row goes when its outcome comes.
CREATE TABLE pending (place INTEGER PRIMARY KEY);

CREATE TABLE fetched (
  place INTEGER PRIMARY KEY,
  at REAL NOT NULL,       -- seconds since 1970, UTC
  attempts INTEGER NOT NULL,
  elapsed REAL NOT NULL,  -- seconds
  request_id TEXT,
  raw BLOB NOT NULL       -- the record as received
);

CREATE TABLE failed (
  place INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  attempts INTEGER NOT NULL,
  elapsed REAL NOT NULL,
  request_id TEXT,
  error TEXT NOT NULL,    -- the class of the error
  message TEXT NOT NULL,
  status INTEGER,
  retryable INTEGER NOT NULL,
  stopped_by TEXT
);

-- The numbers of the job, kept in the transactions that change them, so that nobody has to count.
CREATE TABLE job (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  started_at REAL NOT NULL,
  asked INTEGER NOT NULL DEFAULT 0,
  duplicates INTEGER NOT NULL DEFAULT 0,
  fetched INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  retryable INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE families (error TEXT PRIMARY KEY, number INTEGER NOT NULL);

-- Sources of ids that have a digest: how far each was read.
CREATE TABLE sources (digest TEXT PRIMARY KEY, given INTEGER NOT NULL, complete INTEGER NOT NULL);

-- One row for each minute in which outcomes came, and its latencies by classes.
CREATE TABLE minutes (
  minute INTEGER PRIMARY KEY,  -- minutes since 1970, UTC
  first_at REAL NOT NULL,
  last_at REAL NOT NULL,
  fetched INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  retries INTEGER NOT NULL
);
CREATE TABLE latencies (
  minute INTEGER NOT NULL,
  class INTEGER NOT NULL,      -- up to 0.001 * 2 ** (class / 4) seconds
  number INTEGER NOT NULL,
  PRIMARY KEY (minute, class)
) WITHOUT ROWID;
"""


def _view() -> str:
    """The view `calls`: a typed column for each documented member of a record.

    Members of nested objects follow their object's name (`contact_first_name`), a phone number is
    its value. Times are text in UTC with milliseconds, booleans are 0 and 1.
    """
    columns: list[str] = []
    for name, path, kind in _members(Call, "", "$"):
        value = f"json_extract(document, '{path}')"
        if "datetime" in str(kind):
            # RFC 3339 allows a small "t" and "z"; SQLite reads neither.
            value = f"strftime('%Y-%m-%dT%H:%M:%fZ', upper({value}))"
        columns.append(f"  {value} AS {name}")
    columns += ["  place - 1 AS job_index", "  attempts AS job_attempts", "  at AS job_at"]
    listed = ",\n".join(columns)
    return (
        f"CREATE VIEW calls AS SELECT\n{listed}\n"  # noqa: S608 (our own names)
        # 65279 is a byte order mark, which the client's parser skips and SQLite's does not.
        "FROM (SELECT place, at, attempts, ltrim(CAST(raw AS TEXT), char(65279)) AS document"
        " FROM fetched)"
    )


def _members(
    cls: type[attrs.AttrsInstance], prefix: str, path: str
) -> list[tuple[str, str, object]]:
    """The documented members below `cls`: column, JSON path, type."""
    kinds = get_type_hints(cls)
    found: list[tuple[str, str, object]] = []
    for name, wire in wire_names(cls).items():
        kind = kinds[name]
        if kind is PhoneNumber:
            found.append((prefix + name, f"{path}.{wire}.value", str))
        elif kind in _NESTED:
            found += _members(kind, f"{prefix}{name}_", f"{path}.{wire}")
        else:
            found.append((prefix + name, f"{path}.{wire}", kind))
    return found


def check(path: Path) -> bool:
    """Whether there is a journal at `path`; `False`: nothing is there, or an empty file.

    Raises:
        JournalError: There is something else, or a journal that this version cannot read.
    """
    try:
        if not path.exists() or (path.is_file() and path.stat().st_size == 0):
            return False
        if not path.is_file():
            raise JournalError(f"{path} is no file, so it is no journal")
    except OSError as exc:
        raise _unusable(path, exc) from exc
    try:
        with closing(_connect(path, "mode=ro&immutable=1")) as db:
            application, version = _marks(db)
    except sqlite3.DatabaseError as exc:
        if _code(exc) == sqlite3.SQLITE_CORRUPT and _has_log(path):
            # A kill may have come while the log was copied into the file: SQLite repairs that.
            return True
        raise translated(path, exc) from exc
    _judge(path, application, version)
    return True


def create(path: Path) -> None:
    """Make an empty journal. The file is there as a whole, or not at all."""
    if _has_log(path):  # SQLite would take it for the new file's
        raise JournalError(
            f"{_log(path)} is left over from a journal that is gone: bring that back, or remove it"
        )
    fresh = path.with_name(f"{path.name}.new")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):  # of a process that was killed here
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        with closing(_connect(fresh, "mode=rwc")) as db:
            # Records are about 1 KB: a page of 8 KB wastes less of itself than one of 4 KB.
            db.execute("PRAGMA page_size = 8192")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.executescript(f"BEGIN;\n{_TABLES}\n{_view()};\nCOMMIT;")
            db.execute("INSERT INTO job (one, started_at) VALUES (1, ?)", (time.time(),))
            db.execute("PRAGMA journal_mode = WAL")
        fresh.replace(path)
    except (OSError, sqlite3.Error) as exc:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise translated(path, exc) from exc


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes. It may be handed to another thread."""
    try:
        db = _connect(path, "mode=rw", check_same_thread=False)
        try:
            _judge(path, *_marks(db))
            _check_tables(path, db)
            db.execute("PRAGMA journal_mode = WAL")
            # NORMAL would keep what is committed when the process dies, but not when the power
            # does. To sync with each commit takes some milliseconds of the writing thread, twenty
            # times a second at most.
            db.execute("PRAGMA synchronous = FULL")
            # KiB. The memory must not grow with the job, and the system caches the file as well.
            db.execute("PRAGMA cache_size = -8192")
            # Pages, 32 MB: ids in any order touch the pages of their index again and again, and a
            # page goes from the log into the file once for all of these times.
            db.execute("PRAGMA wal_autocheckpoint = 4000")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as exc:
        raise translated(path, exc) from exc
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that does not write, in a transaction that sees the journal of this moment."""
    try:
        for mode in ("mode=rw", "mode=ro", "mode=ro&immutable=1"):
            db = _connect(path, mode, check_same_thread=False)
            try:
                db.execute("PRAGMA query_only = ON")
                db.execute("BEGIN")
                _judge(path, *_marks(db))
                _check_tables(path, db)
            except sqlite3.OperationalError:
                # A reader makes the log's index beside the file, or takes it away at the end. In a
                # folder that nobody may write to, and without a log, there is nothing to lock.
                db.close()
                if mode.endswith("immutable=1") or (mode == "mode=ro" and _has_log(path)):
                    raise
            except BaseException:
                db.close()
                raise
            else:
                return db
    except sqlite3.Error as exc:
        raise translated(path, exc) from exc
    raise AssertionError("unreachable: the last way returns or raises")


def translated(path: Path, exc: Exception) -> JournalError:
    """What an error of SQLite or of the system means for the journal at `path`, in one line."""
    match _code(exc):
        case sqlite3.SQLITE_FULL:
            return JournalError(f"no room for the journal {path}: the disk or a quota is full")
        case sqlite3.SQLITE_CORRUPT:
            return damaged(path)
        case sqlite3.SQLITE_NOTADB:
            return _foreign(path)
        case _:
            return _unusable(path, exc)


def damaged(path: Path) -> JournalError:
    """The error for a journal that holds what this package never writes."""
    return JournalError(f"{path} is truncated or damaged; it was left as it is")


def _code(exc: Exception) -> int:
    """The kind of an SQLite error; 0 for any other."""
    code: int = getattr(exc, "sqlite_errorcode", 0)
    return code & 0xFF


def _unusable(path: Path, exc: Exception) -> JournalError:
    # SQLite quotes what it cannot read.
    return JournalError(f"the journal {path} cannot be used: {printable(str(exc))}")


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{path} is another kind of file and no journal; it was left as it is")


def _judge(path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise _foreign(path)
    if version > VERSION:
        raise JournalError(
            f"the journal {path} was made by a newer calls_async (version {version} of the file, "
            f"this one reads {VERSION}): install that; it was left as it is"
        )


def _check_tables(path: Path, db: sqlite3.Connection) -> None:
    """Make sure that the tables are tables.

    In a stranger's file they may be views that never end, or have triggers that do something else.
    """
    names = {name for (name,) in db.execute(_NAMES_OF_TABLES)}
    (triggers,) = db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()
    if triggers or not names.issuperset(_names()):
        raise damaged(path)


_NAMES_OF_TABLES: Final = (
    # A virtual table has no page of its own.
    "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
)


@cache
def _names() -> frozenset[str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        return frozenset(name for (name,) in db.execute(_NAMES_OF_TABLES))


def _marks(db: sqlite3.Connection) -> tuple[int, int]:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # which compares the file's length
    return application, version


def _has_log(path: Path) -> bool:
    log = _log(path)
    return log.exists() and log.stat().st_size > 0


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _connect(path: Path, mode: str, **options: Any) -> sqlite3.Connection:
    name = f"file:{quote(path.as_posix())}?{mode}"
    db: sqlite3.Connection = sqlite3.connect(
        name, uri=True, timeout=_BUSY, isolation_level=None, **options
    )
    # The file may be damaged, or a stranger's: see "Defense Against The Dark Arts" of SQLite.
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db
