"""What is no journal of ours is refused with one line, and left as it was, byte for byte."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from calls_async import JournalError
from calls_async.journal import Journal
from calls_async.journal._journal import store_of
from calls_async.journal._schema import VERSION
from tests.journal.kit import fetched
from tests.kit import ROOT


def foreign(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
        db.commit()


def foreign_with_log(path):
    """A foreign database whose process was killed: it has a log that was not copied yet."""
    aside = path.with_name("aside")
    with closing(sqlite3.connect(aside)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE notes (text)")
        db.commit()
        db.execute("PRAGMA wal_checkpoint")
        db.execute("INSERT INTO notes VALUES ('in the log')")
        db.commit()
        path.write_bytes(aside.read_bytes())
        path.with_name(f"{path.name}-wal").write_bytes(aside.with_name("aside-wal").read_bytes())
    aside.unlink()


def no_database(path):
    path.write_bytes(b"id\n" + b"call-1\n" * 3_000)


def short_text(path):
    path.write_bytes(b"x")


def newer(path):
    Journal.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")


def truncated(path):
    with Journal.open(path) as journal:
        names = [f"call-{number}" for number in range(200)]
        journal.add(names)
        journal.settle(map(fetched, names))
    os.truncate(path, path.stat().st_size // 2)


def cut_in_the_header(path):
    Journal.open(path).close()
    os.truncate(path, 60)


def folder(path):
    path.mkdir()


CASES = {
    foreign: "another kind of file",
    foreign_with_log: "another kind of file",
    no_database: "another kind of file",
    short_text: "another kind of file",
    newer: "newer calls_async",
    truncated: "truncated or damaged",
    cut_in_the_header: "truncated or damaged",
    folder: "no file",
}


def snapshot(root):
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in root.iterdir()
    }


@pytest.mark.parametrize("read_only", [False, True], ids=["write", "read"])
@pytest.mark.parametrize(
    ("make", "told"), CASES.items(), ids=lambda case: getattr(case, "__name__", "")
)
def test_what_is_no_journal_is_left_as_it_is(tmp_path, make, told, read_only):
    """It is refused in one line that names it, and nothing is changed or left beside it."""
    path = tmp_path / "calls.journal"
    make(path)
    before = snapshot(tmp_path)
    with pytest.raises(JournalError, match=told) as caught:
        Journal.open(path, read_only=read_only)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert snapshot(tmp_path) == before


def test_a_page_that_is_damaged_is_told(tmp_path):
    """Damage that only shows when it is read is an error of ours as well."""
    path = tmp_path / "calls.journal"
    with Journal.open(path) as journal:
        names = [f"call-{number}" for number in range(500)]
        journal.add(names)
        journal.settle(map(fetched, names))
    with path.open("r+b") as file:
        file.seek(8192 * 5)
        file.write(b"\xff" * (path.stat().st_size - 8192 * 5))
    with (
        Journal.open(path, read_only=True) as journal,
        pytest.raises(JournalError, match="damaged"),
    ):
        list(journal.fetched())


def test_a_log_without_its_journal_is_not_taken_over(tmp_path):
    """The log of a journal that was removed would be played into the new one."""
    path = tmp_path / "calls.journal"
    log = tmp_path / "calls.journal-wal"
    log.write_bytes(b"left over")
    with pytest.raises(JournalError, match="left over"):
        Journal.open(path)
    assert snapshot(tmp_path) == {log.name: (log.stat().st_mtime_ns, b"left over")}


def test_an_empty_file_becomes_a_journal(tmp_path):
    """A file that was only touched, or whose making was cut off, holds nothing to be lost."""
    path = tmp_path / "calls.journal"
    path.touch()
    path.with_name("calls.journal.new").write_bytes(b"cut off")
    with Journal.open(path) as journal:
        assert journal.add(["a"]) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def nobody():
    """Somebody who may not write everywhere, as root may."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def public_folder():
    """A folder that others may look into; pytest's own ones are private."""
    with tempfile.TemporaryDirectory() as name:
        if not all(folder.stat().st_mode & stat.S_IXOTH for folder in Path(name).parents):
            pytest.skip("the folder for temporary files is private")
        yield Path(name)


def test_a_read_only_folder(public_folder, request):
    """There a journal can be neither made nor written, but read; the message names the file."""
    path = public_folder / "calls.journal"
    with Journal.open(path) as journal:
        journal.add(["a"])
    public_folder.chmod(0o555)
    request.addfinalizer(lambda: public_folder.chmod(0o755))
    request.getfixturevalue("nobody")
    with Journal.open(path, read_only=True) as journal:
        assert journal.status().left == 1
    for name in ("calls.journal", "another"):
        with pytest.raises(JournalError, match="Permission denied") as caught:
            Journal.open(public_folder / name)
        assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path):
    """Where there is no room, that is told; with room again, the same journal goes on."""
    path = tmp_path / "calls.journal"
    names = [f"call-{number}" for number in range(700)]
    with Journal.open(path) as journal:
        journal.add(names)
        journal.settle(map(fetched, names[:200]))
        db = store_of(journal)._writer
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(JournalError, match="no room") as caught:
            journal.settle(map(fetched, names[200:]))
        assert len(str(caught.value).splitlines()) == 1
        assert journal.status().fetched == 200
    with Journal.open(path) as journal:
        journal.settle(map(fetched, names[200:]))
        assert [record.id for record in journal.fetched()] == names


FILLING = f"""
import resource, signal, sys
from calls_async import JournalError
from calls_async.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.RLIM_INFINITY}))
try:
    with Journal.open(sys.argv[1]) as journal:
        journal.add(f"call-{{number}}" for number in range(20_000))
except JournalError as exc:
    print(exc)
"""


def test_a_quota_is_told(tmp_path):
    """A limit of the system's on the file ends the writing in one line; the journal is whole."""
    path = tmp_path / "calls.journal"
    done = subprocess.run(  # noqa: S603 (the code is this file's)
        [sys.executable, "-c", FILLING, str(path)], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert str(path) in line
    with Journal.open(path) as journal:
        assert len(list(journal.left())) == journal.status().asked
        assert journal.add(["one-more"]) == 1
