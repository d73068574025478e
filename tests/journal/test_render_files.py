"""Rendering: the file is whole or not there, and the same for the same journal."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
import tracemalloc
from datetime import UTC, datetime
from itertools import repeat

import pytest

from calls_async import ConfigurationError, DecodeError, Failed, Fetched, NotFoundError, OutputError
from calls_async._codec import decode_call
from calls_async.journal import FetchedRecord, Journal
from calls_async.journal.render import COLUMNS, FAILURE_COLUMNS, render, render_failures
from calls_async.testing import make_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORMATS = ["calls.jsonl", "calls.csv", "calls.parquet"]


def record(call_id="a", raw=None):
    raw = json.dumps(make_record(call_id)).encode() if raw is None else raw
    return FetchedRecord(id=call_id, index=0, raw=raw, attempts=1, elapsed=0.1, at=NOON)


def lines(path):
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def needs(name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")


@pytest.fixture
def journal(tmp_path):
    """A journal with three records and two failures, entered in another order than asked."""
    with Journal.open(tmp_path / "job.journal") as journal:
        journal.add(["c", "x", "a", "y", "b", "left"])
        outcomes = [
            Fetched(id=i, call=decode_call(raw), raw=raw, attempts=1, elapsed=0.1)
            for i in "abc"
            for raw in [json.dumps(make_record(i), indent=1).encode()]
        ]
        lost = NotFoundError("the server answered 404", status=404)
        outcomes += [Failed(id=i, error=lost, attempts=1, elapsed=0.1) for i in "yx"]
        journal.settle(outcomes)
        yield journal


# --- What is written -----------------------------------------------------------------------------


def test_a_journal_is_rendered_in_the_order_of_its_ids(journal, tmp_path):
    """Records, and failures apart; what is left is in neither."""
    assert render(journal.fetched(), tmp_path / "calls.jsonl") == 3
    assert lines(tmp_path / "calls.jsonl") == [make_record(call_id) for call_id in "cab"]

    assert render(journal.fetched(), tmp_path / "calls.CSV") == 3
    with (tmp_path / "calls.CSV").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == COLUMNS
    assert [row[0] for row in rows] == ["c", "a", "b"]

    assert render_failures(journal.failed(), tmp_path / "failed.jsonl") == 2
    assert [told["id"] for told in lines(tmp_path / "failed.jsonl")] == ["x", "y"]
    assert render_failures(journal.failed(retryable=True), tmp_path / "failed.csv") == 0
    assert (tmp_path / "failed.csv").read_text() == ",".join(FAILURE_COLUMNS) + "\n"


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_journal_gives_the_same_bytes(journal, tmp_path, name):
    """Whenever and wherever it is rendered."""
    needs(name)
    (tmp_path / "other").mkdir()
    files = [tmp_path / name, tmp_path / "other" / name]
    for file in files:
        render(journal.fetched(), file)
    assert files[0].read_bytes() == files[1].read_bytes() != b""


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.csv"])
def test_memory_does_not_grow_with_the_number_of_records(tmp_path, name):
    """A hundred times the records need the same."""
    peaks = []
    for number in (30, 3_000):
        tracemalloc.start()
        render(repeat(record(), number), tmp_path / name, overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000


# --- Whole files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_what_fails_leaves_everything_as_it_was(tmp_path, name):
    """Neither a new file nor a hidden one, and the old one is the old one."""
    needs(name)

    def records():
        yield record("a")
        raise KeyboardInterrupt

    out = tmp_path / name
    for before in (None, b"old"):
        if before is not None:
            out.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            render(records(), out, overwrite=True)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_has_its_name_only_when_it_is_whole(tmp_path, name):
    """While records are written, the folder has no file of the name."""
    needs(name)
    seen = []

    def records():
        yield record("a")
        seen.extend(file.name for file in tmp_path.iterdir())

    render(records(), tmp_path / name)
    (hidden,) = seen
    assert hidden.startswith(f".{name}.")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_file_that_exists_is_kept_unless_it_may_go(tmp_path):
    """A symbolic link is followed, and stays one."""
    target = tmp_path / "target.jsonl"
    target.write_text("old")
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    with pytest.raises(OutputError, match="exists already"):
        render([record()], link)
    assert target.read_text() == "old"
    render([record()], link, overwrite=True)
    assert link.is_symlink()
    assert target.read_text() != "old"


def test_a_name_as_long_as_names_may_be(tmp_path):
    """The hidden name is no longer than the name."""
    out = tmp_path / ("é" * 120 + ".jsonl")
    render([record()], out)
    assert out.is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_a_file_has_the_rights_of_any_new_file(tmp_path):
    """Those that the user's mask leaves."""
    render([record()], tmp_path / "calls.jsonl")
    (tmp_path / "plain").touch()
    assert (tmp_path / "calls.jsonl").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("place", "problem"),
    [("none/calls.jsonl", "there is no folder"), ("folder.csv", "it is no regular file")],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, place, problem):
    """Before the first record is taken."""
    (tmp_path / "folder.csv").mkdir()
    taken = iter([record()])
    with pytest.raises(OutputError, match=problem) as caught:
        render(taken, tmp_path / place, overwrite=True)
    assert caught.value.output == str(tmp_path / place)
    assert next(taken)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, name):
    """It names the file and the reason, and nothing is left behind."""
    needs(name)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        render([record()], tmp_path / name)
    assert caught.value.message == f"cannot write {tmp_path / name}: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")  # noqa: PTH110
def test_a_disk_that_fills_up_while_it_is_written(tmp_path, monkeypatch, name):
    """The error of the write itself is translated, pyarrow's as well."""
    needs(name)
    path = type(tmp_path)
    opened = path.open
    monkeypatch.setattr(path, "open", lambda *_: opened(path("/dev/full"), "wb"))
    with pytest.raises(OutputError, match="No space left on device"):
        render([record()] * 100, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "last"), [(render, "parquet"), (render_failures, "csv")])
@pytest.mark.parametrize("name", ["calls", "calls.txt", ".csv", "calls.csv.gz"])
def test_a_name_without_a_format_is_refused(tmp_path, function, last, name):
    """The formats that there are, are named."""
    with pytest.raises(ConfigurationError, match=rf"must end in \.jsonl.* or \.{last}\n"):
        function([], tmp_path / name)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    """A missing extra is no traceback, and leaves no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'calls_async\[parquet\]'"):
        render([record()], tmp_path / "calls.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_contract_is_kept_by_json_lines(tmp_path):
    """Formats with columns refuse it; JSON lines have it as it came."""
    strange = record(raw=b'{"id": "a", "from": "the future"}')
    with pytest.raises(DecodeError):
        render([strange], tmp_path / "calls.csv")
    assert render([strange], tmp_path / "calls.jsonl") == 1
    assert (tmp_path / "calls.jsonl").read_bytes() == strange.raw + b"\n"
