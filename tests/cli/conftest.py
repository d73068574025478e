"""What the tests of the command line share: a sandbox that serves, and the command to run."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from calls_async.cli._app import app
from calls_async.testing import SANDBOX_KEY, Sandbox
from tests.engines.conftest import (  # noqa: F401 (fixtures)
    redis_installed,
    redis_of_the_session,
    redis_server,
)

ROOT = Path(__file__).parents[2]
PATIENCE = 60
"""Seconds after which a process that should have ended long ago fails its test."""

# Before click 8.2 the two streams were mixed unless one said otherwise.
_SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@pytest.fixture
def serve():
    """Serves sandboxes in a thread, so that commands with an event loop of their own find them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    served = []

    def in_thread(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

    def start(**options):
        sandbox = Sandbox(**options)
        in_thread(sandbox.start())
        served.append(sandbox)
        return sandbox

    yield start
    for sandbox in served:
        in_thread(sandbox.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(sandbox=None, **changes):
    """The variables that a command reads; without a sandbox there is a key, and nobody listens."""
    base_url = "http://127.0.0.1:9" if sandbox is None else sandbox.base_url
    return {"CALLS_API_KEY": SANDBOX_KEY, "CALLS_BASE_URL": base_url, **changes}


def invoke(*args, sandbox=None, stdin=None, **env):
    """Run a command in this process. A variable that is `None` is not set."""
    runner = CliRunner(**_SEPARATE)
    return runner.invoke(app, args, input=stdin, env=environment(sandbox, **env))


def spawn(*args, sandbox=None, env=None, prelude=None, **options):
    """Start a command in a process of its own; `prelude` is how Python is told to run it."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment(sandbox), **(env or {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    command = [sys.executable, *(prelude or ["-m", "calls_async.cli"]), *args]
    if os.name == "posix":
        # A shell starts what runs in its background without Ctrl-C, and children inherit that.
        options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, env=variables, **options)  # noqa: S603 (under test)


def complaint(result):
    """The one line that a command complained with."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line
