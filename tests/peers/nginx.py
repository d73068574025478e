"""One nginx, as Debian and others ship it; the rule: it writes only into its own folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.documents import example
from tests.peers.process import free_ports, happens, killed, launched

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

TEMPLATE: Final = (Path(__file__).parent / "nginx.conf").read_text(encoding="utf-8")

PROGRAM: Final = shutil.which(
    "nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
)
"""Where nginx is; `None`: not installed."""

MISSING: Final = (
    "nginx is not installed (Debian: apt-get install --no-install-recommends nginx-light)"
)


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
            names = {*re.findall(r"@port:(\w+)@", TEMPLATE + self.more), "nobody"}
            self._ports = free_ports(*sorted(names))
        self._configure()
        self._launch()
        if happens(lambda: self._master is not None or self._exited) and not self._exited:
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
        if self._process is not None:
            killed(self._process)
            self._process = None

    def stop(self) -> None:
        """End in good order, the log complete; by force if that takes long."""
        if not self._exited:
            self._signal(signal.SIGTERM)
            happens(lambda: self._exited)
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
        self._process = launched(
            PROGRAM, "-p", f"{self.folder}/", "-e", "error.log", "-c", "nginx.conf"
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
