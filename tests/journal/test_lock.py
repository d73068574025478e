"""One writer at a time, by a lock that dies with its holder; readers at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from calls_async import JournalError
from calls_async.journal import Journal
from tests.kit import ROOT

HOLDER = """
import sys
from calls_async.journal import Journal
journal = Journal.open(sys.argv[1])
journal.add(["a", "b"])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "calls.journal"


@pytest.fixture
def holder(path):
    """Another process that has the journal open for writing."""
    with subprocess.Popen(  # noqa: S603 (the code is this file's)
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_until_the_first_has_died(path, holder):
    """The message names the holder; readers are let in; after `kill -9` the next writer is too."""
    with pytest.raises(JournalError, match=rf"is being written by process {holder.pid}:"):
        Journal.open(path)
    with Journal.open(path, read_only=True) as journal:
        assert list(journal.left()) == ["a", "b"]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with Journal.open(path) as journal:
        assert list(journal.left()) == ["a", "b"]
        assert journal.add(["c"]) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_second_writer_in_this_process_is_refused(path):
    """The lock is not for processes only: two jobs of one process would disturb each other too."""
    with Journal.open(path):
        with pytest.raises(JournalError, match="this process already"):
            Journal.open(path)
        with Journal.open(path, read_only=True) as journal:
            assert journal.status().asked == 0
    Journal.open(path).close()


def _in_the_child(journal, results):
    for use in (journal.status, lambda: journal.add(["b"]), lambda: Journal.open(journal.path)):
        try:
            use()
        except JournalError as exc:
            results.put(exc.message)
        else:
            results.put("no error")
    journal.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_does_not_inherit_the_journal(path):
    """The child can use it in no way, and what it closes is not the parent's."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with Journal.open(path) as journal:
        journal.add(["a"])
        child = context.Process(target=_in_the_child, args=(journal, results))
        child.start()
        child.join()
        told = [results.get() for _ in range(3)]
        assert "opened before a fork" in told[0]
        assert "opened before a fork" in told[1]
        assert f"is being written by process {os.getpid()}" in told[2]
        assert journal.add(["b"]) == 1
        with pytest.raises(JournalError, match="this process already"):
            Journal.open(path)
