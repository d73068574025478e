"""Which file has which lines, and the line of an error."""

from __future__ import annotations

import json

import pytest

from calls_async import (
    AuthenticationError,
    DecodeError,
    Fetched,
    NotFoundError,
    StoppedBy,
    structure_call,
)
from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._rows import error_line, format_of
from calls_async.journal._csv import HEAD, call_row
from calls_async.journal._jsonl import document_line
from tests.documents import EXAMPLE_BODY, example


@pytest.mark.parametrize("name", ["calls", "calls.txt", "jsonl", ".csv", "calls.csv.gz"])
def test_the_name_chooses_the_format(name):
    """A name that says neither format is refused, and both are offered."""
    with pytest.raises(CommandError) as caught:
        format_of(name)
    assert caught.value.code is Exit.USAGE
    assert caught.value.line == f"--out {name}: the name must end in .jsonl or .csv"
    assert format_of("CALLS.CSV") is format_of("calls.csv")


def test_the_lines_are_those_of_a_journal_s_files():
    """What `fetch` writes and what a journal is rendered to are the same."""
    call = structure_call(example())
    outcome = Fetched(id=call.id, call=call, raw=EXAMPLE_BODY, attempts=1, elapsed=0.1)
    jsonl, csv = format_of("calls.jsonl"), format_of("calls.csv")
    assert (jsonl.head, jsonl.line(outcome)) == (b"", document_line(EXAMPLE_BODY))
    assert (csv.head, csv.line(outcome)) == (HEAD, call_row(call))


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
