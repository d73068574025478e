"""httpbin behind the endpoint's path; the rule: the id is the way into it, and its log the count.

httpbin is a program of others (https://github.com/psf/httpbin). `get_call("status/503")` asks for
`/v1/calls/status%2F503`, and is answered with what httpbin has at `/status/503`.

`python -m tests.peers.httpbin PORT` serves it.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from tests.peers.process import free_ports, happens, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def missing() -> str | None:
    """Why it cannot be started; `None` if it can."""
    if importlib.util.find_spec("httpbin") is None:
        return "httpbin is not installed (`nox -s peers` gets it with pip)"
    return None


@attrs.frozen
class Httpbin:
    """A running httpbin.

    Attributes:
        url: Its base URL.
        output: The file that its log goes to.
    """

    url: str
    output: Path

    def answered(self, call_id: str) -> int:
        """How many requests for this id it has written down so far."""
        line = f"GET /v1/calls/{quote(call_id, safe='')} HTTP/1.1"  # in colours, if it is no 200
        return self.output.read_text(encoding="utf-8").count(line)

    def comes_to(self, number: int, call_id: str) -> bool:
        """Whether it is so many, once it has written them down."""
        return happens(lambda: self.answered(call_id) >= number) and (
            self.answered(call_id) == number
        )


@contextmanager
def running(folder: Path) -> Iterator[Httpbin]:
    """An httpbin until the block ends."""
    port = free_ports("httpbin")["httpbin"]
    output = folder / "output.txt"
    command = (sys.executable, "-m", "tests.peers.httpbin", str(port))
    with serving(*command, port=port, output=output):
        yield Httpbin(f"http://127.0.0.1:{port}", output)


def _serve(port: int) -> None:
    """Serve until killed."""
    from httpbin import app  # noqa: PLC0415 (installed for this program alone, as is Werkzeug)
    from werkzeug.exceptions import NotFound  # noqa: PLC0415
    from werkzeug.middleware.dispatcher import DispatcherMiddleware  # noqa: PLC0415
    from werkzeug.serving import WSGIRequestHandler, run_simple  # noqa: PLC0415

    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    behind = DispatcherMiddleware(NotFound(), {"/v1/calls": app})
    run_simple("127.0.0.1", port, behind, threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
