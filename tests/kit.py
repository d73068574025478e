"""What the tests of the client share: virtual time, ids, and a look at what was left behind."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from pathlib import Path

from calls_async.testing import run_in_virtual_time

ROOT = Path(__file__).parents[1]


async def run_python(code, *, stdin=b"", **variables):
    """Run code in an interpreter of its own: its exit code, its output, its error output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        cwd=ROOT,
        env=os.environ | variables,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin)
    return process.returncode, out.decode(), err.decode()


def in_virtual_time(test):
    """Run an `async def` test in a loop whose clock jumps, so that it never waits for real."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        return run_in_virtual_time(test(*args, **kwargs))

    return run


def call_ids(number):
    """So many different ids."""
    return [f"call-{position}" for position in range(number)]


def other_tasks():
    """The tasks of this loop, the running one apart."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def timers():
    """What this loop would still wake up for."""
    return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


async def turns(number):
    """Let the loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


def open_sockets():
    """How many sockets this process has open; `None` where the system does not show it."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return None
    return sum(_target(entry).startswith("socket:") for entry in folder.iterdir())


def _target(entry):
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # the descriptor of the listing itself
        return ""
