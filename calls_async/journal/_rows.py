"""What goes into the tables; the rule: few statements for many rows.

Python's sqlite3 gives the interpreter's lock away for each step of a statement, and a thread may
wait 5 ms until a busy event loop lets it have the lock again. With a statement for each row, that
bounds a journal to some hundred rows a second. So rows go in by the hundred, and lists come out as
one JSON array. All functions here run in a transaction of the caller's.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import orjson

from calls_async import Failed, Fetched
from calls_async._ids import check_call_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from calls_async import Outcome

_MOST: Final = 900
"""Values in one statement; SQLite before 3.32 took 999."""

Place: TypeAlias = "tuple[int, str]"
"""Where an id is among the distinct ids, from 1, and the id."""

Settled: TypeAlias = "tuple[int, float, Outcome]"
"""The place of an id, when its outcome came (seconds since 1970), and the outcome."""


@attrs.frozen(kw_only=True)
class Source:
    """How far a source of ids, known by its digest, was read."""

    digest: str
    given: int = 0
    complete: bool = False


# --- Ids -----------------------------------------------------------------------------------------


def add(db: sqlite3.Connection, ids: Sequence[Any], *, known: int) -> list[Failed]:
    """Add ids; those that are no valid ids fail here.

    Not every such thing can be stored in a way that it could be asked for again, so its outcome is
    committed together with it.

    Args:
        db: The connection.
        ids: The ids.
        known: How many ids the journal had before this run: an id among those was given by an
            earlier run, and is no duplicate.

    Returns:
        The outcomes of ids that are new and not valid.
    """
    keys = list(map(key_of, ids))
    before = asked(db)
    new = _insert(db, "INSERT OR IGNORE INTO ids (id)", [(key,) for key in keys])
    if new:
        db.execute("INSERT INTO pending SELECT place FROM ids WHERE place > ?", (before,))
    again = len(keys) - new
    if again and known:
        again -= _occurrences_up_to(db, keys, known)
    if new or again:
        db.execute("UPDATE job SET asked = asked + ?, duplicates = duplicates + ?", (new, again))
    problems = {
        key_of(call_id): problem
        for call_id in ids
        if (problem := check_call_id(call_id)) is not None
    }
    refused: list[Settled] = []
    for key, problem in problems.items():
        place = _place_of_key(db, key)
        if place is not None and place > before:
            failed = Failed(
                id=text_of(key), index=place - 1, error=problem, attempts=0, elapsed=0.0
            )
            refused.append((place, time.time(), failed))
    enter(db, refused)
    return [outcome for _, _, outcome in refused if isinstance(outcome, Failed)]


def asked(db: sqlite3.Connection) -> int:
    """How many distinct ids were given so far; the last one has this place."""
    (number,) = db.execute("SELECT asked FROM job").fetchone()
    return int(number)


def _occurrences_up_to(db: sqlite3.Connection, keys: Sequence[str | bytes], place: int) -> int:
    """How many of these keys, each as often as it occurs, are up to that place."""
    numbers = Counter(keys)
    found = 0
    for part in _parts(list(numbers), _MOST):
        marks = ",".join("?" * len(part))
        (number,) = db.execute(
            f"SELECT count(*) FROM ids WHERE id IN ({marks}) AND place <= ?",  # noqa: S608
            (*part, place),
        ).fetchone()
        found += number
    for key, number in numbers.items():
        if number > 1 and (_place_of_key(db, key) or 0) <= place:
            found += number - 1
    return found


def place_of(db: sqlite3.Connection, call_id: object) -> int | None:
    """The place of an id; `None` if it was never added."""
    return _place_of_key(db, key_of(call_id))


def _place_of_key(db: sqlite3.Connection, key: str | bytes) -> int | None:
    row = db.execute("SELECT place FROM ids WHERE id = ?", (key,)).fetchone()
    return None if row is None else row[0]


def pending(db: sqlite3.Connection, after: int, limit: int) -> list[Place]:
    """The first ids behind the place `after` that have no final outcome."""
    return _page(db, "SELECT place, id FROM pending JOIN ids USING (place)", after, limit)


def retryable(db: sqlite3.Connection, after: int, limit: int) -> list[Place]:
    """The first ids behind the place `after` that failed and may succeed later."""
    rows = "SELECT place, id FROM (SELECT * FROM failed WHERE retryable) JOIN ids USING (place)"
    return _page(db, rows, after, limit)


def _page(db: sqlite3.Connection, rows: str, after: int, limit: int) -> list[Place]:
    # What can be asked for is text: an id that is none has failed for good when it was added.
    (found,) = db.execute(
        "SELECT json_group_array(json_array(place, id)) FROM"  # noqa: S608 (our own words)
        f" ({rows} WHERE place > ? ORDER BY place LIMIT ?)",
        (after, limit),
    ).fetchone()
    return [(place, call_id) for place, call_id in orjson.loads(found)]


def source(db: sqlite3.Connection, digest: str) -> Source:
    """How far the source with this digest was read."""
    row = db.execute("SELECT given, complete FROM sources WHERE digest = ?", (digest,)).fetchone()
    given, complete = row or (0, 0)
    return Source(digest=digest, given=given, complete=bool(complete))


def note_source(db: sqlite3.Connection, read: Source) -> None:
    """Note how far a source was read."""
    db.execute(
        "INSERT OR REPLACE INTO sources VALUES (?, ?, ?)",
        (read.digest, read.given, read.complete),
    )


# --- Outcomes ------------------------------------------------------------------------------------


def enter(db: sqlite3.Connection, settled: Sequence[Settled]) -> None:
    """Enter final outcomes. One of a place that was fetched already changes nothing."""
    if not settled:
        return
    removed = 0
    for part in _parts([row[0] for row in settled], _MOST):
        marks = ",".join("?" * len(part))
        cursor = db.execute(f"DELETE FROM pending WHERE place IN ({marks})", part)  # noqa: S608
        removed += cursor.rowcount
    if removed != len(settled):
        settled = _making_way(db, settled)
    fetched = [_fetched_row(place, at, o) for place, at, o in settled if isinstance(o, Fetched)]
    failed = [_failed_row(place, at, o) for place, at, o in settled if isinstance(o, Failed)]
    _insert(db, "INSERT INTO fetched", fetched)
    _insert(db, "INSERT INTO failed", failed)
    _count(db, len(fetched), failed, step=1)
    _chronicle(db, settled)


def _making_way(db: sqlite3.Connection, settled: Sequence[Settled]) -> list[Settled]:
    """Those that are to be entered: not what was fetched; a failure is taken out for its retry."""
    accepted: dict[int, Settled] = {}
    for row in settled:
        place = row[0]
        if db.execute("SELECT 1 FROM fetched WHERE place = ?", (place,)).fetchone():
            continue
        old = db.execute("SELECT * FROM failed WHERE place = ?", (place,)).fetchall()
        db.execute("DELETE FROM failed WHERE place = ?", (place,))
        _count(db, 0, old, step=-1)
        accepted[place] = row
    return list(accepted.values())


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
        error.message.encode("utf-8", "backslashreplace").decode(),
        getattr(error, "status", None),
        int(error.retryable),
        None if error.stopped_by is None else str(error.stopped_by),
    )


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
            "INSERT INTO families VALUES (?, ?)"
            " ON CONFLICT (error) DO UPDATE SET number = number + excluded.number",
            (row[5], step),
        )
    if step < 0:
        db.execute("DELETE FROM families WHERE number = 0")


def _chronicle(db: sqlite3.Connection, settled: Sequence[Settled]) -> None:
    """Add outcomes to the history."""
    for minute, rows in groupby(settled, key=lambda row: int(row[1] // 60)):
        times: list[float] = []
        classes: dict[int, int] = {}
        fetched = requests = retries = 0
        for _, at, outcome in rows:
            times.append(at)
            fetched += isinstance(outcome, Fetched)
            requests += outcome.attempts
            retries += max(0, outcome.attempts - 1)
            kind = latency_class(outcome.elapsed)
            classes[kind] = classes.get(kind, 0) + 1
        db.execute(
            "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (minute) DO UPDATE SET first_at = min(first_at, excluded.first_at),"
            " last_at = max(last_at, excluded.last_at), fetched = fetched + excluded.fetched,"
            " failed = failed + excluded.failed, requests = requests + excluded.requests,"
            " retries = retries + excluded.retries",
            (minute, min(times), max(times), fetched, len(times) - fetched, requests, retries),
        )
        _insert(
            db,
            "INSERT INTO latencies",
            [(minute, kind, number) for kind, number in classes.items()],
            " ON CONFLICT (minute, class) DO UPDATE SET number = number + excluded.number",
        )


# --- Values --------------------------------------------------------------------------------------


def key_of(call_id: object) -> str | bytes:
    """How an id is stored: as text, or, where it is none that UTF-8 can carry, as bytes."""
    if not isinstance(call_id, str):
        problem = check_call_id(call_id)
        return str(problem and problem.call_id).encode("utf-8", "surrogatepass")
    try:
        call_id.encode()
    except UnicodeEncodeError:
        return call_id.encode("utf-8", "surrogatepass")
    return call_id


def text_of(key: str | bytes) -> str:
    """The id that is stored so."""
    return key if isinstance(key, str) else key.decode("utf-8", "surrogatepass")


def latency_class(elapsed: float) -> int:
    """The class of a latency in seconds; see the table `latencies`."""
    return max(0, math.ceil(4 * math.log2(max(elapsed, 1e-9) / 0.001)))


def latency_bound(kind: int) -> float:
    """The longest latency of a class, in seconds."""
    return 0.001 * math.pow(2, kind / 4)


def _insert(
    db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], otherwise: str = ""
) -> int:
    """Insert rows, many with one statement; how many went in comes back."""
    number = 0
    if rows:
        row = f"({','.join('?' * len(rows[0]))})"
        for part in _parts(rows, _MOST // len(rows[0])):
            cursor = db.execute(
                f"{into} VALUES {','.join([row] * len(part))}{otherwise}",
                [value for values in part for value in values],
            )
            number += cursor.rowcount
    return number


def _parts(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
