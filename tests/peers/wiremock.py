"""One WireMock with the stubs of its tests; the rule: its journal is the count that holds.

WireMock is a program of others (https://wiremock.org), and knows faults of the socket, delays and
scenarios. An id names what is to happen: `always-empty_response`, `twice-connection_reset_by_peer`,
`status-418`, and any other id is answered with its own record.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import attrs

from tests.documents import example
from tests.peers.cases import KEY
from tests.peers.process import free_ports, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS: Final = (
    "EMPTY_RESPONSE",
    "MALFORMED_RESPONSE_CHUNK",
    "RANDOM_DATA_THEN_CLOSE",
    "CONNECTION_RESET_BY_PEER",
)
"""What WireMock can do to a connection."""
STATUSES: Final = (
    204, 301, 304, 400, 401, 403, 404, 408, 409, 410, 418,
    422, 425, 429, 451, 500, 502, 503, 504, 520, 599,
)  # fmt: skip
"""Statuses that come with a JSON body (where a body is allowed), and no hint."""
BRIEFLY: Final = (429, 500, 503)
"""Statuses that come once, and then the record; the first and the last with `Retry-After: 1`."""

_GENUINE: Final = {"Authorization": {"equalTo": f"Bearer {KEY}"}}
_JSON: Final = {"Content-Type": "application/json"}


def missing() -> str | None:
    """Why it cannot be started; `None` if it can."""
    if shutil.which("java") is None:
        return "WireMock needs Java, which is not installed (Debian: openjdk-17-jre-headless)"
    if _jar() is None:
        return "WireMock is not installed (`nox -s peers` gets it with npm, where there is npm)"
    return None


def _jar() -> Path | None:
    modules = Path(os.environ.get("CALLS_PEERS_NODE", "."), "node_modules", "wiremock", "build")
    return next(modules.glob("wiremock-standalone-*.jar"), None)


@attrs.frozen
class WireMock:
    """A running WireMock.

    Attributes:
        port: For http.
        secure: For https, with a certificate that it has signed itself.
    """

    port: int
    secure: int

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def journal(self) -> Counter[str]:
        """How often each path was asked for since `reset`."""
        served = self._admin("GET", "requests")["requests"]
        return Counter(each["request"]["url"] for each in served)

    def requests_of(self, call_id: str) -> int:
        """How often the journal has this id."""
        return self.journal()[f"/v1/calls/{call_id}"]

    def unmatched(self) -> int:
        """Requests since `reset` that no stub is for."""
        return len(self._admin("GET", "requests/unmatched")["requests"])

    def reset(self) -> None:
        """Forget what was asked, and begin each scenario anew."""
        self._admin("DELETE", "requests")
        self._admin("POST", "scenarios/reset")

    def _admin(self, method: str, path: str) -> Any:
        asked = Request(f"{self.url}/__admin/{path}", method=method)  # noqa: S310 (loopback)
        with urlopen(asked, timeout=10) as answer:  # noqa: S310 (loopback)
            return json.loads(answer.read() or b"{}")


@contextmanager
def running(folder: Path) -> Iterator[WireMock]:
    """A WireMock until the block ends, which writes only into this folder."""
    ports = free_ports("plain", "secure")
    (folder / "mappings").mkdir()
    stubs = json.dumps({"mappings": list(_stubs())})
    (folder / "mappings" / "calls.json").write_text(stubs, encoding="utf-8")
    command = (
        *("java", "-Xmx256m", "-jar", str(_jar()), "--root-dir", str(folder), "--disable-banner"),
        *("--bind-address", "127.0.0.1", "--port", str(ports["plain"])),
        *("--https-port", str(ports["secure"]), "--container-threads", "64"),
        *("--disable-gzip", "--max-template-cache-entries", "10"),
    )
    with serving(*command, port=ports["plain"], output=folder / "output.txt"):
        yield WireMock(ports["plain"], ports["secure"])


def _stubs() -> Iterator[dict[str, Any]]:
    """What is answered to whom."""
    anybody = {"method": "GET", "urlPathPattern": "/v1/calls/[^/]+"}
    refusal = {"status": 401, "jsonBody": {"message": "who is it?"}}
    yield {"priority": 10, "request": anybody, "response": refusal}
    record = json.dumps(example() | {"id": "{{request.pathSegments.[2]}}"})
    found = {"status": 200, "headers": _JSON, "body": record, "transformers": ["response-template"]}
    yield {"priority": 9, "request": anybody | {"headers": _GENUINE}, "response": found}
    for fault in FAULTS:
        yield _stub(f"always-{fault.lower()}", {"fault": fault})
        yield from _scenario(f"twice-{fault.lower()}", {"fault": fault}, 2, found)
    for status in STATUSES:
        body = {} if status in {204, 304} else {"jsonBody": {"statusCode": status}}
        yield _stub(f"status-{status}", {"status": status, "headers": _JSON, **body})
    for status in BRIEFLY:
        headers = _JSON if status == 500 else _JSON | {"Retry-After": "1"}
        response = {"status": status, "headers": headers, "jsonBody": {"statusCode": status}}
        yield from _scenario(f"briefly-{status}", response, 1, found)
    slowly = {
        "lognormal": {"delayDistribution": {"type": "lognormal", "median": 80, "sigma": 0.4}},
        "uniform": {"delayDistribution": {"type": "uniform", "lower": 10, "upper": 200}},
        "dribble": {"chunkedDribbleDelay": {"numberOfChunks": 20, "totalDuration": 1500}},
        "stall": {"fixedDelayMilliseconds": 60_000},
    }
    for name, delay in slowly.items():
        yield _stub(name, found | delay)
    yield _stub("page", {"status": 200, "body": "<html>welcome to this hotel</html>"})
    yield _stub("bad-utf8", {"status": 200, "headers": _JSON, "base64Body": "eyJpZCI6Iv/+In0="})
    for name, location in {"elsewhere": "http://localhost:1/v1/calls/x", "loop": "loop"}.items():
        yield _stub(name, {"status": 302, "headers": {"Location": location}})


def _stub(call_id: str, response: dict[str, Any], **scenario: str) -> dict[str, Any]:
    request = {"method": "GET", "urlPath": f"/v1/calls/{call_id}", "headers": _GENUINE}
    return {"priority": 1, "request": request, "response": response, **scenario}


def _scenario(
    call_id: str, response: dict[str, Any], times: int, then: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The response so many times, and then another one."""
    states = ["Started", *(f"after {number}" for number in range(1, times + 1))]
    for now, following in zip(states, [*states[1:], states[-1]], strict=True):
        yield _stub(
            call_id,
            then if now == states[-1] else response,
            scenarioName=call_id,
            requiredScenarioState=now,
            newScenarioState=following,
        )
