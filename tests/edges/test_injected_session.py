"""A session that the caller brings along: it is used as it is, and left as it was."""

from __future__ import annotations

import gzip

import aiohttp
import pytest

from calls_async import (
    CallsClient,
    ConfigurationError,
    ConnectError,
    RateLimitedError,
    RetryPolicy,
)
from tests.rawserver import http, raw_server, record
from tests.waiting import until

KEY = "sk_test_of_an_injected_session"


def client_over(session, server, **options):
    """A client over an injected session, which retries without waiting."""
    given = {"base_url": server.url, "retry": RetryPolicy(backoff_base=0.0)} | options
    return CallsClient(KEY, session=session, **given)


async def test_it_is_used_and_never_closed():
    """Closing the client leaves the session open, its connections included."""
    async with raw_server(http(record())) as server, aiohttp.ClientSession() as session:
        async with client_over(session, server) as client:
            await client.get_call("call-1")
        assert not session.closed
        async with session.get(f"{server.url}/other") as response:
            assert response.status == 200
        assert server.connections == 1


async def test_the_key_never_enters_its_defaults():
    """The key is on our requests, and on no other request of that session."""
    async with raw_server(http(record())) as server, aiohttp.ClientSession() as session:
        async with client_over(session, server) as client:
            await client.get_call("call-1")
        async with session.get(f"{server.url}/other"):
            pass
        assert KEY not in str(dict(session.headers))
    ours, other = (request.headers for request in server.requests)
    assert ours["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in other


async def test_its_settings_do_no_harm():
    """Its base URL, timeout, status check, decompression and Authorization do not reach us."""

    def script(exchange):
        if exchange.number == 1:
            return http(b"busy", status="500 Oops")
        return http(gzip.compress(record()), "Content-Encoding: gzip")

    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(
            base_url="http://127.0.0.1:1/elsewhere/",
            timeout=aiohttp.ClientTimeout(total=1e-9),
            raise_for_status=True,
            auto_decompress=False,
            headers={"authorization": "Basic eDp5", "Accept-Encoding": "gzip", "X-Own": "1"},
        ) as session,
        client_over(session, server) as client,
    ):
        outcome = await client.fetch_call("call-1")
    assert outcome.attempts == 2
    for request in server.requests:
        assert request.target == "/v1/calls/call-1"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["x-own"] == "1"
        assert request.head.lower().count(b"authorization") == 1


async def test_its_status_check_takes_no_answer_from_us():
    """The header of a refusal is read here, whatever the session would have made of it."""
    async with (
        raw_server(http(b"", "Retry-After: 999", status="429 Slow")) as server,
        aiohttp.ClientSession(raise_for_status=True) as session,
        client_over(session, server) as client,
    ):
        with pytest.raises(RateLimitedError) as caught:
            await client.get_call("call-1")
    assert caught.value.retry_after == 999


async def test_its_own_cookies_are_its_owners():
    """The session's jar serves its owner's requests, ours included."""
    async with (
        raw_server(http(record())) as server,
        aiohttp.ClientSession(
            cookies={"gateway": "1"}, cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as session,
        client_over(session, server) as client,
    ):
        await client.get_call("call-1")
    assert server.requests[0].headers["cookie"] == "gateway=1"


async def test_its_middlewares_still_run():
    """What the owner hung on the session sees each request, and what really went wrong."""
    seen = []

    async def middleware(request, handler):
        try:
            response = await handler(request)
        except aiohttp.ClientError as exc:
            seen.append(type(exc))
            raise
        seen.append(response.status)
        return response

    def script(exchange):
        return None if exchange.number == 1 else http(record())

    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(middlewares=(middleware,)) as session,
        client_over(session, server) as client,
    ):
        await client.get_call("call-1")
        async with session.get(f"{server.url}/other"):
            pass
    assert seen == [aiohttp.ServerDisconnectedError, 200, 200]


async def test_its_hidden_second_try_is_off_as_well():
    """Requests seen are requests counted; what a middleware of its own raises is not repeated."""

    async def middleware(request, handler):
        response = await handler(request)
        if response.status == 500:
            response.close()
            raise aiohttp.ServerDisconnectedError
        return response

    def script(exchange):
        match exchange.number:
            case 2:
                return None
            case 3:
                return http(b"", status="500 Oops")
        return http(record(exchange.target.rsplit("/")[-1]))

    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(middlewares=(middleware,)) as session,
        client_over(session, server) as client,
    ):
        for number in range(3):
            await client.get_call(f"call-{number}")
        assert len(server.requests) == client.statistics().requests == 5
        assert client.statistics().retries == 2


async def test_its_connections_are_not_ours_to_drop():
    """Another id's record is asked for again, and the owner's connections stay open."""

    def script(exchange):
        return http(record("stray" if exchange.number == 1 else "call-1"))

    async with raw_server(script) as server, aiohttp.ClientSession() as session:
        async with client_over(session, server) as client:
            assert (await client.fetch_call("call-1")).attempts == 2
        assert server.connections == server.open == 1
    await until(lambda: server.open == 0)


@pytest.mark.parametrize("session", ["a session", aiohttp.ClientSession, {}])
def test_what_is_no_session_is_refused(session):
    """Anything but an `aiohttp.ClientSession` is found when the client is made."""
    with pytest.raises(ConfigurationError, match="ClientSession"):
        CallsClient(KEY, base_url="http://127.0.0.1:1", session=session)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp's, of `auth` itself
async def test_a_session_with_credentials_of_its_own_is_refused():
    """`Authorization` can carry one thing; the conflict is found when the client is made."""
    login = aiohttp.BasicAuth("someone", "secret")
    async with aiohttp.ClientSession(auth=login) as session:
        with pytest.raises(ConfigurationError, match="auth="):
            CallsClient(KEY, base_url="http://127.0.0.1:1", session=session)


async def test_a_closed_session_is_a_clear_error():
    """A session that its owner closed too early is named as the reason."""
    async with aiohttp.ClientSession() as session:
        pass
    async with raw_server(None) as server, client_over(session, server) as client:
        with pytest.raises(ConnectError, match="session is closed"):
            await client.get_call("call-1")
        assert client.statistics().requests == 0
