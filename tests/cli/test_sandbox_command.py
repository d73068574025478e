"""`calls-async sandbox`: it serves until Ctrl-C, and says how to reach it."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from calls_async.testing import SANDBOX_KEY
from tests.cli.conftest import PATIENCE, complaint, invoke, spawn


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
def test_it_serves_until_ctrl_c():
    """Its two lines are what the other commands need, and at the end it says what it answered."""
    process = spawn("sandbox", "--permanent-share", "1.0")
    url = re.fullmatch(
        r"export CALLS_BASE_URL=(http://127\.0\.0\.1:\d+)\n", process.stdout.readline()
    )
    assert process.stdout.readline() == f"export CALLS_API_KEY={SANDBOX_KEY}\n"
    result = invoke("get", "a", CALLS_BASE_URL=url[1])
    assert result.exit_code == 1
    assert "request req-1" in complaint(result) or "contract" in complaint(result)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert re.fullmatch(r"Serving calls: .*\n1 request\. \d+: 1\n", err)


def test_a_port_that_is_taken_is_one_line(serve):
    """It is told with what to do."""
    port = serve().port
    result = invoke("sandbox", "--port", str(port))
    assert result.exit_code == 2
    line = complaint(result)
    assert line.startswith(f"calls-async: cannot listen on port {port}: ")
    assert line.endswith("; choose another --port")
