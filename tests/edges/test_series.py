"""Series: one pass through a session sends many requests, if each is as the session would send it.

Every test has one permit, so that the requests of a batch are one relay.
"""

from __future__ import annotations

import asyncio
import gzip
import warnings
from http.cookies import SimpleCookie
from urllib.parse import unquote

import aiohttp
import pytest

from calls_async import (
    CallsClient,
    ConnectError,
    Failed,
    Limits,
    ProtocolError,
    RetryPolicy,
)
from calls_async._secret import ApiKey
from calls_async._transport import SessionTransport
from tests.kit import call_ids, turns
from tests.rawserver import http, id_of, own, raw_server, record
from tests.waiting import until

KEY = "sk_test_of_a_series"
ONE = Limits(max_concurrency=1)
IDS = call_ids(9)


def client_over(session, server, **options):
    """A client over an injected session."""
    return CallsClient(KEY, session=session, base_url=server.url, **{"limits": ONE, **options})


def transport_to(server, **options):
    """The transport alone, with a session of its own unless there is another."""
    given = {"max_body_bytes": 100_000, "headers": {}, "user_agent": "test"}
    return SessionTransport(base_url=server.url, **given, **options)


@pytest.fixture
def passes(monkeypatch):
    """The URLs of the requests that sessions have made since."""
    made = []

    class Request(aiohttp.ClientRequest):
        def __init__(self, method, url, **options):
            made.append(url)
            super().__init__(method, url, **options)
            # A request of a class of its own is the caller's, which no series changes.
            self.__class__ = aiohttp.ClientRequest

    init = aiohttp.ClientSession.__init__
    monkeypatch.setattr(
        aiohttp.ClientSession,
        "__init__",
        lambda session, **options: init(session, **{"request_class": Request, **options}),
    )
    return made


async def check(session, server):
    """Let a batch go over a session: each id has its own record, and was asked for once."""
    async with client_over(session, server) as client:
        calls = await client.gather_calls(IDS)
        assert client.statistics().requests == len(IDS)
    assert [call.id for call in calls] == IDS
    assert [id_of(request) for request in server.requests] == IDS


# --- One pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize("jar", [aiohttp.DummyCookieJar, aiohttp.CookieJar])
async def test_a_plain_session_makes_one_request_of_many(passes, jar):
    """Each goes out with the same fields, in the order of the ids, on one connection."""
    async with raw_server(own) as server, aiohttp.ClientSession(cookie_jar=jar()) as session:
        await check(session, server)
    assert len(passes) == server.connections == 1
    first, *others = [request.head.split(b"\r\n", 1) for request in server.requests]
    assert all(fields == first[1] for _, fields in others)
    assert f"Bearer {KEY}".encode() in first[1]


async def test_a_session_of_our_own_does_so_too(passes):
    """It is one that nothing hangs on."""
    async with raw_server(own) as server:
        transport = transport_to(server)
        named = iter([*IDS[1:], None])
        last = await transport.relay(IDS[0], ApiKey(KEY), lambda _: next(named))
        assert last.body == record(IDS[-1])
        await transport.close()
    assert [id_of(request) for request in server.requests] == IDS
    assert len(passes) == server.connections == 1


async def test_a_coded_record_is_read(passes):
    """A middlebox may compress what nobody asked it to."""
    coded = "Content-Encoding: gzip"
    async with (
        raw_server(lambda x: http(gzip.compress(record(id_of(x))), coded)) as server,
        aiohttp.ClientSession() as session,
    ):
        await check(session, server)
    assert len(passes) == 1


# --- A pass for each -----------------------------------------------------------------------------


async def test_each_passes_the_middlewares_of_a_session(passes):
    """They see each request, and what they add to it is on that one alone."""

    async def middleware(request, handler):
        request.headers.add("X-Path", request.url.path)
        return await handler(request)

    async with (
        raw_server(own) as server,
        aiohttp.ClientSession(middlewares=(middleware,)) as session,
    ):
        await check(session, server)
    assert [x.headers["x-path"] for x in server.requests] == [f"/v1/calls/{x}" for x in IDS]
    assert len(passes) == len(IDS)


async def test_each_is_traced(passes):
    """Who traces a session is told of every request, also if that begins in the middle."""
    told = []

    async def tell(*_):
        told.append(1)

    def script(exchange):
        if exchange.number == 3 and not session.trace_configs:
            session.trace_configs.append(trace)
        return own(exchange)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(tell)
    trace.freeze()
    async with raw_server(script) as server, aiohttp.ClientSession() as session:
        await check(session, server)
        server.requests.clear()
        await check(session, server)
    assert len(told) == len(IDS[3:]) + len(IDS)
    assert len(passes) == 1 + len(told)


async def test_each_has_the_headers_that_the_session_has_then(passes):
    """Its owner may change them, as where a gateway wants a token that is soon over."""

    def script(exchange):
        session.headers["X-Token"] = str(exchange.number // 4)
        return own(exchange)

    async with raw_server(script) as server, aiohttp.ClientSession() as session:
        await check(session, server)
    tokens = [request.headers.get("x-token") for request in server.requests]
    assert tokens == [None, "0", "0", "0", "1", "1", "1", "1", "2"]
    assert len(passes) == 4


async def test_each_carries_the_cookies_that_there_are(passes):
    """Those of the session, those that its owner adds, and those that the server sets meanwhile."""
    session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    def script(exchange):
        if exchange.number == 4:
            session.cookie_jar.update_cookies({"mine": "1"})
        if exchange.number == 6:
            session.cookie_jar.clear()
        said = ["Set-Cookie: theirs=1"] if exchange.number == 2 else []
        return http(record(id_of(exchange)), *said)

    async with raw_server(script) as server, session:
        await check(session, server)
    cookies = [request.headers.get("cookie") for request in server.requests]
    both = "theirs=1; mine=1"
    assert [cookie and "; ".join(sorted(cookie.split("; "))[::-1]) for cookie in cookies] == [
        None, None, "theirs=1", "theirs=1", both, both, None, None, None,
    ]  # fmt: skip
    # The first two, and those after the cookies are gone, are a series each.
    assert len(passes) == 6


async def test_the_first_cookie_of_a_session_is_on_the_next_request(passes):
    """Its owner may have none at the beginning, and put one into the jar in the middle."""

    def script(exchange):
        if exchange.number == 4:
            session.cookie_jar.update_cookies({"mine": "1"})
        return own(exchange)

    jar = aiohttp.CookieJar(unsafe=True)
    async with raw_server(script) as server, aiohttp.ClientSession(cookie_jar=jar) as session:
        await check(session, server)
    cookies = [request.headers.get("cookie") for request in server.requests]
    assert cookies == [None] * 4 + ["mine=1"] * (len(IDS) - 4)
    assert len(passes) == 1 + len(IDS) - 4


async def test_a_cookie_is_of_the_path_of_the_answer_that_set_it():
    """As RFC 6265 (section 5.1.4) has it, and not of the path that the series began with."""

    def script(exchange):
        said = ["Set-Cookie: theirs=1"] if exchange.number == 2 else []
        return http(record(unquote(id_of(exchange))), *said)

    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(cookie_jar=jar) as session,
        client_over(session, server) as client,
    ):
        await client.gather_calls(["a/b", "call-1", "call-2"])
    assert [x.headers.get("cookie") for x in server.requests] == [None, None, "theirs=1"]


async def test_each_is_made_by_the_session_s_own_class():
    """Which may sign it, say, and that with the URL."""

    class Signing(aiohttp.ClientRequest):
        def __init__(self, method, url, **options):
            super().__init__(method, url, **options)
            self.headers["X-Signed"] = url.path

    async with (
        raw_server(own) as server,
        aiohttp.ClientSession(request_class=Signing) as session,
    ):
        await check(session, server)
    assert [x.headers["x-signed"] for x in server.requests] == [f"/v1/calls/{x}" for x in IDS]


async def test_each_goes_through_a_session_of_another_class(passes):
    """What it does for each request is unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Session(aiohttp.ClientSession):
            """The caller's own."""

    async with raw_server(own) as server, Session() as session:
        await check(session, server)
    assert len(passes) == len(IDS)


async def test_each_tells_a_jar_of_another_class(passes):
    """A jar that is not aiohttp's may have cookies whatever it counts."""

    class Jar(aiohttp.DummyCookieJar):
        """The caller's own."""

        def filter_cookies(self, request_url):
            name = request_url.name
            return SimpleCookie() if name == IDS[0] else SimpleCookie({"id": name})

    async with raw_server(own) as server, aiohttp.ClientSession(cookie_jar=Jar()) as session:
        await check(session, server)
    cookies = [request.headers.get("cookie") for request in server.requests]
    assert cookies == [None, *(f"id={x}" for x in IDS[1:])]
    assert len(passes) == len(IDS)


async def test_each_goes_through_a_proxy_on_the_same_connection(passes):
    """To aiohttp, the second request of a series would be another client's."""
    async with (
        raw_server(own) as proxy,
        CallsClient(KEY, base_url="http://localhost:9", proxy=proxy.url, limits=ONE) as client,
    ):
        assert client.statistics().transport == "session"
        calls = await client.gather_calls(IDS)
    assert [call.id for call in calls] == IDS
    assert [x.target for x in proxy.requests] == [f"http://localhost:9/v1/calls/{i}" for i in IDS]
    assert (len(passes), proxy.connections) == (len(IDS), 1)


# --- What ends a series --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        http(b"busy", status="500 Oops"),
        http(b"{}"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        None,
    ],
    ids=["a status", "no record", "chunks", "a lost connection"],
)
async def test_what_is_odd_is_that_call_s_own(odd):
    """It is tried again by the client, and by nobody else; the others are not concerned."""

    def script(exchange):
        return odd if exchange.number == 4 else own(exchange)

    async with raw_server(script) as server, aiohttp.ClientSession() as session:
        retry = RetryPolicy(backoff_base=0.0)
        async with client_over(session, server, retry=retry) as client:
            outcomes = [outcome async for outcome in client.stream_calls(IDS)]
            seen = client.statistics()
        await until(lambda: seen.in_flight == 0)
    found = {outcome.id: getattr(outcome, "attempts", None) for outcome in outcomes}
    again = odd is None or b"500" in odd
    assert found == dict.fromkeys(IDS, 1) | ({IDS[3]: 2} if again else {})
    assert [outcome.id for outcome in outcomes if isinstance(outcome, Failed)] == (
        [] if again else [IDS[3]]
    )
    assert seen.requests == len(server.requests) == len(IDS) + again


async def test_a_record_that_comes_in_pieces_is_waited_for():
    """Its beginning alone is no record, and who waits for the rest goes on behind it."""

    async def script(exchange):
        answer = own(exchange)
        if exchange.number == 4:
            exchange.send(answer[:-9])
            await exchange.writer.drain()
            await turns(50)
            answer = answer[-9:]
        return answer

    async with raw_server(script) as server, aiohttp.ClientSession() as session:
        await check(session, server)


async def test_a_record_past_the_cap_is_not_read():
    """As with a single request, it fails, and that is all."""

    def script(exchange):
        more = {"note": "x" * 5_000} if exchange.number == 3 else {}
        return http(record(id_of(exchange), **more))

    limits = Limits(max_concurrency=1, max_body_bytes=4_000)
    async with (
        raw_server(script) as server,
        aiohttp.ClientSession() as session,
        client_over(session, server, limits=limits, retry=RetryPolicy(max_attempts=1)) as client,
    ):
        found = await client.gather_calls(IDS, return_exceptions=True)
    assert [getattr(call, "id", None) for call in found] == [*IDS[:2], None, *IDS[3:]]
    assert isinstance(found[2], ProtocolError)


async def test_a_session_that_is_closed_meanwhile_is_left_alone():
    """The answer on its way is cut; for the others it was closed too early."""
    session = aiohttp.ClientSession()
    closing = []

    def script(exchange):
        if exchange.number == 3:
            closing.append(asyncio.ensure_future(session.close()))
        return own(exchange)

    policy = RetryPolicy(max_attempts=1, backoff_base=0.0)
    limits = Limits(max_concurrency=1, patience=0.001)
    async with (
        raw_server(script) as server,
        client_over(session, server, retry=policy, limits=limits) as client,
    ):
        found = await client.gather_calls(IDS, return_exceptions=True)
        await asyncio.gather(*closing)
    assert [call.id for call in found[:2]] == IDS[:2]
    # With which of the two errors the batch's patience ends is the clock's to say.
    assert all(isinstance(error, ConnectError | ProtocolError) for error in found[2:])
    assert len(server.requests) == 3


async def test_a_session_that_is_detached_meanwhile_sends_no_more():
    """Its connector may be its owner's to use elsewhere; the answer on its way is taken."""
    seen = []

    def following(came):
        seen.append(came.body)
        asyncio.get_running_loop().call_soon(session.detach)
        return "call-2"

    async with raw_server(own) as server, aiohttp.TCPConnector() as connector:
        session = aiohttp.ClientSession(connector=connector)
        transport = transport_to(server, session=session)
        last = await transport.relay("call-1", ApiKey(KEY), following)
    assert seen == [record("call-1")]
    assert last.body == record("call-2")
    assert len(server.requests) == 2


async def test_connections_that_are_trusted_no_longer_are_not_used_again():
    """A request that wants a fresh one ends the series of the others."""
    fresh = []

    def following(_):
        if fresh:
            return "call-3"
        fresh.append(asyncio.ensure_future(transport.get("call-9", ApiKey(KEY), fresh=True)))
        return "call-2"

    async with raw_server(own) as server:
        transport = transport_to(server)
        last = await transport.relay("call-1", ApiKey(KEY), following)
        assert last.body == record("call-2")
        assert (await fresh[0]).body == record("call-9")
        await transport.close()
    assert sorted(map(id_of, server.requests)) == ["call-1", "call-2", "call-9"]
