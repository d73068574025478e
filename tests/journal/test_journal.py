"""The journal as a record: what goes in comes out, once, in order, and from the file alone."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls_async import JournalError, structure_call
from calls_async.journal import Journal
from calls_async.testing import record_body
from tests.journal.kit import fetched, missing, sick


@pytest.fixture
def path(tmp_path):
    return tmp_path / "calls.journal"


@pytest.fixture
def journal(path):
    with Journal.open(path) as opened:
        yield opened


# --- Reading what was written --------------------------------------------------------------------


def test_a_new_journal_is_empty(journal):
    """Nothing was asked for, nothing came, and there is no rate to tell."""
    status = journal.status()
    assert (status.asked, status.fetched, status.failed, status.left) == (0, 0, 0, 0)
    assert (status.rate, status.forecast, status.last_at) == (None, None, None)
    assert list(journal.left()) == list(journal.fetched()) == list(journal.failed()) == []


def test_outcomes_come_out_as_they_went_in(path):
    """Each field of an outcome is there again, from the file alone."""
    before = datetime.now(UTC)
    with Journal.open(path) as journal:
        assert journal.add(["a", "b", "c", "d"]) == 4
        journal.settle([sick("c"), fetched("b", attempts=2), missing("a")])
    with Journal.open(path, read_only=True) as journal:
        (record,) = journal.fetched()
        gone, later = journal.failed()
        status = journal.status()
        assert list(journal.left()) == ["d"]
    assert (record.id, record.index, record.raw) == ("b", 1, record_body("b"))
    assert (record.attempts, record.elapsed, record.request_id) == (2, 0.1, "req-b")
    assert before <= record.at <= datetime.now(UTC)
    assert (gone.id, gone.index, gone.error, gone.message) == (
        "a", 0, "NotFoundError", "there is none",
    )  # fmt: skip
    assert (gone.status, gone.retryable, gone.request_id) == (404, False, "req-404")
    assert (later.id, later.status, later.retryable, later.attempts) == ("c", 503, True, 4)
    assert (status.asked, status.fetched, status.failed, status.retryable, status.left) == (
        4, 1, 2, 1, 1,
    )  # fmt: skip
    assert status.failed_by == {"NotFoundError": 1, "ServerError": 1}


def test_failures_are_told_apart(journal):
    """Those that may be tried again and the others can be had alone."""
    journal.add(["a", "b"])
    journal.settle([missing("a"), sick("b")])
    assert [record.id for record in journal.failed(retryable=True)] == ["b"]
    assert [record.id for record in journal.failed(retryable=False)] == ["a"]


def test_an_id_is_asked_for_once(journal):
    """An id that is given again is counted, and keeps its place."""
    assert journal.add(["a", "b", "a"]) == 2
    assert journal.add(["c", "b", "c"]) == 1
    status = journal.status()
    # "b" is known from an earlier run, so that a list which is given again is no duplicate.
    assert (status.asked, status.duplicates) == (3, 2)
    assert list(journal.left()) == ["a", "b", "c"]


def test_an_outcome_is_final(journal):
    """A record is replaced by nothing, and a failure by what its retry brings."""
    journal.add(["a", "b"])
    journal.settle([fetched("a"), sick("b")])
    journal.settle([missing("a"), fetched("b"), fetched("b")])
    assert [record.id for record in journal.fetched()] == ["a", "b"]
    status = journal.status()
    assert (status.fetched, status.failed, status.retryable, status.failed_by) == (2, 0, 0, {})
    journal.settle([missing("b")])
    assert journal.status().failed == 0


def test_an_outcome_needs_its_id(journal):
    """What was never asked for cannot be settled, and says so."""
    with pytest.raises(JournalError, match="'z' is not in the journal"):
        journal.settle([fetched("z")])


def test_a_read_sees_one_moment(journal):
    """What is written during an iteration does not show in it, and does not disturb it."""
    journal.add(["a", "b"])
    journal.settle([fetched("a")])
    records = journal.fetched()
    first = next(records)
    journal.settle([fetched("b")])
    assert [first.id, *(record.id for record in records)] == ["a"]
    assert [record.id for record in journal.fetched()] == ["a", "b"]


ids = st.lists(st.text(max_size=4) | st.sampled_from(["\ud800", ".", "x" * 600, "a\0b"]))


@settings(max_examples=12)  # each example makes a file
@given(ids, st.data())
def test_every_id_is_in_one_place(tmp_path_factory, given_ids, data):
    """Whatever is added and settled, in whatever order: each id is in one list, and counted."""
    path = tmp_path_factory.mktemp("law") / "j"
    with Journal.open(path) as journal:
        journal.add(given_ids)
        left = list(journal.left())
        kinds = st.tuples(st.sampled_from([fetched, missing, sick]), st.sampled_from(left or ["-"]))
        drawn = data.draw(st.lists(kinds, max_size=6)) if left else []
        journal.settle(make(call_id) for make, call_id in drawn[:2])
        journal.settle(make(call_id) for make, call_id in drawn[2:])
        status = journal.status()
        placed = [
            *(record.id for record in journal.fetched()),
            *(record.id for record in journal.failed()),
            *journal.left(),
        ]
    assert sorted(placed) == sorted(set(given_ids))
    assert status.asked == len(placed) == status.fetched + status.failed + status.left
    assert status.duplicates == len(given_ids) - status.asked
    assert sum(status.failed_by.values()) == status.failed


def test_what_is_no_id_has_failed(journal):
    """An id that cannot be asked for has its outcome at once, whatever it is."""
    journal.add(["", "\ud800", None, 17, "17", "a" * 600])
    failed = {record.id: record for record in journal.failed()}
    assert {record.error for record in failed.values()} == {"InvalidCallIdError"}
    assert failed.keys() == {"", "\ud800", "None", "17", "a" * 600}
    assert list(journal.left()) == ["17"]


# --- History -------------------------------------------------------------------------------------


def test_the_history_tells_what_happened_when(journal):
    """A minute has its outcomes, requests and latencies, known to a fifth."""
    journal.add(["a", "b", "c"])
    journal.settle([fetched("a"), fetched("b", attempts=3, elapsed=1.0), missing("c")])
    minutes = list(journal.history())
    assert sum(minute.fetched for minute in minutes) == 2
    assert sum(minute.failed for minute in minutes) == 1
    assert sum(minute.requests for minute in minutes) == 5
    assert sum(minute.retries for minute in minutes) == 2
    assert all(m.at <= m.first_at <= m.last_at < m.at + timedelta(minutes=1) for m in minutes)
    slowest = max(minute.quantile(1.0) for minute in minutes)
    assert 1.0 <= slowest <= 1.2


def test_the_rate_ends_at_a_pause(journal, monkeypatch):
    """Work before a pause of more than a minute says nothing about how fast it goes now."""
    clock = iter([100.0, *(100_000.0 + second for second in range(11))])
    monkeypatch.setattr("calls_async.journal._journal.time.time", lambda: next(clock))
    names = [f"call-{number}" for number in range(32)]
    journal.add(names)
    journal.settle(map(fetched, names[:12]))
    status = journal.status()
    assert status.rate == pytest.approx(1.1)
    assert status.forecast == pytest.approx(20 / 1.1)


# --- The view ------------------------------------------------------------------------------------


def test_the_view_has_the_members_of_a_call(path):
    """`calls` has a column for each documented member, with the values that the codec reads."""
    names = [f"call-{number}" for number in range(50)]
    with Journal.open(path) as journal:
        journal.add(names)
        journal.settle(map(fetched, names))
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        rows = db.execute("SELECT * FROM calls ORDER BY job_index").fetchall()
    assert [row["id"] for row in rows] == names
    for row in rows:
        call = structure_call(orjson.loads(record_body(row["id"])))
        assert row["contact_first_name"] == call.contact.first_name
        assert row["phone_number"] == call.phone_number.value
        assert row["transferred"] == call.transferred
        assert row["call_type"] == call.call_type
        assert datetime.fromisoformat(row["created_at"]) == call.created_at
        assert (row["started_at"] is None) == (call.started_at is None)
        flat = {a.name for a in attrs.fields(type(call))} - {"extra", "contact", "caller"}
        assert flat <= set(row.keys())


# --- Lifecycle -----------------------------------------------------------------------------------


def test_a_closed_journal_is_one_file(path):
    """After the end there is no lock, no log and no other file beside it, readers included."""
    with Journal.open(path) as journal:
        journal.add(["a"])
    with Journal.open(path, read_only=True) as journal:
        assert journal.status().asked == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_closed_journal_says_so(journal):
    """Use after `close` is an error of ours, and closing twice is none."""
    journal.close()
    journal.close()
    assert "closed" in repr(journal)
    for use in (journal.status, lambda: list(journal.left()), lambda: journal.add(["a"])):
        with pytest.raises(JournalError, match="was closed"):
            use()


def test_what_is_only_read_is_not_written(path):
    """A journal that was opened to be read refuses to be written, and is not made."""
    with pytest.raises(JournalError, match="there is no journal"):
        Journal.open(path, read_only=True)
    assert not path.exists()
    Journal.open(path).close()
    with Journal.open(path, read_only=True) as journal:
        assert "read only" in repr(journal)
        with pytest.raises(JournalError, match="read only"):
            journal.add(["a"])


@pytest.mark.parametrize("name", ["a b", "é", "x?mode=ro", "#1", "100%", "'", "%20"])
def test_a_path_may_have_any_characters(tmp_path, name):
    """The file has the name that was given, whatever a URI would make of it."""
    with Journal.open(tmp_path / name) as journal:
        journal.add(["a"])
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 (the very names)


def test_a_link_is_followed(tmp_path):
    """A journal behind a symbolic link is the same journal, with the same lock."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    with (
        Journal.open(link) as journal,
        pytest.raises(JournalError, match="is being written"),
    ):
        Journal.open(journal.path)
    assert (tmp_path / "real").is_file()
