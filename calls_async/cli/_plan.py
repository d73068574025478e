"""What a job would do; the rule: nothing is sent and nothing is written, not even the journal.

The ids are counted in a temporary SQLite file that the system deletes, so their number is bounded
by the disk and not by the memory.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs

from calls_async.cli._words import count, duration, per_second

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calls_async.journal import Journal


@attrs.frozen(kw_only=True)
class Plan:
    """What a job would do.

    Attributes:
        read: Ids that the source gives.
        unique: Distinct ones of them.
        done: Those of them that have their outcome in the journal.
        waiting: Ids of the journal that are left and that the source does not give.
        rate: Calls per second that are to be expected; `None`: unknown.
        learnt: Whether the rate is that of the job so far.
        requests_each: Requests that a call takes.
    """

    read: int
    unique: int
    done: int
    waiting: int
    rate: float | None
    learnt: bool
    requests_each: float

    @property
    def left(self) -> int:
        """Ids that would be fetched."""
        return self.unique - self.done + self.waiting

    @property
    def requests(self) -> int:
        """Requests that this would take."""
        return round(self.left * self.requests_each)

    @property
    def seconds(self) -> float | None:
        """Seconds that it would take; `None`: unknown."""
        if self.rate is None:
            return None
        return (self.left if self.learnt else self.requests) / self.rate

    def lines(self) -> list[str]:
        """The plan for people."""
        waiting = f", {self.waiting:,} of them from earlier runs" if self.waiting else ""
        told = [
            f"{count(self.read, 'id')} read, {self.unique:,} unique",
            f"{self.done:,} already done, {self.left:,} left{waiting}",
        ]
        if self.seconds is None or self.rate is None:
            time = "time unknown before the first run: give --max-rate N"
        else:
            whose = "learnt" if self.learnt else "as given"
            time = f"{duration(self.seconds)} at {per_second(self.rate)} {whose}"
        return [*told, f"about {count(self.requests, 'request')}, {time}", "dry run: nothing sent"]

    def members(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "read": self.read,
            "unique": self.unique,
            "done": self.done,
            "left": self.left,
            "requests": self.requests,
            "rate": self.rate,
            "seconds": self.seconds,
        }


def planned(ids: Iterable[str], journal: Journal | None, *, max_rate: float | None) -> Plan:
    """What a job with these ids would do.

    Args:
        ids: The ids that the source gives.
        journal: The journal, if there is one.
        max_rate: Requests per second that the user wants at most.
    """
    with closing(sqlite3.connect("")) as db:  # a temporary file
        db.execute("CREATE TABLE ids (id BLOB PRIMARY KEY) WITHOUT ROWID")
        read = 0
        for call_id in ids:
            db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (_key(call_id),))
            read += 1
        (unique,) = db.execute("SELECT count(*) FROM ids").fetchone()
        done = waiting = 0
        if journal is not None:
            done = sum(_is_in(db, record.id) for record in journal.fetched())
            done += sum(_is_in(db, record.id) for record in journal.failed())
            waiting = sum(not _is_in(db, call_id) for call_id in journal.left())
    rate, requests_each = (None, 1.0) if journal is None else _learnt(journal)
    return Plan(
        read=read,
        unique=unique,
        done=done,
        waiting=waiting,
        rate=rate if max_rate is None else max_rate,
        learnt=max_rate is None,
        requests_each=requests_each,
    )


def _learnt(journal: Journal) -> tuple[float | None, float]:
    """Calls per second, and requests for each of them, as the job had them so far."""
    calls = requests = 0
    for minute in journal.history():
        calls += minute.fetched + minute.failed
        requests += minute.requests
    return journal.status().rate, requests / calls if calls else 1.0


def _is_in(db: sqlite3.Connection, call_id: str) -> bool:
    row = db.execute("SELECT 1 FROM ids WHERE id = ?", (_key(call_id),))
    return row.fetchone() is not None


def _key(call_id: str) -> bytes:
    return call_id.encode("utf-8", "surrogatepass")
