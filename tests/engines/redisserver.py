"""One Redis, as Debian and others ship it; the rule: it is started as the how-to says.

The same tests run against Valkey where `CALLS_REDIS_SERVER` names its program.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.peers.process import free_ports, happens, killed, launched

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM: Final = shutil.which(os.environ.get("CALLS_REDIS_SERVER", "redis-server"))
"""Where the server is; `None`: not installed."""

MISSING: Final = (
    "redis-server is not installed (Debian: apt-get install --no-install-recommends redis-server)"
)

STARTED: Final = ("--save", "", "--appendonly", "no")
"""Nothing on the disk: what is lost with the process is the fleet's line, and that is all right."""


@attrs.define(eq=False)
class RedisServer:
    """A server that can be killed and started again on the same port.

    Attributes:
        folder: What it writes goes here.
        port: Where it listens on loopback.
        options: Its arguments besides the port.
    """

    folder: Path
    port: int
    options: tuple[str, ...] = STARTED
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, for `SharedPace`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when it answers."""
        assert PROGRAM is not None, MISSING
        self._process = launched(
            PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            *self.options, output=self.folder / "redis.log",
        )  # fmt: skip
        if not happens(lambda: self.command("PING").startswith(b"+PONG")):
            self.kill()
            raise RuntimeError(f"redis does not start: {(self.folder / 'redis.log').read_text()}")

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            killed(self._process)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: it accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def command(self, *words: Any) -> bytes:
        """What it answers to one command, in its own form; nothing if it is not there."""
        parts = [str(word).encode() for word in words]
        sent = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := connection.recv(65_536):
                    answer += piece
                return answer
        except OSError:
            return b""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)  # the group is its own, see `launched`


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server until the block ends."""
    (port,) = free_ports("redis").values()
    server = RedisServer(folder, port, options or STARTED)
    server.start()
    try:
        yield server
    finally:
        server.kill()
