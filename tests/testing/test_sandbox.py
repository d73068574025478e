"""The sandbox over real sockets, seen by a bare aiohttp session or by a raw connection."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest
from yarl import URL

from calls_async.testing import SANDBOX_KEY, Fault, Sandbox, make_record
from tests.waiting import until

KEY = {"Authorization": f"Bearer {SANDBOX_KEY}"}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


async def fetch(session, sandbox, path="/v1/calls/call-1", **options):
    """Status, headers and content of one answer."""
    url = URL(sandbox.base_url + path, encoded=True)
    async with session.request(options.pop("method", "GET"), url, **options) as response:
        return response.status, response.headers, await response.read()


async def raw_request(sandbox, path="/v1/calls/call-1"):
    """One request over a connection of its own, written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    head = f"GET {path} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer {SANDBOX_KEY}\r\n\r\n"
    writer.write(head.encode("latin-1"))
    return reader, writer


async def test_it_answers_with_the_record(session):
    """A real server on the loopback interface, on a port that was free."""
    async with Sandbox() as sandbox:
        status, headers, body = await fetch(session, sandbox)
    assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}"
    assert (status, json.loads(body)) == (200, make_record("call-1"))
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["x-request-id"] == sandbox.ledger.entries[0].request_id == "req-1"


async def test_connections_are_kept_alive_and_the_ledger_knows_the_first_request_on_each(session):
    """`fresh` marks the first request of a connection."""
    async with Sandbox() as sandbox:
        for _ in range(3):
            await fetch(session, sandbox)
        await fetch(session, sandbox, headers={"Connection": "close"})
        await fetch(session, sandbox)
        fresh = [entry.fresh for entry in sandbox.ledger.entries]
    assert fresh == [True, False, False, False, True]


async def test_a_prefix_is_part_of_the_base_url_and_of_the_path(session):
    """As behind a gateway: without its prefix there is nothing."""
    async with Sandbox(prefix="/gateway") as sandbox:
        assert sandbox.base_url.endswith(f":{sandbox.port}/gateway")
        assert (await fetch(session, sandbox))[0] == 200
        bare = URL(sandbox.base_url).with_path("/v1/calls/call-1")
        async with session.get(bare) as response:
            assert response.status == 404


@pytest.mark.parametrize("prefix", ["gateway", "/gateway/", "/"])
def test_a_prefix_that_makes_no_url_is_refused(prefix):
    """A prefix begins with a slash and ends without one."""
    with pytest.raises(ValueError, match="/gateway"):
        Sandbox(prefix=prefix)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/calls"),
        ("GET", "/v1/calls/"),
        ("GET", "/v1/calls/a/b"),
        ("GET", "/v2/calls/a"),
        ("POST", "/v1/calls/a"),
        ("DELETE", "/v1/calls/a"),
    ],
)
async def test_there_is_nothing_but_the_one_endpoint(session, method, path):
    """Anything else is a 404 with a problem document, and is counted."""
    async with Sandbox() as sandbox:
        status, headers, body = await fetch(session, sandbox, path, method=method)
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert json.loads(body)["status"] == 404
    assert (len(sandbox.ledger), sandbox.ledger.entries[0].call_id) == (1, None)


@pytest.mark.parametrize(
    ("segment", "call_id"),
    [
        ("a%2Fb", "a/b"),
        ("%2e%2E", ".."),
        ("caf%C3%A9", "café"),
        ("%25", "%"),
        ("a+b", "a+b"),
        ("a?x=1", "a"),
        ("%FF", "\ufffd"),
        ("%ED%A0%80", "\ufffd\ufffd\ufffd"),
    ],
)
async def test_the_ledger_has_the_path_as_received_and_the_id_decoded(session, segment, call_id):
    """Ids arrive percent-encoded; what is no UTF-8 is replaced, so that no surrogate is left."""
    async with Sandbox() as sandbox:
        status, _, body = await fetch(session, sandbox, f"/v1/calls/{segment}")
    (entry,) = sandbox.ledger.entries
    assert (entry.path, entry.call_id) == (f"/v1/calls/{segment}", call_id)
    assert (status, json.loads(body)["id"]) == (200, call_id)


async def test_a_refused_key_is_a_401_and_is_counted():
    """The request was on the wire, whatever its key."""
    async with Sandbox() as sandbox, aiohttp.ClientSession() as stranger:
        status, headers, _ = await fetch(stranger, sandbox)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert sandbox.ledger.by_status == {401: 1}


async def test_options_may_be_changed_while_it_runs(session):
    """A limit that is set between two requests holds from the next one on."""
    async with Sandbox() as sandbox:
        assert (await fetch(session, sandbox))[0] == 200
        sandbox.max_rate, sandbox.burst = 0.001, 1
        assert [(await fetch(session, sandbox))[0] for _ in range(2)] == [200, 429]
        sandbox.max_rate = None
        sandbox.faults = {"call-1": Fault.status(410)}
        assert (await fetch(session, sandbox))[0] == 410


async def test_a_script_is_played_request_by_request(session):
    """Two faults, then the record, as `expected` says."""
    script = [Fault.status(500), Fault.not_json]
    async with Sandbox(faults={"call-1": script}) as sandbox:
        answers = [await fetch(session, sandbox) for _ in range(3)]
    assert sandbox.expected("call-1").faults == tuple(script)
    assert [status for status, _, _ in answers] == [500, 200, 200]
    assert answers[1][2].startswith(b"<!doctype html>")
    assert json.loads(answers[2][2]) == make_record("call-1")
    assert [entry.attempt for entry in sandbox.ledger.entries] == [1, 2, 3]


async def test_reset_is_a_real_reset():
    """The client's socket gets RST, not an orderly end."""
    async with Sandbox(faults={"call-1": Fault.reset}) as sandbox:
        reader, _ = await raw_request(sandbox)
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_close_is_an_orderly_end_without_an_answer():
    """The client's socket gets FIN and not a byte."""
    async with Sandbox(faults={"call-1": Fault.close}) as sandbox:
        reader, writer = await raw_request(sandbox)
        assert await reader.read() == b""
        writer.close()


async def test_cut_is_an_answer_that_ends_in_its_body():
    """The header promises the whole record, and half of it arrives."""
    async with Sandbox(faults={"call-1": Fault.cut}) as sandbox:
        reader, writer = await raw_request(sandbox)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK")
    (promised,) = [
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-L")
    ]
    assert len(body) == promised // 2


async def test_garbage_is_no_http():
    """What arrives does not begin as an HTTP answer does."""
    async with Sandbox(faults={"call-1": Fault.garbage}) as sandbox:
        reader, writer = await raw_request(sandbox)
        answer = await reader.read()
        writer.close()
    assert answer
    assert not answer.startswith(b"HTTP/")


async def test_a_client_that_leaves_is_no_longer_in_flight():
    """A stalled request ends with its connection, not with the server."""
    async with Sandbox(faults={"call-1": Fault.stall}) as sandbox:
        _, writer = await raw_request(sandbox)
        await until(lambda: sandbox.ledger.in_flight == 1)
        writer.transport.abort()
        await until(lambda: sandbox.ledger.in_flight == 0)
    assert sandbox.ledger.max_in_flight == 1


@pytest.mark.parametrize("fault", [Fault.stall, Fault.slow(3600)], ids=str)
async def test_it_stops_at_once_in_spite_of_requests_in_flight(fault):
    """Leaving the block does not wait for anybody, and leaves no task behind."""
    async with Sandbox(faults={"call-1": fault}) as sandbox:
        connections = [await raw_request(sandbox) for _ in range(3)]
        await until(lambda: sandbox.ledger.in_flight == 3)
    assert sandbox.ledger.in_flight == 0
    for reader, writer in connections:
        assert await reader.read() == b""
        writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_can_be_stopped_and_started_again(session):
    """An outage: nobody listens, and then the same server is back at the same address."""
    sandbox = Sandbox()
    await sandbox.start()
    await fetch(session, sandbox)
    address = sandbox.base_url
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch(session, sandbox)
    await sandbox.start()
    assert (await fetch(session, sandbox))[0] == 200
    await sandbox.stop()
    await sandbox.stop()
    assert (sandbox.base_url, len(sandbox.ledger)) == (address, 2)


async def test_it_is_started_once_and_has_an_address_only_then():
    """Mistakes in its use are told at once."""
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="async with"):
        _ = sandbox.base_url
    async with sandbox:
        with pytest.raises(RuntimeError, match="runs already"):
            await sandbox.start()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open():
    """The error is the system's; afterwards the port may be tried again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        sandbox = Sandbox(port=other.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await sandbox.start()
    async with sandbox:
        assert sandbox.base_url
