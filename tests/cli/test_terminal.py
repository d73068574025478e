"""In a terminal there is a bar that moves; elsewhere there are plain lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE, invoke, spawn
from tests.kit import call_ids

pytestmark = [
    pytest.mark.usefixtures("folder"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind"
    ),
]


def in_a_terminal(*args, **options):
    """What a command writes to standard error where that is a terminal of 80 columns."""
    import pty  # noqa: PLC0415 (Windows has none)

    outer, inner = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": ""} | options.pop("env", {})
    process = spawn(*args, stderr=inner, env=env, **options)
    os.close(inner)
    written = b""
    try:
        while chunk := os.read(outer, 65536):
            written += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(outer)
    process.communicate(timeout=PATIENCE)
    return process.returncode, written.decode()


def test_a_terminal_gets_a_bar(serve):
    """The bar moves in place, is gone at the end, and the account stays."""
    Path("ids.txt").write_text("\n".join(call_ids(100)))
    code, told = in_a_terminal("fetch", "ids.txt", "--out", "a.jsonl", sandbox=serve(latency=0.05))
    assert code == 0
    assert "of 100" in told
    assert "gate" in told
    assert "p50 " in told
    assert "\x1b[2K" in told
    assert "\r\n100 of 100 fetched in" in told.rpartition("\x1b[2K")[2]


def test_a_dumb_terminal_gets_lines(serve):
    """A terminal that cannot move its cursor is not told to."""
    Path("ids.txt").write_text("a\n")
    env = {"TERM": "dumb"}
    code, told = in_a_terminal("fetch", "ids.txt", "--out", "a.jsonl", sandbox=serve(), env=env)
    assert code == 0
    assert told.startswith("0 of 0 done, 0 failed, 0/s, time unknown, open\r\n1 record: a.jsonl")
    assert "\x1b" not in told


def test_no_terminal_gets_lines(serve):
    """A log file has no escape sequence in it."""
    Path("ids.txt").write_text("a\n")
    args = ("fetch", "ids.txt", "--out", "a.jsonl")
    result = invoke(*args, "--max-rate", "50", sandbox=serve(), FORCE_COLOR="1")
    told = result.stderr.splitlines()
    assert told[0] == "0 of 0 done, 0 failed, 0/s, time unknown, open, pace 50/s as given"
    assert told[1] == "1 record: a.jsonl"
    assert told[2].startswith("1 of 1 fetched in ")
    assert len(told) == 3
