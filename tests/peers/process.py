"""A server of others as a process; the rule: it ends with who started it, and by its own id.

It listens on loopback, on ports that were free a moment ago. So a server that a killed run left
over disturbs nobody, and ends by itself after some minutes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LONGEST: Final = 600
"""Seconds after which a server that nobody stopped ends by itself."""

PORTS: Final = range(20_000, 30_000)
"""Below the ports that systems give to outgoing connections (Linux: from 32768), so that no client
takes a server's port while that is down, not even one that connects to itself."""


def free_ports(*names: str) -> dict[str, int]:
    """A free port for each name."""
    candidates = iter(random.sample(PORTS, len(PORTS)))
    return {name: next(port for port in candidates if _is_free(port)) for name in names}


def launched(
    *command: str,
    output: Path | None = None,
    variables: Mapping[str, str] | None = None,
    longest: int = LONGEST,
) -> subprocess.Popen[bytes]:
    """A program in a process group of its own.

    Args:
        command: The program and its arguments.
        output: Where all that it says goes; `None`: nowhere.
        variables: What its environment has besides this process's.
        longest: Seconds after which it ends, if nobody has stopped it.
    """
    if bounded := shutil.which("timeout"):  # who is killed cannot stop its server
        command = (bounded, "--kill-after=5", str(longest), *command)
    with (output or Path(os.devnull)).open("wb") as said:
        return subprocess.Popen(  # noqa: S603 (the commands are those of this folder)
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=os.environ | (variables or {}),
            start_new_session=True,
        )


def killed(process: subprocess.Popen[bytes]) -> None:
    """End a program that was launched here, and all that it has started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the group is its own, see `launched`
    process.wait()


@contextmanager
def serving(
    *command: str, port: int, output: Path, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server from when its port is open until the block ends.

    Raises:
        RuntimeError: It does not open its port; the message holds what it said.
    """
    process = launched(*command, output=output, variables=variables)
    try:
        if not happens(lambda: is_open(port) or process.poll() is not None, within=60.0):
            raise RuntimeError(f"{command[0]} opens no port: {output.read_text()}")
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} does not start: {output.read_text()}")
        yield
    finally:
        killed(process)


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def happens(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    """Whether it does within so many seconds."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
