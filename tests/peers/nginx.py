"""One nginx, as Debian and others ship it; the rule: it ends with who started it.

It listens on loopback, on ports that were free a moment ago, and writes only into its own folder.
So a server that a killed run left over disturbs nobody, and ends by itself after some minutes.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.documents import example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEMPLATE: Final = (Path(__file__).parent / "nginx.conf").read_text(encoding="utf-8")

PROGRAM: Final = shutil.which(
    "nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
)
"""Where nginx is; `None`: not installed."""

MISSING: Final = (
    "nginx is not installed (Debian: apt-get install --no-install-recommends nginx-light)"
)

LONGEST: Final = 600
"""Seconds after which a server that nobody stopped ends by itself."""

PORTS: Final = range(20_000, 30_000)
"""Below the ports that systems give to outgoing connections (Linux: from 32768), so that no client
takes a server's port while that is down, not even one that connects to itself."""


@attrs.frozen(kw_only=True)
class Logged:
    """One line of the access log: a request as nginx saw it.

    Attributes:
        at: When it was done with, in seconds since 1970.
        took: Seconds from its first byte to the answer's last.
        status: The answer's; 444: none was sent.
        target: The request target, as on the wire.
        worker: The process that answered.
        connection: Which connection it came on.
        place: Which request of that connection it was, from 1.
        accepts: Its `Accept-Encoding`.
        encoding: The answer's `Content-Encoding`.
        behind: Who the proxy asked; empty: it answered itself.
    """

    at: float
    took: float
    status: int
    target: str
    worker: int
    connection: int
    place: int
    accepts: str
    encoding: str
    behind: str


def record(call_id: str) -> bytes:
    """What nginx answers for this id: the page's example, with the id in two places."""
    return json.dumps(example() | {"id": call_id, "notes": f"of {call_id}"}).encode()


@attrs.define(eq=False)
class Nginx:
    """A server that can be reloaded, killed and started again on the same ports.

    Attributes:
        folder: What it writes goes here.
        more: Further `server` blocks.
        behind: The port that its proxy asks; `None`: one where nobody listens.
    """

    folder: Path
    more: str = ""
    behind: int | None = None
    _ports: dict[str, int] = attrs.field(factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def port(self, name: str) -> int:
        """The port of the server that the configuration gives this name."""
        return self._ports[name]

    def url(self, name: str, *, scheme: str = "http") -> str:
        """The base URL of the server that the configuration gives this name."""
        return f"{scheme}://127.0.0.1:{self.port(name)}"

    def log(self) -> list[Logged]:
        """The requests so far; complete when the server has stopped."""
        lines = (self.folder / "access.log").read_text(encoding="utf-8").splitlines()
        return [Logged(**json.loads(line)) for line in lines]

    def start(self) -> None:
        """Start, and return when all ports are open.

        Raises:
            RuntimeError: It does not start.
        """
        if not self._ports:
            self._ports = _free_ports(TEMPLATE + self.more)
        self._configure()
        self._launch()
        if _happens(lambda: self._master is not None or self._exited) and not self._exited:
            return
        self.kill()
        raise RuntimeError(f"nginx does not start: {self._complaints()}")

    def reload(self, *, behind: int) -> None:
        """Read the configuration again, with another server behind the proxy, and lose nobody."""
        self.behind = behind
        self._configure()
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """End all its processes at once, as a crash would."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group is its own, see _launch
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End in good order, the log complete; by force if that takes long."""
        if not self._exited:
            self._signal(signal.SIGTERM)
            _happens(lambda: self._exited)
        self.kill()

    def _configure(self) -> None:
        words: dict[str, Any] = {f"port:{name}": port for name, port in self._ports.items()}
        words["behind"] = self._ports["nobody"] if self.behind is None else self.behind
        words["record"] = record("$call_id").decode()
        text = TEMPLATE.replace("@more@", self.more)
        filled = re.sub(r"@([\w:]+)@", lambda found: str(words[found[1]]), text)
        (self.folder / "nginx.conf").write_text(filled, encoding="utf-8")

    def _launch(self) -> None:
        assert PROGRAM is not None, MISSING
        (self.folder / "nginx.pid").unlink(missing_ok=True)
        command = [PROGRAM, "-p", f"{self.folder}/", "-e", "error.log", "-c", "nginx.conf"]
        if bounded := shutil.which("timeout"):  # who is killed cannot stop its server
            command = [bounded, "--kill-after=5", str(LONGEST), *command]
        self._process = subprocess.Popen(  # noqa: S603 (the command is this file's)
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def _exited(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def _master(self) -> int | None:
        """The master's process id, which nginx writes down once its ports are open."""
        try:
            return int((self.folder / "nginx.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):  # not yet, or not yet whole
            return None

    def _signal(self, number: signal.Signals) -> None:
        master = self._master
        if master is not None and not self._exited:  # so the id is still this server's
            os.kill(master, number)

    def _complaints(self) -> str:
        log = self.folder / "error.log"
        return log.read_text(encoding="utf-8") if log.exists() else "it says nothing"


@contextmanager
def running(folder: Path, *, more: str = "", behind: int | None = None) -> Iterator[Nginx]:
    """An nginx until the block ends; see `Nginx`."""
    nginx = Nginx(folder, more, behind)
    nginx.start()
    try:
        yield nginx
    finally:
        nginx.stop()


def _free_ports(configuration: str) -> dict[str, int]:
    """A free port for each name that the configuration uses, and one for nobody."""
    names = {*re.findall(r"@port:(\w+)@", configuration), "nobody"}
    candidates = iter(random.sample(PORTS, len(PORTS)))
    return {name: next(port for port in candidates if _is_free(port)) for name in sorted(names)}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _happens(condition: Callable[[], bool]) -> bool:
    """Whether it does within 10 seconds."""
    until = time.monotonic() + 10.0
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
