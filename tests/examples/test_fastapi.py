"""The client inside a FastAPI application, as docs/how-to/fastapi.md has it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from calls_async import Timeouts, structure_call
from calls_async.testing import Fault, record_body
from tests.examples.pages import EXAMPLES, blocks, commands, run, until
from tests.kit import ROOT, call_ids
from tests.peers.process import free_ports

pytest.importorskip("fastapi", reason="fastapi is not installed: nox -s examples")
httpx = pytest.importorskip("httpx", reason="httpx is not installed: nox -s examples")

PAGE = blocks("fastapi.md")
SERVER = ("-m", "uvicorn", "examples.fastapi_app:app", "--port")


@pytest.fixture
async def app(calls_sandbox, monkeypatch):
    """The application while it lives, as a server would have it, with little time for a call."""
    from examples.fastapi_app import app, lifespan  # noqa: PLC0415 (fastapi may be missing)

    monkeypatch.setenv("CALLS_BASE_URL", calls_sandbox.base_url)
    monkeypatch.setenv("CALLS_API_KEY", calls_sandbox.api_key)
    async with lifespan(app):
        yield app


@pytest.fixture
async def http(app):
    """Who asks the application."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        yield client


@asynccontextmanager
async def asked(app, method, path, body=b"", *, spec):
    """Ask as a server would that speaks this version of ASGI: what was sent, and how to hang up."""
    sent, gone = [], asyncio.Event()
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if gone.is_set() and spec == "2.4":
            raise OSError("the connection is gone")
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "server": ("app", 80),
        "client": ("127.0.0.1", 1),
    }
    request = asyncio.create_task(app(scope, receive, send))
    yield sent, gone.set
    async with asyncio.timeout(10):
        await asyncio.wait([request])
    # A server whose `send` raises when the connection is gone takes no offence at what comes of it.
    assert request.exception() is None or spec == "2.4"


def test_the_page_shows_what_is_tested():
    """The application on the page is the example, to the letter, and the other block is run."""
    assert PAGE[0] == (EXAMPLES / "fastapi_app.py").read_text("utf-8")
    assert [block.split("\n")[0] for block in PAGE[1:]] == ["# test"]


async def test_the_test_of_the_page_passes(calls_sandbox, monkeypatch):
    """It is a whole one, and shows how to test an application of one's own."""
    names = await run(PAGE[1])
    await names["test_a_missing_call_is_a_404"](calls_sandbox, monkeypatch)


async def test_a_record_is_answered_as_received(http):
    """The very bytes of the API."""
    answer = await http.get("/calls/call-1")
    assert (answer.status_code, answer.content) == (200, record_body("call-1"))
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.status(404), 404),
        (Fault.status(401), 502),
        (Fault.status(501), 502),
        (Fault.stall, 504),
    ],
)
async def test_errors_are_answers(app, http, calls_sandbox, fault, status):
    """Each kind of failure has its status, and nothing of the upstream answer but its name."""
    calls_sandbox.faults = {"call-1": fault}
    app.state.calls = app.state.calls.with_options(timeouts=Timeouts(attempt=0.2, total=0.3))
    answer = await http.get("/calls/call-1")
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "call_id"}
    assert answer.json()["call_id"] == "call-1"
    assert "retry-after" not in answer.headers


async def test_an_id_that_cannot_be_sent_is_the_askers_mistake(http, calls_sandbox):
    """It is refused without asking the API."""
    answer = await http.get("/calls/a%07b")
    assert (answer.status_code, answer.json()["error"]) == (422, "InvalidCallIdError")
    assert len(calls_sandbox.ledger) == 0


async def test_who_is_rate_limited_is_told_when_to_come_back(http, calls_sandbox):
    """503 with `Retry-After`, for the call that met the limit and for those after it, unsent."""
    calls_sandbox.faults = {"call-1": Fault.status(429, headers={"Retry-After": "60"})}
    answers = [await http.get(f"/calls/call-{number}") for number in (1, 2)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].json()["error"] == "RateLimitedError"
    assert all(50 < int(answer.headers["retry-after"]) <= 61 for answer in answers)
    assert len(calls_sandbox.ledger) == 1


async def test_a_closed_client_is_a_503(app, http):
    """Whoever comes while the application stops is told to try again, perhaps elsewhere."""
    await app.state.calls.close()
    answer = await http.get("/calls/call-1")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_many_calls_are_lines(http, calls_sandbox):
    """A line for each id, errors included."""
    calls_sandbox.missing = {"call-3"}
    answer = await http.post("/calls", json=call_ids(10))
    found = {entry["id"]: entry for entry in map(json.loads, answer.text.splitlines())}
    assert found["call-3"] == {"id": "call-3", "error": "NotFoundError"}
    assert structure_call(found["call-1"]) == structure_call(json.loads(record_body("call-1")))
    assert set(found) == set(call_ids(10))


async def test_a_batch_that_cannot_go_on_says_so(http, calls_sandbox):
    """The status has been sent, so the last line has the reason."""
    calls_sandbox.api_keys = ("sk_test_another",)
    answer = await http.post("/calls", json=call_ids(300))
    assert json.loads(answer.text.splitlines()[-1]) == {"error": "AuthenticationError"}


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_who_hangs_up_cancels_the_call(app, calls_sandbox, spec):
    """The request to the API ends with the one that asked for it."""
    calls_sandbox.faults = {"stuck": Fault.stall}
    async with asked(app, "GET", "/calls/stuck", spec=spec) as (_, hang_up):
        await until(lambda: calls_sandbox.ledger.in_flight == 1)
        hang_up()
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    assert app.state.calls.statistics().in_flight == 0


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_who_hangs_up_ends_the_stream(app, calls_sandbox, spec):
    """No further id is asked for, and what was in flight ends."""
    calls_sandbox.latency = 0.02
    ids = call_ids(5000)
    body = json.dumps(ids).encode()
    async with asked(app, "POST", "/calls", body, spec=spec) as (sent, hang_up):
        await until(lambda: len(sent) > 10)
        hang_up()
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
    assert app.state.calls.statistics().in_flight == 0
    assert len(calls_sandbox.ledger) < len(ids)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
async def test_a_real_server_runs_it(calls_sandbox, tmp_path):
    """uvicorn, started as the page says: answers, notices who hangs up, and stops when told."""
    assert shlex.join(["python", *SERVER, "8000"]) in commands("fastapi.md")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: nox -s examples")
    calls_sandbox.faults = {"stuck": Fault.stall}
    port = free_ports("app")["app"]
    variables = {"CALLS_BASE_URL": calls_sandbox.base_url, "CALLS_API_KEY": calls_sandbox.api_key}
    server = await asyncio.create_subprocess_exec(
        sys.executable, *SERVER, str(port),
        cwd=tmp_path,
        env=os.environ | variables | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        while b"Uvicorn running" not in (line := await server.stderr.readline()):
            assert line, "the server has ended"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/calls/call-1")).content == record_body("call-1")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /calls/stuck HTTP/1.1\r\nHost: app\r\n\r\n")
        await until(lambda: calls_sandbox.ledger.in_flight == 1)
        writer.close()
        await until(lambda: calls_sandbox.ledger.in_flight == 0)
        server.send_signal(signal.SIGTERM)
        _, err = await server.communicate()
        assert b"Application shutdown complete" in err
        assert b"Traceback" not in err
    finally:
        if server.returncode is None:
            server.kill()
            await server.communicate()
