"""Which transport serves: the lane, unless a session does something that the lane would not do."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from unittest.mock import AsyncMock, MagicMock, Mock, patch

import aiohttp
import pytest
from aioresponses import aioresponses

from calls_async import CallsClient, CallsError, RetryPolicy
from tests.documents import example
from tests.kit import call_ids
from tests.rawserver import http, raw_server, record
from tests.ways import WAYS, over

KEY = "sk_test_of_the_choice"
ONCE = RetryPolicy(max_attempts=1)
DOCUMENT = example() | {"id": "call-1"}


def client_to(url, **options):
    """A client that tries once."""
    return CallsClient(KEY, base_url=url, retry=ONCE, **options)


def transport_of(client):
    """What serves it now."""
    return client.statistics().transport


async def test_usually_it_is_the_lane():
    """A server of one's own is asked over the lane, and the statistics say so, used or not."""
    async with raw_server(http(record("call-1"))) as server, client_to(server.url) as client:
        assert transport_of(client) == "lane"
        await client.get_call("call-1")
        assert transport_of(client) == transport_of(client.with_options()) == "lane"


async def test_a_session_of_the_callers_is_used():
    """It may have cookies, middlewares and traces, which only it can honour."""
    sent = []

    async def seen(*_):
        sent.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(seen)
    async with (
        raw_server(http(record("call-1"))) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_to(server.url, session=session) as client,
    ):
        await client.get_call("call-1")
        assert transport_of(client) == "session"
    assert sent == [True]


def response():
    """What a mocked method gives: as much of aiohttp's response as is used."""
    answer = MagicMock(status=200, headers={}, connection=None)
    answer.content.is_eof.return_value = True
    answer.content.read_nowait.return_value = record("call-1")
    return answer


@asynccontextmanager
async def mocked(how):
    """Put something in the place of aiohttp's session; a mock that counts how often it is asked."""
    mock = AsyncMock(return_value=response())
    if how == "aioresponses":
        with aioresponses() as told:
            told.get("http://127.0.0.1:9/v1/calls/call-1", payload=DOCUMENT, repeat=True)
            yield Mock(side_effect=None, asked=lambda: len(told.requests))
    elif how == "the class":
        session = MagicMock(closed=False, get=mock, close=AsyncMock())
        with patch("aiohttp.ClientSession", Mock(return_value=session)):
            yield Mock(asked=lambda: mock.await_count)
    else:
        with patch.object(aiohttp.ClientSession, how, mock):
            yield Mock(asked=lambda: mock.await_count)


@pytest.mark.parametrize("how", ["get", "_request", "the class", "aioresponses"])
async def test_a_mocked_session_is_not_gone_past(how):
    """While a test has mocked it the session serves, and nothing goes out; afterwards the lane."""
    for _ in range(2):
        async with client_to("http://127.0.0.1:9") as client:
            async with mocked(how) as mock:
                assert transport_of(client) == "session"
                # What a mock's answer is made of may not suit this aiohttp; it was asked.
                with suppress(CallsError):
                    assert (await client.get_call("call-1")).id == "call-1"
                assert mock.asked() >= 1 or how == "aioresponses"
            assert transport_of(client) == "lane"


async def test_a_mock_that_comes_later_is_noticed_too():
    """A client that has connections of the lane leaves them alone while the session is mocked."""
    async with raw_server(http(record("call-1"))) as server, client_to(server.url) as client:
        await client.get_call("call-1")
        async with mocked("get") as mock:
            await client.get_call("call-1")
            assert mock.asked() == 1
        await client.get_call("call-1")
        assert [exchange.connection for exchange in server.requests] == [1, 1]


# --- Proxies -------------------------------------------------------------------------------------


async def test_plain_http_through_a_proxy_has_the_session():
    """A request has the whole URL then, and aiohttp's session knows how."""
    async with (
        raw_server(http(record("call-1"))) as proxy,
        client_to("http://calls.invalid", proxy=proxy.url, allow_http=True) as client,
    ):
        await client.get_call("call-1")
        assert transport_of(client) == "session"
        (exchange,) = proxy.requests
        assert exchange.target == "http://calls.invalid/v1/calls/call-1"


@pytest.mark.parametrize("url", ["HTTP://calls.invalid", "hTTp://calls.invalid/gw"])
def test_a_scheme_in_capitals_is_the_same_scheme(url):
    """Plain http through a proxy is noticed, however it is written."""
    client = client_to(url, proxy="http://127.0.0.1:9", allow_http=True)
    assert transport_of(client) == "session"


async def test_plain_http_to_this_machine_needs_no_proxy_of_the_environment(monkeypatch):
    """No proxy is used then, so the lane serves."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with (
        raw_server(http(record("call-1"))) as server,
        client_to(server.url, trust_env=True) as client,
    ):
        await client.get_call("call-1")
        assert transport_of(client) == "lane"


@asynccontextmanager
async def tunnels():
    """A proxy that opens tunnels to wherever; its URL, and the heads of what it was asked."""
    heads = []

    async def pump(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.decode())
        host, _, port = head.split()[1].decode().rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://user:p%40ss@127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


@pytest.mark.parametrize("named", ["given", "environment"])
async def test_https_through_a_proxy_goes_over_the_lane(named, monkeypatch):
    """The tunnel is asked for as a session does, once a connection, and without our fields.

    A host other than this machine is asked for, or the environment's proxy would not count.
    """
    trustme = pytest.importorskip("trustme", reason="trustme is not installed: no certificates")
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr("calls_async._transport._request.is_loopback", lambda _: False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    told = []
    for way in WAYS:
        with over(way):
            async with (
                raw_server(lambda x: http(record(x.target[10:])), tls=serving) as server,
                tunnels() as (proxy, heads),
            ):
                monkeypatch.setenv("HTTPS_PROXY", proxy)
                options = {"proxy": proxy} if named == "given" else {"trust_env": True}
                options |= {"ssl": trusting, "headers": {"X-Gateway": "not the proxy's"}}
                async with client_to(server.url, **options) as client:
                    for call_id in call_ids(3):
                        assert (await client.get_call(call_id)).id == call_id
                    assert transport_of(client) == way
                await server.quiet()
                assert server.connections == 1
                (head,) = heads
                assert KEY not in head
                assert "X-Gateway" not in head
                port = server.url.rpartition(":")[2]
                told.append(sorted(head.replace(port, "PORT").split("\r\n")))
                secret = [line for line in told[-1] if line.startswith("Proxy-Authorization: ")]
                assert secret == ["Proxy-Authorization: Basic dXNlcjpwQHNz"]
                assert all(b"Proxy-Authorization" not in each.head for each in server.requests)
    assert told[0] == told[1]
