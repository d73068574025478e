"""`calls-async fetch`: however it ends, files are whole and every id is in exactly one account."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from calls_async import Limits
from calls_async.cli._exits import Exit
from calls_async.cli._fetching import FetchJob
from calls_async.cli._output import WholeFile
from calls_async.cli._rows import format_of
from calls_async.cli._view import LineView
from calls_async.testing import FakeTransport, Fault, Ledger, fake_client, make_record
from tests.cli.conftest import PATIENCE, complaint, invoke, spawn
from tests.kit import call_ids, in_virtual_time, turns

pytestmark = pytest.mark.usefixtures("folder")

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals or limits")


def write_ids(*ids):
    Path("ids.txt").write_text("".join(f"{call_id}\n" for call_id in ids), encoding="utf-8")


def lines(name):
    """The documents in a file of JSON lines."""
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def by_id(name):
    """The documents by their ids, of which none may occur twice."""
    documents = lines(name)
    found = {document["id"]: document for document in documents}
    assert len(found) == len(documents)
    return found


def names():
    return sorted(path.name for path in Path().iterdir())


# --- The files -----------------------------------------------------------------------------------


def test_every_record_is_what_the_server_sent(serve):
    """One line for each id, equal to the sandbox's record; nothing else is left in the folder."""
    ids = call_ids(200)
    write_ids(*ids)
    result = invoke("fetch", "ids.txt", "--out", "calls.jsonl", sandbox=serve())
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.search(r"^200 of 200 fetched in \d+ s: calls\.jsonl$", result.stderr, re.MULTILINE)
    assert by_id("calls.jsonl") == {call_id: make_record(call_id) for call_id in ids}
    assert names() == ["calls.jsonl", "ids.txt"]


def test_csv_has_a_row_for_each_record(serve):
    """A head, and as many rows."""
    write_ids("a", "b")
    result = invoke("fetch", "ids.txt", "--out", "calls.csv", sandbox=serve())
    assert result.exit_code == 0
    with Path("calls.csv").open(encoding="utf-8", newline="") as rows:
        assert {row["id"] for row in csv.DictReader(rows)} == {"a", "b"}


def test_ids_from_standard_input(serve):
    """`-` reads what is piped in, whatever wrote its lines."""
    stdin = b"\xef\xbb\xbfa\r\n\r\nb\r\n"
    result = invoke("fetch", "-", "--out", "calls.jsonl", sandbox=serve(), stdin=stdin)
    assert result.exit_code == 0
    assert by_id("calls.jsonl").keys() == {"a", "b"}


def test_a_repeated_id_is_fetched_and_written_once(serve):
    """Duplicates are counted, and not sent."""
    write_ids("a", "b", "a", "a")
    sandbox = serve()
    result = invoke("fetch", "ids.txt", "--out", "calls.jsonl", sandbox=sandbox)
    assert result.exit_code == 0
    assert result.stderr.startswith("2 repeated ids: fetched once, written once\n")
    assert by_id("calls.jsonl").keys() == {"a", "b"}
    assert len(sandbox.ledger) == 2


def test_failed_ids_are_listed_and_the_others_are_there(serve):
    """Exit code 1: the records that there are, and each failed id with its reason."""
    write_ids("a", "gone", "..", "b", "bad")
    sandbox = serve(missing={"gone"}, faults={"bad": Fault.bad_record})
    result = invoke(
        "fetch", "ids.txt", "--out", "calls.jsonl", "--errors", "e.jsonl", sandbox=sandbox
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert by_id("calls.jsonl").keys() == {"a", "b"}
    assert {call_id: told["error"] for call_id, told in by_id("e.jsonl").items()} == {
        "gone": "NotFoundError",
        "..": "InvalidCallIdError",
        "bad": "DecodeError",
    }
    assert "2 of 5 fetched in" in result.stderr
    assert "\n3 failed: 1 " in result.stderr
    assert "\nlist of the ids without a record: e.jsonl\n" in result.stderr
    assert "\nfirst failure: " in result.stderr
    assert "missing" not in result.stderr


def test_without_failures_the_list_is_empty(serve):
    """An older list of failures does not outlive a run that had none."""
    write_ids("a")
    Path("e.jsonl").write_text("old\n")
    args = ("fetch", "ids.txt", "--out", "calls.jsonl", "--errors", "e.jsonl", "--force")
    assert invoke(*args, sandbox=serve()).exit_code == 0
    assert Path("e.jsonl").read_text() == ""


def test_without_a_list_one_is_offered(serve):
    """Who did not ask for the failed ids learns how to."""
    write_ids("gone")
    sandbox = serve(missing={"gone"})
    result = invoke("fetch", "ids.txt", "--out", "calls.csv", sandbox=sandbox)
    assert result.exit_code == 1
    assert "use --errors FILE" in result.stderr
    assert "no record, so no file" in result.stderr
    assert names() == ["ids.txt"]


# --- Refused before anything is sent -------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["none.txt", "--out", "a.csv"], "cannot read none.txt: No such file or directory"),
        ([".", "--out", "a.csv"], "cannot read .: Is a directory"),
        (["empty.txt", "--out", "a.csv"], "empty.txt has no ids: put one on each line"),
        (["bad.txt", "--out", "a.csv"], "bad.txt, line 2: not UTF-8; save the file as UTF-8"),
        (["ids.txt", "--out", "a.txt"], "--out a.txt: the name must end in .jsonl or .csv"),
        (["ids.txt", "--out", "no/a.csv"], None),
        (["ids.txt", "--out", "a.csv", "--errors", "no/e.jsonl"], None),
        (
            ["ids.txt", "--out", "old.csv"],
            "old.csv exists already: choose another name, or --force to replace it",
        ),
        (["ids.txt", "--out", "a.csv", "--errors", "old.csv"], None),
    ],
)
def test_a_file_that_cannot_be_used_is_found_before_anything_is_sent(serve, args, told):
    """One line, exit code 2, no request, and no file made or changed."""
    write_ids("a")
    Path("empty.txt").write_text("\n")
    Path("bad.txt").write_bytes(b"a\n\xff\n")
    Path("old.csv").write_text("old")
    before = names()
    sandbox = serve()
    result = invoke("fetch", *args, sandbox=sandbox)
    assert result.exit_code == 2
    line = complaint(result)
    assert told is None or line == f"calls-async: {told}"
    assert len(sandbox.ledger) == 0
    assert names() == before
    assert Path("old.csv").read_text() == "old"


def test_force_replaces_only_by_records(serve):
    """With `--force` the new records take the place; where there are none the old file stays."""
    write_ids("a")
    Path("old.jsonl").write_text("old")
    args = ("fetch", "ids.txt", "--out", "old.jsonl", "--force")
    assert invoke(*args, sandbox=serve(missing={"a"})).exit_code == 1
    assert Path("old.jsonl").read_text() == "old"
    assert invoke(*args, sandbox=serve()).exit_code == 0
    assert by_id("old.jsonl") == {"a": make_record("a")}


# --- Ended early ---------------------------------------------------------------------------------


def test_a_refused_key_is_3_and_ends_the_job(serve):
    """Nobody asks a thousand times with a key that is refused; every id is listed all the same."""
    write_ids(*call_ids(1_000))
    sandbox = serve()
    args = ("fetch", "ids.txt", "--out", "calls.jsonl", "--errors", "e.jsonl")
    result = invoke(*args, "--concurrency", "4", sandbox=sandbox, CALLS_API_KEY="sk_test_wrong")
    assert (result.exit_code, result.stdout) == (3, "")
    assert len(sandbox.ledger) <= 4
    assert names() == ["e.jsonl", "ids.txt"]
    assert {told["error"] for told in by_id("e.jsonl").values()} == {"AuthenticationError"}
    assert len(by_id("e.jsonl")) == 1_000
    assert result.stderr.endswith("Check the key in CALLS_API_KEY; it may have been revoked.\n")
    assert "wrong" not in result.stderr + Path("e.jsonl").read_text()


@contextmanager
def job(transport, ids, **limits):
    """A job over a fake transport, in the current folder."""
    with (
        WholeFile("calls.jsonl", force=True) as records,
        WholeFile("e.jsonl", force=True) as errors,
    ):
        yield FetchJob(
            client=fake_client(transport, limits=Limits(**limits)),
            ids=ids,
            records=records,
            format=format_of("calls.jsonl"),
            errors=errors,
        )


@in_virtual_time
async def test_when_patience_ends_the_rest_is_listed():
    """A server that stays away ends the job; what was not asked for is missing, and listed so."""
    ids = call_ids(1_000)
    transport = FakeTransport()
    with job(transport, ids, patience=30.0, max_concurrency=4) as work:
        transport.latency = 1.0

        class Plug(LineView):
            period = 10.0

            def show(self, glance):
                transport.reachable = glance.at < 10.0

        assert await work.run(Plug()) is Exit.FAILED
    fetched, failed = by_id("calls.jsonl"), by_id("e.jsonl")
    assert fetched
    assert not fetched.keys() & failed.keys()
    assert fetched.keys() | failed.keys() == set(ids)
    assert {told["error"] for told in failed.values()} == {"ConnectError"}


@pytest.mark.parametrize("step", [*range(20), 25, 40, 80, 200])
def test_interrupted_at_any_moment_every_id_is_in_one_account(step, capsys):
    """Walk the loop: whenever Ctrl-C hits, files are whole and nothing is lost or told twice."""
    ids = [*call_ids(20), ".."]
    transport = FakeTransport(missing={"call-3"})

    async def interrupted():
        with job(transport, ids, max_concurrency=2) as work:
            task = asyncio.create_task(work.run(LineView()))
            await turns(step)
            task.cancel()
            return await asyncio.gather(task, return_exceptions=True)

    (outcome,) = in_virtual_time(interrupted)()
    fetched = by_id("calls.jsonl") if Path("calls.jsonl").exists() else {}
    assert fetched == {call_id: make_record(call_id) for call_id in fetched}
    if isinstance(outcome, asyncio.CancelledError) and step:  # 0: it never began
        listed = by_id("e.jsonl")
        assert not fetched.keys() & listed.keys()
        assert fetched.keys() | listed.keys() == set(ids)
        assert f"interrupted: {len(fetched)} of 21 fetched" in capsys.readouterr().err
    assert not [name for name in names() if name.endswith(".part")]


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
def test_ctrl_c_leaves_a_whole_file_and_says_what_is_missing(serve):
    """A real SIGINT to a real process: 130, no traceback, and the accounts add up."""
    ids = call_ids(100)
    write_ids(*ids)
    tripwire = Tripwire(60)
    stalling = dict.fromkeys(ids[50:], Fault.stall)
    sandbox = serve(faults=stalling, ledger=tripwire)
    args = ("fetch", "ids.txt", "--out", "calls.jsonl", "--errors", "e.jsonl")
    process = spawn(*args, "--concurrency", "10", sandbox=sandbox)
    assert tripwire.reached.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    fetched, listed = by_id("calls.jsonl"), by_id("e.jsonl")
    assert fetched == {call_id: make_record(call_id) for call_id in fetched}
    assert len(fetched) >= 30  # ten requests stall and twenty ids are on their way: the rest was in
    assert fetched.keys() | listed.keys() == set(ids)
    assert len(fetched) + len(listed) == len(ids)
    assert {told["error"] for told in listed.values()} == {"Interrupted"}
    assert f"interrupted: {len(fetched)} of 100 fetched in" in err
    assert f"\n{len(listed)} missing: no outcome yet\n" in err
    assert names() == ["calls.jsonl", "e.jsonl", "ids.txt"]


@posix
def test_a_full_disk_leaves_whole_lines_and_nothing_under_the_name(serve):
    """A real limit of the system: one clear line, exit code 1, and no line is cut."""
    write_ids(*call_ids(500))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        "from calls_async.cli import main; sys.exit(main())"
    )
    args = ("fetch", "ids.txt", "--out", "calls.jsonl")
    # A coverage run would want to write its data, for which there is no room either.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    process = spawn(*args, sandbox=serve(), prelude=["-c", code], env=unmeasured)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    told = err.splitlines()[-1]
    assert told.startswith("calls-async: cannot write calls.jsonl: File too large; make room, ")
    kept = by_id("calls.jsonl.part")
    assert kept == {call_id: make_record(call_id) for call_id in kept}
    assert told.endswith(f"(the {len(kept)} lines so far: calls.jsonl.part)")
    assert names() == ["calls.jsonl.part", "ids.txt"]
