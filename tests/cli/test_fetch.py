"""`calls-async fetch` and its kin: however a job ends, its journal has it, and it goes on."""

from __future__ import annotations

import csv
import json
import re
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest

from calls_async import Failed, ServerError
from calls_async.cli import _completion
from calls_async.cli._files import JOURNAL_SUFFIX
from calls_async.journal import Journal
from calls_async.testing import Fault, Ledger, make_record
from tests.cli.conftest import PATIENCE, complaint, invoke, spawn
from tests.kit import call_ids

pytestmark = pytest.mark.usefixtures("folder")

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals or limits")
JOURNAL = f"calls.jsonl{JOURNAL_SUFFIX}"
FETCH = ("fetch", "ids.txt", "--out", "calls.jsonl")


def write_ids(*ids):
    Path("ids.txt").write_text("".join(f"{call_id}\n" for call_id in ids), encoding="utf-8")


def lines(name):
    """The documents in a file of JSON lines."""
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def names():
    return sorted(path.name for path in Path().iterdir())


def asked(sandbox):
    """How many requests the sandbox had."""
    return len(sandbox.ledger)


# --- The files -----------------------------------------------------------------------------------


def test_every_record_is_what_the_server_sent_in_the_order_of_the_ids(serve):
    """One line for each id, equal to the sandbox's record; the journal stays beside the file."""
    ids = call_ids(200)
    write_ids(*ids)
    result = invoke(*FETCH, sandbox=serve())
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.search(r"^200 of 200 fetched in \d+ s \(journal: ", result.stderr, re.MULTILINE)
    assert lines("calls.jsonl") == [make_record(call_id) for call_id in ids]
    assert names() == ["calls.jsonl", JOURNAL, "ids.txt"]


def test_csv_has_a_row_for_each_record(serve):
    """A head, and as many rows."""
    write_ids("a", "b")
    assert invoke("fetch", "ids.txt", "--out", "a.csv", sandbox=serve()).exit_code == 0
    with Path("a.csv").open(encoding="utf-8", newline="") as rows:
        assert [row["id"] for row in csv.DictReader(rows)] == ["a", "b"]


def test_ids_from_standard_input(serve):
    """`-` reads what is piped in, whatever wrote its lines."""
    stdin = b"\xef\xbb\xbfa\r\n\r\nb\r\n"
    result = invoke("fetch", "-", "--out", "calls.jsonl", sandbox=serve(), stdin=stdin)
    assert result.exit_code == 0
    assert [call["id"] for call in lines("calls.jsonl")] == ["a", "b"]


def test_ids_from_files_with_columns(serve):
    """The name says what a file is, `--column` or `--query` where the ids are."""
    Path("a.csv").write_text("name;call_id\nx;a\ny;b\n")
    Path("a.jsonl").write_text('{"call": {"id": "a"}}\n{"call": {"id": "b"}}\n')
    with sqlite3.connect("a.db") as db:
        db.execute("CREATE TABLE t AS SELECT 'a' AS id UNION SELECT 'b'")
    db.close()
    sandbox = serve()
    for number, args in enumerate(
        (
            ("a.csv", "--column", "call_id"),
            ("a.jsonl", "--column", "call.id"),
            ("a.db", "--query", "SELECT id FROM t ORDER BY id"),
        )
    ):
        out = f"out{number}.jsonl"
        assert invoke("fetch", *args, "--out", out, sandbox=sandbox).exit_code == 0
        assert [call["id"] for call in lines(out)] == ["a", "b"]


def test_failed_ids_are_listed_and_the_others_are_there(serve):
    """Exit code 1: the records that there are, and each failed id with its reason."""
    write_ids("a", "gone", "..", "b", "bad", "a")
    sandbox = serve(missing={"gone"}, faults={"bad": Fault.bad_record})
    result = invoke(*FETCH, "--errors", "e.jsonl", sandbox=sandbox)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [call["id"] for call in lines("calls.jsonl")] == ["a", "b"]
    assert {told["id"]: told["error"] for told in lines("e.jsonl")} == {
        "gone": "NotFoundError",
        "..": "InvalidCallIdError",
        "bad": "DecodeError",
    }
    assert "2 of 5 fetched in" in result.stderr
    assert "\n3 failed: 1 " in result.stderr


def test_a_journal_alone_will_do(serve):
    """Without `--out` the records stay in the journal, which `export` makes files from."""
    write_ids("a", "gone")
    sandbox = serve(missing={"gone"})
    assert invoke("fetch", "ids.txt", "--journal", "j", sandbox=sandbox).exit_code == 1
    assert names() == ["ids.txt", "j"]
    result = invoke("export", "j", "--out", "a.jsonl", "--errors", "e.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert lines("a.jsonl") == [make_record("a")]
    assert "gone,NotFoundError" in Path("e.csv").read_text()


# --- Again ---------------------------------------------------------------------------------------


def test_run_again_only_what_is_new_is_fetched(serve):
    """The same command goes on, and its own file is made anew without being asked."""
    write_ids("a", "b")
    sandbox = serve()
    assert invoke(*FETCH, sandbox=sandbox).exit_code == 0
    write_ids("a", "b", "c")
    result = invoke(*FETCH, sandbox=sandbox)
    assert result.exit_code == 0
    assert result.stderr.startswith("2 already done, 0 left\n")
    assert asked(sandbox) == 3
    assert [call["id"] for call in lines("calls.jsonl")] == ["a", "b", "c"]


def test_retry_asks_again_only_for_what_may_succeed(serve):
    """A call that does not exist is not asked for again; one whose server was ill is."""
    write_ids("a", "gone", "ill")
    error = ServerError("the server was ill", status=500, call_id="ill")
    with Journal.open(JOURNAL) as journal:
        journal.add(["a", "gone", "ill"])
        journal.settle([Failed(id="ill", error=error, attempts=4, elapsed=1.0)])
    assert invoke(*FETCH, sandbox=serve(missing={"gone"})).exit_code == 1
    assert "1 of them may be tried again" in invoke("status", JOURNAL).stdout
    well = serve(missing={"gone"})
    result = invoke("retry", JOURNAL, "--out", "calls.jsonl", sandbox=well)
    assert result.exit_code == 1
    assert "2 of 3 fetched" in result.stderr
    assert asked(well) == 1
    assert [call["id"] for call in lines("calls.jsonl")] == ["a", "ill"]


def test_dry_run_counts_and_sends_nothing(serve):
    """Read, unique, done, left, requests and time; neither a key nor a journal is needed."""
    write_ids("a", "b")
    sandbox = serve()
    assert invoke(*FETCH, sandbox=sandbox).exit_code == 0
    write_ids(*"aabbcdef")
    result = invoke(*FETCH, "--dry-run", "--max-rate", "2", CALLS_API_KEY=None)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "8 ids read, 6 unique",
        "2 already done, 4 left",
        "about 4 requests, 2 s at 2/s as given",
        "dry run: nothing sent",
    ]
    told = invoke("fetch", "ids.txt", "--out", "other.csv", "--dry-run").stderr
    assert "time unknown before the first run: give --max-rate N" in told
    assert asked(sandbox) == 2
    assert names() == ["calls.jsonl", JOURNAL, "ids.txt"]


# --- Refused before anything is sent -------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["none.txt", "--out", "a.csv"], "cannot read none.txt: No such file or directory"),
        (["empty.txt", "--out", "a.csv"], "empty.txt has no ids: put one on each line"),
        (["bad.txt", "--out", "a.csv"], "bad.txt, line 1: not UTF-8; save the file as UTF-8"),
        (
            ["ids.txt", "--out", "a.txt"],
            "--out a.txt: the name must end in .jsonl, .csv or .parquet",
        ),
        (["ids.txt", "--out", "no/a.csv"], None),
        (["ids.txt", "--out", "a.csv", "--errors", "no/e.jsonl"], None),
        (["ids.txt", "--out", "a.csv", "--errors", "e.parquet"], None),
        (
            ["ids.txt", "--out", "old.csv"],
            "old.csv exists already: choose another name, or --force to replace it",
        ),
        (["ids.txt", "--out", "a.csv", "--errors", "old.csv"], None),
        (["ids.txt", "--out", "a.csv", "--journal", "old.csv"], None),
        (["old.csv", "--out", "a.csv"], None),
        (["ids.txt", "--column", "a", "--out", "a.csv"], None),
        (["ids.txt", "--query", "SELECT 1", "--out", "a.csv"], None),
        (["ids.txt", "--from", "sqlite", "--out", "a.csv"], None),
        (["ids.txt"], None),
    ],
)
def test_what_cannot_be_used_is_found_before_anything_is_sent(serve, args, told):
    """One line, exit code 2, no request, and no file made or changed."""
    write_ids("a")
    Path("empty.txt").write_text("\n")
    Path("bad.txt").write_bytes(b"\xff\n")
    Path("old.csv").write_text("old")
    before = names()
    sandbox = serve()
    result = invoke("fetch", *args, sandbox=sandbox)
    assert result.exit_code == 2
    line = complaint(result)
    assert told is None or line.startswith(f"calls-async: {told}")
    assert asked(sandbox) == 0
    assert names() == before
    assert Path("old.csv").read_text() == "old"


@pytest.mark.parametrize("command", ["status", "retry", "export", "report"])
def test_a_journal_that_is_not_there_is_not_made(command):
    """Only `fetch` makes one."""
    args = {"export": ["--out", "a.csv"], "report": ["--out", "r.html"]}.get(command, [])
    result = invoke(command, "none.journal", *args)
    assert result.exit_code == 2
    assert complaint(result).startswith("calls-async: there is no journal none.journal")
    assert names() == []


def test_one_job_at_a_time(serve):
    """A second command on the same journal is refused; its status can be read all the same."""
    write_ids("a")
    sandbox = serve()
    with Journal.open(JOURNAL):
        result = invoke(*FETCH, sandbox=sandbox)
        assert result.exit_code == 2
        assert "is being written by" in complaint(result)
        assert invoke("status", JOURNAL).exit_code == 0
    assert asked(sandbox) == 0


# --- Ended early ---------------------------------------------------------------------------------


def test_a_refused_key_is_3_and_ends_the_job(serve):
    """Nobody asks a thousand times with a key that is refused, and every id is left."""
    write_ids(*call_ids(1_000))
    sandbox = serve()
    result = invoke(*FETCH, "--concurrency", "4", sandbox=sandbox, CALLS_API_KEY="sk_test_wrong")
    assert (result.exit_code, result.stdout) == (3, "")
    assert asked(sandbox) <= 4
    assert names() == [JOURNAL, "ids.txt"]
    assert result.stderr.endswith("Check the key in CALLS_API_KEY; it may have been revoked.\n")
    assert json.loads(invoke("status", JOURNAL, "--json").stdout)["left"] == 1_000
    assert invoke(*FETCH, sandbox=sandbox).exit_code == 0
    assert len(lines("calls.jsonl")) == 1_000


def test_fail_fast_ends_with_the_first_failure(serve):
    """The rest is left, and can be fetched later."""
    write_ids("gone", *call_ids(1_000))
    sandbox = serve(missing={"gone"})
    result = invoke(*FETCH, "--fail-fast", "--concurrency", "2", sandbox=sandbox)
    assert result.exit_code == 1
    assert "\nstopped: " in result.stderr
    assert asked(sandbox) < 1_000
    assert not Path("calls.jsonl").exists()


def test_when_patience_ends_the_job_does():
    """Nobody answers: the command gives up after `--patience`, and the ids are left."""
    write_ids("a")
    result = invoke(*FETCH, "--patience", "0.2")
    assert result.exit_code == 1
    assert "1 left: run the same command again to go on" in result.stderr


class Tripwire(Ledger):
    """A ledger that says when the server has so many requests in hand."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.reached = threading.Event()

    def begin(self, **entry):
        request_id = super().begin(**entry)
        if len(self) >= self.number:
            self.reached.set()
        return request_id


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_finishes_what_is_in_flight(serve, number):
    """What the server was asked for is in the journal, and the same command fetches the rest."""
    ids = call_ids(300)
    write_ids(*ids)
    tripwire = Tripwire(40)
    sandbox = serve(latency=0.1, ledger=tripwire)
    process = spawn(*FETCH, "--concurrency", "8", sandbox=sandbox)
    assert tripwire.reached.wait(PATIENCE)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "finishing " in err
    assert "left: run the same command again to go on" in err
    assert not Path("calls.jsonl").exists()
    told = json.loads(invoke("status", JOURNAL, "--json").stdout)
    assert told["fetched"] == asked(sandbox)
    assert invoke(*FETCH, sandbox=sandbox).exit_code == 0
    assert asked(sandbox) == 300
    assert lines("calls.jsonl") == [make_record(call_id) for call_id in ids]


@posix
def test_a_second_signal_ends_at_once(serve):
    """Requests that stall are not waited for; what was fetched is kept."""
    ids = call_ids(100)
    write_ids(*ids)
    tripwire = Tripwire(60)
    sandbox = serve(faults=dict.fromkeys(ids[50:], Fault.stall), ledger=tripwire)
    process = spawn(*FETCH, "--concurrency", "10", sandbox=sandbox)
    assert tripwire.reached.wait(PATIENCE)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)  # two signals at once are one for the system
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < 8, "an attempt's timeout is ten seconds"
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads(invoke("status", JOURNAL, "--json").stdout)["fetched"] >= 30


# --- Told ----------------------------------------------------------------------------------------


def test_json_lines_are_all_that_is_said(serve):
    """With `--log-format json`, each line of standard error is an object with a name and a time."""
    write_ids("a", "gone")
    sandbox = serve(missing={"gone"})
    result = invoke(*FETCH, "--log-format", "json", sandbox=sandbox)
    told = [json.loads(line) for line in result.stderr.splitlines()]
    assert told[0]["event"] == "start"
    assert {line["event"] for line in told} == {"start", "progress", "file", "end"}
    assert all(line["at"].endswith("Z") for line in told)
    end = told[-1]
    assert (end["event"], end["exitCode"], end["failedBy"]) == ("end", 1, {"NotFoundError": 1})
    (line,) = invoke(*FETCH, "--log-format", "json", CALLS_API_KEY=None).stderr.splitlines()
    assert json.loads(line)["event"] == "error"
    assert json.loads(line)["exitCode"] == 3


def test_report_is_a_page(serve):
    """`report` makes one, and does not replace another file unasked."""
    write_ids("a")
    assert invoke(*FETCH, sandbox=serve()).exit_code == 0
    assert invoke("report", JOURNAL, "--out", "r.html").exit_code == 0
    assert Path("r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert invoke("report", JOURNAL, "--out", "r.html").exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_the_program(shell):
    """The script sets the variable that the program answers to."""
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert _completion.VARIABLE in result.stdout
    words = {
        _completion.VARIABLE: "bash_complete",
        "COMP_WORDS": "calls-async fe",
        "COMP_CWORD": "1",
    }
    assert invoke(**words).stdout.split() == ["plain,fetch"]
