"""The session transport against servers that are exact to the byte: one `get` is one request."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import ssl
import tracemalloc
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from calls_async import CallsClient, ConfigurationError, RedirectError, RetryPolicy
from calls_async._ids import check_call_id
from calls_async._secret import ApiKey
from calls_async._transport import SessionTransport
from calls_async._wire import Answer
from calls_async.errors import (
    AnswerTooLargeError,
    AttemptTimeoutError,
    ConnectError,
    MismatchedCallError,
    ProtocolError,
    TLSError,
    TransportError,
)
from tests.kit import other_tasks, turns
from tests.rawserver import http, raw_server, record
from tests.waiting import until

KEY = ApiKey("sk_test_of_the_transport")
CAP = 64 * 1024
AT_ONCE = RetryPolicy(backoff_base=0.0)


@asynccontextmanager
async def transport_to(url, **options):
    """A transport that is closed in the end."""
    given = {"max_body_bytes": CAP, "headers": {}, "user_agent": "tests"} | options
    transport = SessionTransport(base_url=url, **given)
    try:
        yield transport
    finally:
        await transport.close()


async def get(url, **options):
    """One request by a transport of its own."""
    async with transport_to(url, **options) as transport:
        return await transport.get("call-1", KEY)


# --- Where a request goes ------------------------------------------------------------------------

HOSTILE = (
    "...", "a/b", "/", "//evil.example/x", "../../admin", "..%2F..", "%2e%2e", "%2E", "%", "%zz",
    "a?b=c", "a#b", "a;b", "a b", "a+b", "@evil.example", "u:p@evil.example:80", "\\\\evil\\x",
    "http://evil.example/", "é🙂", "\uff41", "\u202e", "\u2028", "[::1]", "{id}", "'\"<>",
    "~!$&()*,:=|",
)  # fmt: skip


async def test_a_hostile_id_arrives_as_exactly_one_segment():
    """Whatever the id, the server of the base URL gets it, whole, as the last path segment."""
    naughty = json.loads((Path(__file__).parents[1] / "data" / "blns.json").read_text("utf-8"))
    ids = [call_id for call_id in (*HOSTILE, *naughty) if check_call_id(call_id) is None]
    async with raw_server(http(b"{}")) as server, transport_to(f"{server.url}/gw") as transport:
        for call_id in ids:
            assert isinstance(await transport.get(call_id, KEY), Answer)
    prefixes, segments = zip(*(r.target.rsplit("/", 1) for r in server.requests), strict=True)
    assert set(prefixes) == {"/gw/v1/calls"}
    assert [unquote(segment) for segment in segments] == ids
    assert not any(set("?#;\\ ") & set(segment) for segment in segments)
    assert len(ids) > 400


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/v1/calls/call-1"),
        ("/", "/v1/calls/call-1"),
        ("/gw/eu", "/gw/eu/v1/calls/call-1"),
        ("/gw/", "/gw/v1/calls/call-1"),
        ("/a%2Fb", "/a%2Fb/v1/calls/call-1"),
        ("/v1/calls", "/v1/calls/v1/calls/call-1"),
    ],
)
async def test_the_path_prefix_is_kept(path, target):
    """A gateway's path prefix stays in front, as it is written."""
    async with raw_server(http(b"{}")) as server:
        await get(server.url + path)
    assert [request.target for request in server.requests] == [target]


async def test_a_request_says_no_more_than_needed():
    """The header fields are ours and the caller's; the body is asked for uncompressed."""
    async with raw_server(http(b"{}")) as server:
        await get(server.url, headers={"X-Gateway": "7"}, user_agent="mine/1")
    (request,) = server.requests
    assert request.head.startswith(b"GET /v1/calls/call-1 HTTP/1.1\r\n")
    assert request.headers == {
        "host": server.url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "mine/1",
        "x-gateway": "7",
        "authorization": KEY.authorization(),
    }


async def test_the_caller_s_header_fields_take_the_place_of_ours():
    """However they are spelled: a field is sent once."""
    own = {"USER-AGENT": "theirs/2", "accept": "application/vnd.calls+json"}
    async with raw_server(http(b"{}")) as server:
        await get(server.url, headers=own, user_agent="mine/1")
    (request,) = server.requests
    assert request.headers["user-agent"] == "theirs/2"
    assert request.headers["accept"] == "application/vnd.calls+json"
    assert request.head.lower().count(b"user-agent") == 1
    assert request.head.lower().count(b"accept:") == 1


async def test_the_key_is_on_each_request_and_in_no_session():
    """A session of ours knows what all requests have in common, and the key is none of that."""
    keys = [KEY, ApiKey("sk_test_the_next_one")]
    async with raw_server(http(b"{}")) as server, transport_to(server.url) as transport:
        for key in keys:
            await transport.get("call-1", key)
        assert set(transport._pool.session.headers) == {"Accept", "Accept-Encoding", "User-Agent"}
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [key.authorization() for key in keys]


async def test_an_answer_comes_back_as_it_is():
    """Status, header fields (repeated ones kept apart) and body are the server's."""
    sent = http(b"\x00any", "X-Two: 1", "x-two: 2", "Retry-After: 7", status="503 Busy")
    async with raw_server(sent) as server:
        answer = await get(server.url)
    assert (answer.status, answer.body) == (503, b"\x00any")
    assert answer.headers.getall("X-TWO") == ["1", "2"]
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
async def test_no_redirect_is_followed(status):
    """A 3xx is an answer like any other: the target is never contacted."""
    async with raw_server(http(b"{}")) as trap:
        moved = http(b"", f"Location: {trap.url}/x", status=f"{status} Moved")
        async with (
            raw_server(moved) as server,
            CallsClient("sk_test_key", base_url=server.url) as client,
        ):
            with pytest.raises(RedirectError) as caught:
                await client.get_call("call-1")
        assert caught.value.location == f"{trap.url}/x"
        assert len(server.requests) == 1
    assert trap.connections == 0


async def test_no_cookie_is_sent_back():
    """What a server sets as a cookie is forgotten."""
    async with (
        raw_server(http(b"{}", "Set-Cookie: a=1; Path=/")) as server,
        transport_to(server.url) as transport,
    ):
        for _ in range(2):
            await transport.get("call-1", KEY)
    assert [request.headers.get("cookie") for request in server.requests] == [None, None]


# --- The environment -----------------------------------------------------------------------------


@pytest.fixture
def environ(monkeypatch, tmp_path):
    """An environment that names no proxy, and a netrc that knows loopback."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    return monkeypatch


async def test_the_environment_names_no_proxy_unless_asked(environ):
    """Without `trust_env`, neither HTTP_PROXY nor a netrc has any effect."""
    async with raw_server(None) as trap, raw_server(http(b"{}")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            environ.setenv(name, trap.url)
        assert isinstance(await get(server.url), Answer)
    assert trap.connections == 0
    assert server.requests[0].headers["authorization"] == KEY.authorization()


async def test_the_environment_may_name_the_proxy_when_asked(environ):
    """With `trust_env` the request goes to HTTP_PROXY, with our key and never netrc's."""
    async with raw_server(http(b"{}")) as proxy:
        environ.setenv("HTTP_PROXY", proxy.url)
        assert isinstance(await get("http://calls.invalid", trust_env=True), Answer)
        assert proxy.requests[0].target == "http://calls.invalid/v1/calls/call-1"
        assert proxy.requests[0].headers["authorization"] == KEY.authorization()


class AllHere(aiohttp.ThreadedResolver):
    """A resolver by which every host is this machine."""

    async def resolve(self, host, port=0, family=socket.AF_INET):  # noqa: ARG002 (as declared)
        return await super().resolve("127.0.0.1", port, socket.AF_INET)


@pytest.mark.parametrize("exempt", ["calls.invalid", "example.com, calls.invalid:{port}", "*"])
async def test_no_proxy_is_honoured(environ, exempt):
    """A host that NO_PROXY names, with or without its port, is contacted directly."""
    async with (
        raw_server(None) as proxy,
        raw_server(http(b"{}")) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=AllHere())) as session,
    ):
        environ.setenv("HTTP_PROXY", proxy.url)
        port = server.url.rpartition(":")[2]
        environ.setenv("NO_PROXY", exempt.format(port=port))
        url = f"http://calls.invalid:{port}"
        assert isinstance(await get(url, session=session, trust_env=True), Answer)
        assert len(server.requests) == 1
    assert proxy.connections == 0


async def test_no_proxy_for_another_port_is_not_ours(environ):
    """NO_PROXY with a port exempts that port alone."""
    async with raw_server(http(b"{}")) as proxy:
        environ.setenv("HTTP_PROXY", proxy.url)
        environ.setenv("NO_PROXY", "calls.invalid:1")
        assert isinstance(await get("http://calls.invalid", trust_env=True), Answer)
        assert len(proxy.requests) == 1


async def test_an_explicit_proxy_wins_over_the_environment(environ):
    """`proxy=` is used even where NO_PROXY or HTTP_PROXY say otherwise."""
    async with raw_server(None) as other, raw_server(http(b"{}")) as proxy:
        environ.setenv("HTTP_PROXY", other.url)
        environ.setenv("NO_PROXY", "*")
        await get("http://127.0.0.1:1", proxy=proxy.url, trust_env=True)
        assert len(proxy.requests) == 1
    assert other.connections == 0


def test_a_proxy_of_the_environment_that_is_none_is_refused(environ):
    """What HTTPS_PROXY holds must be a URL; the mistake is found when the client is made."""
    environ.setenv("HTTPS_PROXY", "proxy:3128")
    with pytest.raises(ConfigurationError, match="proxy"):
        CallsClient("sk_test_key", base_url="https://calls.example.com", trust_env=True)


# --- The cap -------------------------------------------------------------------------------------


def chunked(*chunks):
    """An answer in chunks, the last one included."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.mark.parametrize("wrap", [http, chunked])
async def test_a_body_of_exactly_the_cap_is_read(wrap):
    """The cap is the longest body that is accepted."""
    async with raw_server(wrap(b"x" * CAP)) as server:
        assert (await get(server.url)).body == b"x" * CAP


@pytest.mark.parametrize(
    "answer",
    [http(b"x" * (CAP + 1)), http(b"x", length=1 << 40), chunked(*[b"x" * 1000] * 66)],
    ids=["length", "announced", "chunked"],
)
async def test_a_longer_body_is_refused(answer):
    """One byte more is an `AnswerTooLargeError`, whatever the framing; it is not retried."""

    def script(exchange):
        exchange.send(answer)
        if b"1099511627776" in answer:
            exchange.send(b"x" * CAP)
        return b""

    async with raw_server(script) as server:
        error = await get(server.url)
    assert isinstance(error, AnswerTooLargeError)
    assert not error.retryable


async def endless(exchange, head, part):
    """Send without end, until the client hangs up."""
    exchange.send(head)
    while not exchange.writer.transport.is_closing():
        exchange.send(part)
        await exchange.writer.drain()


async def test_an_endless_answer_is_left_at_the_cap():
    """The client hangs up by itself; a server that never ends cannot keep it."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        raw_server(lambda exchange: endless(exchange, head, b"4\r\nxxxx\r\n" * 1000)) as server,
        transport_to(server.url) as transport,
    ):
        assert isinstance(await transport.get("call-1", KEY), AnswerTooLargeError)
        await server.quiet()


async def test_an_endless_error_page_is_cut():
    """Of an answer that is no record, the beginning is enough: the status is what counts."""
    head = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        raw_server(lambda exchange: endless(exchange, head, b"4\r\nxxxx\r\n" * 1000)) as server,
        transport_to(server.url) as transport,
    ):
        answer = await transport.get("call-1", KEY)
        assert answer.status == 500
        assert CAP < len(answer.body) <= CAP + (1 << 20)
        await server.quiet()


async def test_a_compressed_bomb_is_defused():
    """A server that compresses unasked cannot make the client unpack more than a little."""
    bomb = gzip.compress(bytes(64 << 20))
    async with raw_server(http(bomb, "Content-Encoding: gzip")) as server:
        tracemalloc.start()
        try:
            error = await get(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, AnswerTooLargeError)
    assert peak < 4 << 20


async def test_a_compressed_record_is_read_all_the_same():
    """`identity` is a wish: a proxy that compresses does not cost the record."""
    packed = gzip.compress(record())
    async with raw_server(http(packed, "Content-Encoding: gzip")) as server:
        assert (await get(server.url)).body == record()


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip", "gzip, gzip", "sk_test"])
async def test_a_page_that_cannot_be_unpacked_does_not_cost_its_status(coding):
    """What the server asks for stands in the head, and counts whatever became of the body."""
    page = http(b"?", f"Content-Encoding: {coding}", "Retry-After: 7", status="429 Slow down")
    async with raw_server(page) as server:
        answer = await get(server.url)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "7", b"")


# --- One request, one connection -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_lost_kept_alive_connection_is_not_tried_again_behind_our_back(how):
    """The second try of a GET that aiohttp hides is off: each request is one that was asked for."""

    def script(exchange):
        if exchange.number == 2:
            return exchange.reset() if how == "reset" else None
        return http(b"{}")

    async with raw_server(script) as server, transport_to(server.url) as transport:
        came = [type(await transport.get("call-1", KEY)) for _ in range(3)]
    assert came == [Answer, ProtocolError, Answer]
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_requests_seen_are_requests_counted():
    """With a server that drops every kept-alive connection, the client's count is the server's."""

    def script(exchange):
        return None if exchange.number % 2 == 0 else http(record(exchange.target.rsplit("/")[-1]))

    async with (
        raw_server(script) as server,
        CallsClient("sk_test_key", base_url=server.url, retry=AT_ONCE) as client,
    ):
        for number in range(10):
            await client.get_call(f"call-{number}")
        statistics = client.statistics()
    assert len(server.requests) == statistics.requests == 19
    assert statistics.retries == 9


async def test_connections_are_kept_alive():
    """Requests one after the other share one connection."""
    async with raw_server(http(b"{}")) as server, transport_to(server.url) as transport:
        for _ in range(3):
            await transport.get("call-1", KEY)
    assert server.connections == 1


async def test_a_connection_receives_in_pieces_that_spare_the_allocator():
    """Not in asyncio's 256 KiB, for which the system maps memory each time."""
    async with raw_server(http(b"{}")) as server, transport_to(server.url) as transport:
        await transport.get("call-1", KEY)
        (idle,) = transport._pool.session.connector._conns.values()
        assert idle[0][0].transport.max_size == 64 * 1024


@pytest.mark.parametrize("size", [1, 64 * 1024, 64 * 1024 + 1, 1 << 20])
async def test_a_body_of_any_number_of_pieces_is_whole(size):
    """What does not arrive at once is put together."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with raw_server(http(body)) as server:
        assert (await get(server.url, max_body_bytes=size)).body == body


async def by_uvloop(authority):
    """Two requests on one connection, over TLS if there is an authority."""
    tls = authority and served(authority, "127.0.0.1")
    async with (
        raw_server(http(b"{}"), tls=tls) as server,
        transport_to(server.url, ssl=authority and trusting(authority)) as transport,
    ):
        for _ in range(2):
            assert (await transport.get("call-1", KEY)).body == b"{}"
        assert server.connections == 1


@pytest.mark.parametrize("over_tls", [False, True])
def test_another_loop_s_transports_are_left_alone(over_tls, authority):
    """They have no such size in uvloop, with TLS or without."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(by_uvloop(authority if over_tls else None))


async def test_requests_at_the_same_time_do_not_wait_for_connections():
    """The permits alone limit the connections: the transport opens one for each request."""
    together = asyncio.Event()

    async def script(exchange):
        if exchange.number == 90:
            together.set()
        await together.wait()
        return http(b"{}")

    async with raw_server(script) as server, transport_to(server.url) as transport:
        async with asyncio.timeout(10):
            await asyncio.gather(*[transport.get(str(n), KEY) for n in range(90)])
        assert server.connections == 90


async def test_fresh_uses_no_connection_that_is_open():
    """A fresh request opens a connection, and those that were open before are used no more."""
    async with raw_server(http(b"{}")) as server, transport_to(server.url) as transport:
        for fresh in (False, True, False):
            await transport.get("call-1", KEY, fresh=fresh)
        await until(lambda: server.open == 1)
    assert [request.connection for request in server.requests] == [1, 2, 2]


async def test_fresh_leaves_requests_in_flight_alone():
    """Who still waits on an old connection gets the answer; then that connection is closed."""
    held = asyncio.Event()

    async def script(exchange):
        if exchange.connection == 1:
            await held.wait()
        return http(b"%d" % exchange.connection)

    async with raw_server(script) as server, transport_to(server.url) as transport:
        old = asyncio.create_task(transport.get("call-1", KEY))
        await until(lambda: len(server.requests) == 1)
        assert (await transport.get("call-2", KEY, fresh=True)).body == b"2"
        assert server.open == 2
        held.set()
        assert (await old).body == b"1"
        await until(lambda: server.open == 1)
        assert (await transport.get("call-1", KEY)).body == b"2"


async def test_an_unsolicited_answer_never_becomes_somebodys_call():
    """What a server sends unasked on an idle connection is found out, and asked for afresh."""

    def script(exchange):
        return http(record(exchange.target.rsplit("/")[-1]))

    async with (
        raw_server(script) as server,
        CallsClient("sk_test_key", base_url=server.url, retry=AT_ONCE) as client,
    ):
        await client.get_call("call-1")
        server.requests[0].send(http(record("stray")))
        outcome = await client.fetch_call("call-2")
        assert outcome.call.id == "call-2"
        assert outcome.attempts == 2
        assert server.connections == 2


@pytest.mark.parametrize(
    "stray",
    [
        http(record("stray")),
        http(b"{}", status="404 Not Found"),
        http(b"{}", status="401 Unauthorized"),
        http(b"{}", "Connection: close", status="408 Request Timeout"),
        http(b"{}", status="429 Too Many Requests") * 2,
        b"garbage\r\n\r\n",
    ],
)
async def test_what_comes_on_an_idle_connection_is_no_answer(stray):
    """A connection on which something came unasked is not used again, and costs no attempt."""

    def script(exchange):
        return http(record(exchange.target.rsplit("/")[-1]))

    async with (
        raw_server(script) as server,
        CallsClient("sk_test_key", base_url=server.url, retry=AT_ONCE) as client,
    ):
        calls = [f"call-{number}" for number in range(5)]
        await client.gather_calls(calls)
        idle = {x.connection: x for x in server.requests}
        for exchange in idle.values():
            exchange.send(stray)
        await turns(5)
        outcome = await client.fetch_call("call-9")
        assert (outcome.call.id, outcome.attempts) == ("call-9", 1)
        assert server.requests[-1].connection == len(idle) + 1
        await until(lambda: server.open == 1)


async def test_a_server_that_speaks_first_is_asked_all_the_same():
    """New connections are not refused for it: there would be no end. What it said is an answer."""
    async with (
        raw_server(http(record()), greeting=http(record("stray"))) as server,
        CallsClient("sk_test_key", base_url=server.url, retry=AT_ONCE) as client,
    ):
        with pytest.raises(MismatchedCallError):
            await client.get_call("call-1")
        assert len(server.requests) == client.statistics().requests == 2


async def test_a_connection_that_lags_behind_is_left():
    """A proxy that answers each request with the one before is asked again over a new one."""

    def script(exchange):
        asked = [x.target.rsplit("/")[-1] for x in server.requests if x.connection == 1]
        mine = exchange.target.rsplit("/")[-1]
        lags = exchange.connection == 1 and len(asked) > 1
        return http(record(asked[-2] if lags else mine))

    async with (
        raw_server(script) as server,
        CallsClient("sk_test_key", base_url=server.url, retry=AT_ONCE) as client,
    ):
        for number in range(3):
            assert (await client.get_call(f"call-{number}")).id == f"call-{number}"
    assert [request.connection for request in server.requests] == [1, 1, 2, 2]


# --- The error table -----------------------------------------------------------------------------


def closed_port():
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reset(exchange):
    exchange.reset()


def cut_by_reset(exchange):
    exchange.send(http(b"abc", length=100))
    exchange.reset()


def then_closes(data):
    """Send these bytes and close."""
    return lambda exchange: exchange.send(data)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "connection was lost"),
        (reset, "connection was lost"),
        (cut_by_reset, "answer"),
        (then_closes(b"HTTP/1.1 200 OK\r\nX: y"), "connection was lost"),
        (then_closes(http(b"abc", length=100)), "received 3 of 100"),
        (then_closes(CHUNKED + b"5\r\nab"), "cut or garbled"),
        (CHUNKED + b"zz\r\n", "chunk size"),
        (b"no http at all\r\n\r\n", "status line"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "header"),
        (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "header"),
        (http(b"x", "X: " + "y" * 9000), "Got more than 8190 bytes"),
        (http(b"x", *["X: y"] * 200), "Too many headers"),
        (http(b"x", "Content-Length: 1", "Content-Length: 2"), "Content-Length"),
        (http(b"no gzip", "Content-Encoding: gzip"), "is no gzip"),
        (http(b"any", "Content-Encoding: br"), "compressed, which was not asked for: br"),
    ],
)
async def test_an_answer_that_is_cut_or_garbled(script, words):
    """It is a `ProtocolError`, may be tried again, and nothing of aiohttp's is chained to it."""
    async with raw_server(script) as server:
        error = await get(server.url)
    assert type(error) is ProtocolError
    assert words in error.message
    assert error.retryable
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\nabXX", b"0\r\nX: " + b"x" * 9000])
@pytest.mark.parametrize("begun", [b"", b"2\r\nab\r\n", b"2\r\nab\r\n2\r\nab\r\n"])
async def test_a_body_that_turns_out_to_be_garbled(begun, rest):
    """It fails at once, and not when the attempt times out: aiohttp wakes no reader then."""
    part = asyncio.Event()

    async def script(exchange):
        exchange.send(CHUNKED + begun)
        await part.wait()
        exchange.send(rest)
        await exchange.hung_up()

    async with raw_server(script) as server, transport_to(server.url) as transport:
        request = asyncio.create_task(transport.get("call-1", KEY))
        await until(lambda: server.requests)
        await turns(20)
        part.set()
        async with asyncio.timeout(5):
            error = await request
        assert type(error) is ProtocolError
        assert error.__cause__ is error.__context__ is None
        await server.quiet()


async def test_bodies_in_parts_leave_nothing_on_their_connection():
    """However many answers a connection brings, it keeps nothing of those that are over."""

    async def script(exchange):
        for byte in http(b"{}"):
            exchange.send(bytes([byte]))
            await asyncio.sleep(0)
        return b""

    async with raw_server(script) as server, transport_to(server.url) as transport:
        for _ in range(5):
            assert isinstance(await transport.get("call-1", KEY), Answer)
        assert server.connections == 1
        (idle,) = transport._pool.session.connector._conns.values()
        assert len(idle[0][0].closed._callbacks) == 1


async def test_a_refused_connection():
    """It is a `ConnectError`; the system's own error is the cause, without aiohttp's frames."""
    error = await get(f"http://127.0.0.1:{closed_port()}")
    assert type(error) is ConnectError
    assert error.retryable
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert error.__cause__.__traceback__ is error.__cause__.__context__ is None


class Unresolving(AbstractResolver):
    """A resolver that knows no name."""

    async def resolve(self, host, port=0, family=socket.AF_INET):  # noqa: ARG002 (as declared)
        raise OSError(None, "Name or service not known")

    async def close(self):
        pass


async def test_a_name_that_is_not_resolved():
    """A DNS failure is a `ConnectError`."""
    connector = aiohttp.TCPConnector(resolver=Unresolving())
    async with aiohttp.ClientSession(connector=connector) as session:
        error = await get("https://calls.invalid", session=session)
    assert type(error) is ConnectError
    assert "Name or service not known" in error.message


async def test_a_proxy_that_cannot_be_reached():
    """It is a `ConnectError`, just like a server that cannot be."""
    error = await get("http://127.0.0.1:9", proxy=f"http://127.0.0.1:{closed_port()}")
    assert type(error) is ConnectError


async def test_a_proxy_that_refuses():
    """A refused CONNECT is a `ConnectError`, and the proxy never saw the key."""
    async with raw_server(http(b"no", status="403 Forbidden")) as proxy:
        error = await get("https://calls.invalid", proxy=proxy.url)
        assert proxy.requests[0].target == "calls.invalid:443"
        assert "authorization" not in proxy.requests[0].headers
    assert type(error) is ConnectError
    assert "Forbidden" in error.message


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (RuntimeError("odd"), TransportError),
        (TimeoutError("theirs"), AttemptTimeoutError),
        (OSError("odd"), ProtocolError),
        (aiohttp.ClientError(), ProtocolError),
    ],
)
async def test_whatever_is_raised_is_translated(raised, kind):
    """No exception of anybody's leaves the transport, and none is chained."""

    async def middleware(*_):
        raise raised

    async with aiohttp.ClientSession(middlewares=(middleware,)) as session:
        error = await get("http://127.0.0.1:9", session=session)
    assert type(error) is kind
    assert error.__cause__ is error.__context__ is None


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trustme():
    """The maker of certificates."""
    return pytest.importorskip("trustme", reason="trustme is not installed: no certificates")


@pytest.fixture(scope="module")
def authority(trustme):
    return trustme.CA()


def served(authority, *names, **validity):
    """A server's TLS context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **validity).configure_cert(context)
    return context


def trusting(authority):
    """A client's TLS context."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_private_authority_is_trusted_when_given(authority):
    """`ssl=` replaces the system's authorities."""
    async with raw_server(http(b"{}"), tls=served(authority, "127.0.0.1")) as server:
        assert isinstance(await get(server.url, ssl=trusting(authority)), Answer)


YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    ("names", "validity", "words"),
    [
        (
            ["127.0.0.1"],
            {"not_before": YESTERDAY - timedelta(days=9), "not_after": YESTERDAY},
            "certificate has expired",
        ),
        (["wrong.example"], {}, "mismatch"),
    ],
)
async def test_a_certificate_that_does_not_hold(authority, names, validity, words):
    """It is a `TLSError` that names the failed check; asking again cannot help."""
    async with raw_server(None, tls=served(authority, *names, **validity)) as server:
        error = await get(server.url, ssl=trusting(authority))
    assert type(error) is TLSError
    assert words in error.message
    assert not error.retryable
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert error.__cause__.__traceback__ is error.__cause__.__context__ is None
    assert server.requests == []


async def test_an_unknown_authority(authority):
    """Without `ssl=` the system's authorities decide, and they know none of ours."""
    async with raw_server(None, tls=served(authority, "127.0.0.1")) as server:
        error = await get(server.url)
    assert type(error) is TLSError
    assert "certificate verify failed" in error.message


async def test_a_fingerprint_that_does_not_match(authority):
    """An injected session's own pinning is a `TLSError` too."""
    pinned = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes(32)))
    async with (
        raw_server(None, tls=served(authority, "127.0.0.1")) as server,
        aiohttp.ClientSession(connector=pinned) as session,
    ):
        assert type(await get(server.url, session=session)) is TLSError


async def test_https_to_a_plain_server():
    """A server that speaks no TLS is a `TLSError`."""
    async with raw_server(http(status="400 Bad Request"), reads=b"\x16") as server:
        error = await get(server.url.replace("http", "https"))
    assert type(error) is TLSError


# --- Cancellation and closing --------------------------------------------------------------------


async def never(exchange):
    await exchange.hung_up()


def half(exchange):
    exchange.send(http(b"abc", length=100))
    return b""


@pytest.mark.parametrize(("where", "script"), [("connect", None), ("head", never), ("body", half)])
async def test_a_cancelled_request_leaves_nothing(where, script):
    """Cancelled in any phase, the request ends at once: no connection, no task, no warning."""
    asyncio.get_running_loop().set_debug(True)
    async with raw_server(script) as server:
        # The handshake of TLS belongs to connecting, and this server never answers it.
        url = server.url.replace("http", "https") if where == "connect" else server.url
        async with transport_to(url) as transport:
            before = other_tasks()
            request = asyncio.create_task(transport.get("call-1", KEY))
            await until(lambda: server.requests or (where == "connect" and server.open))
            if where == "body":
                await until(lambda: next(iter(transport._pool.session.connector._acquired)))
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await server.quiet()
            assert other_tasks() <= before
            assert transport._pool.users == 0
    del request
    gc.collect()


async def test_close_ends_requests_in_flight():
    """Who waits when the transport is closed gets a `TransportError`; closing again is nothing."""
    async with raw_server(never) as server:
        transport = SessionTransport(
            base_url=server.url, max_body_bytes=CAP, headers={}, user_agent="tests"
        )
        old = asyncio.create_task(transport.get("call-1", KEY))
        await until(lambda: len(server.requests) == 1)
        new = asyncio.create_task(transport.get("call-2", KEY, fresh=True))
        await until(lambda: len(server.requests) == 2)
        await transport.close()
        assert isinstance(await old, TransportError)
        assert isinstance(await new, TransportError)
        await transport.close()
        await server.quiet()


@pytest.fixture
async def three_sessions():
    """A transport with an idle connection and two requests in flight, each in its own session."""

    async def script(exchange):
        if exchange.target.endswith("held"):
            await exchange.hung_up()
        elif exchange.target.endswith("next"):
            await answer.wait()
        return http(b"{}")

    answer = asyncio.Event()
    async with raw_server(script) as server, transport_to(server.url) as transport:
        await transport.get("call-1", KEY)
        requests = []
        for call_id in ("next", "held"):
            requests.append(asyncio.create_task(transport.get(call_id, KEY, fresh=True)))
            await until(lambda: server.connections == 1 + len(requests))
        await until(lambda: len(server.requests) == 3)
        yield transport, server, requests, answer
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_close_that_is_cancelled_closes_everything(three_sessions, times):
    """However often it is cancelled while it waits, no connection stays open."""
    transport, server, requests, answer = three_sessions
    closing = asyncio.create_task(transport.close())
    for _ in range(times):
        await asyncio.sleep(0)
        closing.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await closing
    answer.set()
    await server.quiet()
    assert {type(await request) for request in requests} == {ProtocolError}


async def test_a_close_that_is_cancelled_before_it_begins_can_be_repeated(three_sessions):
    """What has not begun has forgotten nothing."""
    transport, server, _, answer = three_sessions
    closing = asyncio.create_task(transport.close())
    closing.cancel()
    await asyncio.wait([closing])
    assert server.open == 3
    await transport.close()
    answer.set()
    await server.quiet()


async def test_a_request_that_is_cancelled_in_the_end_closes_what_it_was_to_close(three_sessions):
    """Cancelled while it closes retired sessions, it closes them all the same."""
    transport, server, (request, _), answer = three_sessions
    answer.set()
    await until(lambda: not transport._retired)
    request.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await request
    await until(lambda: server.open == 1)
