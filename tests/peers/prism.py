"""Prism, which judges by openapi.yaml; the rule: what it objects to is an answer, or in its output.

Prism is a program of others (https://github.com/stoplightio/prism). It plays the server (`mock`) or
stands before one (`proxy`), and then looks at requests and answers alike.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import attrs

from tests.peers.cases import KEY
from tests.peers.process import free_ports, happens, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT: Final = Path(__file__).parent / "openapi.yaml"


def missing() -> str | None:
    """Why it cannot be started; `None` if it can."""
    if shutil.which("node") is None:
        return "Prism needs Node.js, which is not installed"
    if not _program().exists():
        return "Prism is not installed (`nox -s peers` gets it with npm, where there is npm)"
    return None


def _program() -> Path:
    folder = Path(os.environ.get("CALLS_PEERS_NODE", "."))
    return folder / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"


@attrs.frozen
class Prism:
    """A running Prism.

    Attributes:
        url: Its base URL.
        output: The file that it tells of each request in.
    """

    url: str
    output: Path

    def requests(self, call_id: str | None = None) -> int:
        """How many requests came so far, for one id or for all."""
        path = "/v1/calls/" if call_id is None else f"/v1/calls/{call_id} "
        lines = self.output.read_text(encoding="utf-8").splitlines()
        return sum("Request received" in line and f"get {path}" in line for line in lines)

    def saw(self, number: int, call_id: str | None = None) -> bool:
        """Whether it saw so many requests, once it has written them down."""
        return happens(lambda: self.requests(call_id) >= number) and (
            self.requests(call_id) == number
        )

    def document(self, seed: int) -> dict[str, Any]:
        """A random document that the contract allows, for each seed another one."""
        prefer = f"dynamic=true, seed=s{seed}"
        headers = {"Authorization": f"Bearer {KEY}", "Prefer": prefer}
        asked = Request(f"{self.url}/v1/calls/any", headers=headers)  # noqa: S310 (loopback)
        with urlopen(asked, timeout=10) as answer:  # noqa: S310 (loopback)
            document: dict[str, Any] = json.loads(answer.read())
        return document


@contextmanager
def running(folder: Path, *, before: str | None = None) -> Iterator[Prism]:
    """A Prism until the block ends.

    Args:
        folder: What it says goes here.
        before: The server that it stands before, and objects for; `None`: it is the server itself.
    """
    port = free_ports("prism")["prism"]
    output = folder / "output.txt"
    mode = ("mock",) if before is None else ("proxy", "--errors")
    command = ("node", str(_program()), *mode, "-h", "127.0.0.1", "-p", str(port))
    target = () if before is None else (before,)
    quiet = {"SCARF_ANALYTICS": "false", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    with serving(*command, str(CONTRACT), *target, port=port, output=output, variables=quiet):
        yield Prism(f"http://127.0.0.1:{port}", output)
