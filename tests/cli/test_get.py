"""`calls-async get`: one record, for people or for programs."""

from __future__ import annotations

import json

import orjson
import pytest

from calls_async.testing import Fault, make_record, record_body
from tests.cli.conftest import PATIENCE, complaint, invoke, spawn


def test_json_is_the_record_as_received(serve):
    """`--json` prints the bytes that the server sent, and nothing else."""
    result = invoke("get", "a", "--json", sandbox=serve())
    assert result.exit_code == 0
    assert result.stdout_bytes == record_body("a") + b"\n"
    assert result.stderr == ""


def test_the_card_has_every_member(serve):
    """Members stand by their names on the wire, and below them what it took."""
    result = invoke("get", "call-1", sandbox=serve())
    assert result.exit_code == 0
    record = make_record("call-1")
    for name, value in record.items():
        for inner, text in value.items() if isinstance(value, dict) else [(None, value)]:
            if isinstance(text, str):
                assert f"{name}.{inner}" if inner else name in result.stdout
                assert text.replace("\n", "\\n") in result.stdout.replace("\n" + " " * 27, "")
    assert "1 attempt in" in result.stdout
    assert "request req-1" in result.stdout


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        ("a\tb", r"a\tb"),
        ([1, [2]], "… (--json shows it)"),
        ({}, "… (--json shows it)"),
        ({"in": None}, "null"),
        ({"in": {"deep": 1}}, "… (--json shows it)"),
    ],
)
def test_members_that_nobody_documents_are_shown(serve, value, shown):
    """Whatever the API adds to its records is on the card, as far as one line can show it."""
    body = orjson.dumps(make_record("a") | {"novel": value})
    result = invoke("get", "a", sandbox=serve(faults={"a": Fault(name="novel", body=body)}))
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("novel")]
    assert line.split(maxsplit=1)[1].rstrip() == shown


def test_the_base_url_may_be_an_option(serve):
    """`--base-url` wins over the variable."""
    sandbox = serve(prefix="/gateway")
    result = invoke("get", "a", "--json", "--base-url", sandbox.base_url, CALLS_BASE_URL=None)
    assert result.exit_code == 0


def hostile(call_id, text):
    """A record whose texts try to command the terminal and rich."""
    record = make_record(call_id) | {
        "notes": text,
        "status": text,
        text: text,
        "more": {"a": [text]},
    }
    return Fault(name="hostile", body=orjson.dumps(record))


@pytest.mark.parametrize(
    "text", ["\x1b]0;owned\x07", "[red]x[/red]", "[/]", "\x9b2J", "a\r\nb", "\u202e"]
)
def test_a_record_cannot_command_the_terminal(serve, text):
    """Escape characters, markup and changes of direction are shown and not obeyed."""
    result = invoke("get", "a", sandbox=serve(faults={"a": hostile("a", text)}))
    assert result.exit_code == 0
    assert not set(result.stdout) & set("\x1b\x07\x9b\r\u202e")
    assert "[" not in text or text in result.stdout


def test_a_terminal_that_cannot_show_a_name_is_no_failure(serve):
    """What the encoding lacks is escaped."""
    record = make_record("a") | {"notes": "李娜"}
    sandbox = serve(faults={"a": Fault(name="name", body=json.dumps(record).encode())})
    process = spawn("get", "a", sandbox=sandbox, env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert r"\u674e\u5a1c" in out


@pytest.mark.parametrize("call_id", ["", ".", "..", "a\nb", "\udcff", "x" * 10_000])
def test_an_id_that_cannot_be_asked_for_is_misuse(serve, call_id):
    """It is refused in one line before anything is sent."""
    sandbox = serve()
    result = invoke("get", "--", call_id, sandbox=sandbox)
    assert result.exit_code == 2
    assert len(complaint(result)) < 300
    assert len(sandbox.ledger) == 0


@pytest.mark.parametrize("call_id", ["a/b", "a?b", "a#b", "%2F", "é", "a b"])
def test_an_id_may_be_any_text(serve, call_id):
    """What means something in a URL means nothing in an id."""
    result = invoke("get", "--json", "--", call_id, sandbox=serve())
    assert json.loads(result.stdout)["id"] == call_id


def test_a_call_that_is_missing_is_one_line_and_1(serve):
    """The line has the id, the request and what to do."""
    result = invoke("get", "a", sandbox=serve(missing={"a"}))
    assert result.exit_code == 1
    line = complaint(result)
    assert line.startswith("calls-async: the server answered 404 Not Found · call 'a' · 1 attempt")
    assert line.endswith(
        "· request req-1. Check the id, and that the base URL's path prefix is right."
    )


def test_a_key_that_is_refused_is_one_line_and_3(serve):
    """The line names the variable, and not the key."""
    result = invoke("get", "a", sandbox=serve(), CALLS_API_KEY="sk_test_wrong")
    assert result.exit_code == 3
    line = complaint(result)
    assert line.endswith("Check the key in CALLS_API_KEY; it may have been revoked.")
    assert "wrong" not in line
