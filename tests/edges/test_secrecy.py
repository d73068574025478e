"""A key cannot be printed: not even when the server sends it back."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback

import aiohttp
import pytest

from calls_async import (
    CallsClient,
    CallsError,
    ConfigurationError,
    Failed,
    Limits,
    RetryPolicy,
    Timeouts,
    gather_calls,
)
from tests.documents import example
from tests.rawserver import http, raw_server, record

SECRET = "Zq7Xw9Kd2Lm4Pv8Rt1Yb6Nc3Hf5Gj0"
KEY = f"sk_live_{SECRET}"
RUNS = {SECRET[at : at + 6] for at in range(len(SECRET) - 5)}
OURS = "calls_async"
BRIEF = Limits(patience=1.0)
"""A batch that fails for longer than a second, as on a busy machine, would wait for the server."""


def shown(thing, depth=4):
    """All that can be printed of a thing: text, repr, and what hangs on it, some steps deep."""
    yield repr(thing)
    yield str(thing)
    if depth and type(thing).__module__.partition(".")[0] == OURS:
        for value in getattr(thing, "__dict__", {}).values():
            yield from shown(value, depth - 1)


def confessed(error):
    """All that an exception and its whole chain give away, our own frames' locals included."""
    yield "".join(traceback.format_exception(error))
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        waiting += [link.__cause__, link.__context__]
        yield from shown(link)
        yield repr(link.args) + repr(getattr(link, "__notes__", ()))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if f"/{OURS}/" in frame.f_code.co_filename:
                for value in frame.f_locals.values():
                    yield from shown(value)


def assert_silent(*texts):
    for text in texts:
        leaked = [run for run in RUNS if run in text]
        assert not leaked, (leaked, text)


HEADERS = b"HTTP/1.1 200 OK\r\n"
ECHOES = {
    "body": http(KEY.encode(), status="500 Oops"),
    "long-body": http(b"x" * 490 + KEY.encode(), status="400 Bad"),
    "reason": http(b"", status=f"500 {KEY}"),
    "reason-401": http(KEY.encode(), status=f"401 {KEY}"),
    "request-id": http(b"", f"x-request-id: {KEY}", status="404 No"),
    "location": http(b"", f"Location: https://x.example/?t={KEY}", status="302 Found"),
    "no-json": http(f"<html>{KEY}</html>".encode()),
    "cut-json": http(f'{{"id": "{KEY}'.encode()),
    "other-id": http(record(SECRET), f"x-request-id: {KEY}"),
    "violations": http(json.dumps({**example(), "callType": {KEY: KEY}, KEY: 1}).encode()),
    "status-line": f"garbage {KEY}\r\n\r\n".encode(),
    "header-name": HEADERS + f"{KEY} {KEY}\r\n\r\n".encode(),
    "header-nul": HEADERS + f"X: '\0{KEY}\r\n\r\n".encode(),
    "length": HEADERS + f"Content-Length: {KEY}\r\n\r\n".encode(),
    "chunk": HEADERS + f"Transfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "encoding": HEADERS + f"Content-Encoding: br\r\nX: {KEY}\r\n\r\n{KEY}".encode(),
    **{
        f"long-header-{room}": http(b"", f"X: {'y' * room}{KEY}{'y' * 9000}")
        for room in range(60, 100, 5)
    },
    "cut-head": HEADERS + f"X: {KEY[:-4]}".encode(),
    "closed": b"",
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
async def test_an_echoed_key_reaches_nobody(echo, caplog):
    """Not six characters of it are in an error, its chain, its pickle, an event or a log."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0  # so that asyncio reports everything it runs
    told = []

    def script(exchange):
        assert KEY in exchange.headers["authorization"]
        return exchange.send(echo)

    async with raw_server(script) as server:
        policy = RetryPolicy(max_attempts=2, backoff_base=0.0)
        client = CallsClient(
            KEY, base_url=server.url, retry=policy, limits=BRIEF, hooks=(told.append,)
        )
        async with client:
            with pytest.raises(CallsError) as caught:
                await client.get_call("call-1")
            (error,) = await client.gather_calls(["call-2"], return_exceptions=True)
            assert_silent(*shown(client), *shown(client.statistics()))
    for failed in (caught.value, error):
        assert isinstance(failed, CallsError)
        assert_silent(*confessed(failed))
        copy = pickle.loads(pickle.dumps(failed))
        assert_silent(pickle.dumps(failed).decode("latin-1"), *confessed(copy))
    assert told
    for event in told:
        assert_silent(*shown(event))
    outcome = told[-1].outcome
    assert isinstance(outcome, Failed)
    assert_silent(*shown(outcome), pickle.dumps(outcome).decode("latin-1"))
    assert caplog.records
    assert_silent(caplog.text, *(repr(vars(record)) for record in caplog.records))


async def test_failures_of_the_way_hold_no_key():
    """Refused, timed out, closed: what happens before an answer gives nothing away either."""
    async with raw_server(lambda exchange: exchange.hung_up()) as server:
        url = server.url
        client = CallsClient(KEY, base_url=url, timeouts=Timeouts(total=0.05))
        async with client:
            with pytest.raises(CallsError) as timed_out:
                await client.get_call("call-1")
    policy = RetryPolicy(max_attempts=1)
    async with CallsClient(KEY, base_url=url, retry=policy) as client:
        with pytest.raises(CallsError) as refused:
            await client.get_call("call-1")
    with pytest.raises(CallsError) as closed:
        await client.get_call("call-1")
    for caught in (timed_out, refused, closed):
        assert_silent(*confessed(caught.value))


@pytest.mark.parametrize(
    "kind", [LookupError, aiohttp.ClientError, aiohttp.ServerDisconnectedError]
)
async def test_what_a_sessions_own_middleware_raises_holds_no_key(kind):
    """A middleware sees the request, and may say so: the key is scrubbed from its words."""

    async def chatty(request, handler):  # noqa: ARG001 (aiohttp's signature)
        raise kind(f"refused: {request.headers['Authorization']}")

    policy = RetryPolicy(max_attempts=1)
    async with (
        aiohttp.ClientSession(middlewares=(chatty,)) as session,
        CallsClient(KEY, base_url="http://127.0.0.1:9", session=session, retry=policy) as client,
    ):
        with pytest.raises(CallsError) as caught:
            await client.get_call("call-1")
    assert_silent(*confessed(caught.value))


async def test_a_client_cannot_be_made_to_show_its_key():
    """repr, str, format, vars and the pickle of a client are without it."""
    async with CallsClient(KEY, base_url="https://calls.example.com") as client:
        assert_silent(*shown(client, depth=6), f"{client}", pickle.dumps(client).decode("latin-1"))


@pytest.mark.parametrize("bad", [f"{KEY}\n", f" {KEY}", f"{KEY}é", KEY.encode(), f"Bearer {KEY}"])
async def test_a_provider_that_gives_nearly_a_key(bad):
    """What is refused as a key is not quoted, and is in no frame of ours."""
    async with CallsClient(lambda: bad, base_url="https://calls.example.com") as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.get_call("call-1")
    assert_silent(*confessed(caught.value))


WRONG = {
    "base_url": {"base_url": "http://calls.example.com"},
    "retry": {"retry": None},
    "session": {"session": "none"},
    "ssl": {"ssl": False},
    "proxy": {"proxy": "proxy"},
    "headers": {"headers": {"Host": "x"}},
    "user_agent": {"user_agent": "\n"},
    "hooks": {"hooks": print},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_a_refused_option_does_not_show_the_key_beside_it(wrong):
    """The error's traceback shows the key in no frame, and a half-made client can be printed."""
    options = {"base_url": "https://calls.example.com"} | wrong
    with pytest.raises(ConfigurationError) as made:
        CallsClient(KEY, **options)
    with pytest.raises(ConfigurationError) as gathered:
        await gather_calls(["call-1"], api_key=KEY, **options)
    for caught in (made, gathered):
        assert_silent(*confessed(caught.value))


async def test_a_refused_key_is_in_no_frame():
    """The same where it is the key itself that is refused."""
    with pytest.raises(ConfigurationError) as made:
        CallsClient(f"{KEY}\n", base_url="https://calls.example.com")
    with pytest.raises(ConfigurationError) as gathered:
        await gather_calls(["call-1"], api_key=f"{KEY}\n")
    for caught in (made, gathered):
        assert_silent(*confessed(caught.value))


def frames(error):
    """Whose code the tracebacks of an error and of its chain lead through."""
    for link in (error, error.__cause__, error.__context__):
        if link is not None:
            for frame, _ in traceback.walk_tb(link.__traceback__):
                yield frame.f_globals["__name__"].partition(".")[0]


async def test_a_time_limit_of_the_users_own_shows_no_request():
    """What it chains leads through none of aiohttp's frames, which hold the request's headers."""
    async with (
        raw_server(lambda exchange: exchange.hung_up()) as server,
        CallsClient(KEY, base_url=server.url) as client,
    ):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await client.get_call("call-1")
        assert len(server.requests) == 1
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert OURS in frames(caught.value)
    assert "aiohttp" not in frames(caught.value)
    assert_silent(*confessed(caught.value))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_key_for_this_machine_is_not_sent_to_the_environments_proxy(host, monkeypatch):
    """Plain http is for loopback hosts because nobody reads it there; a proxy would."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with raw_server(None) as proxy, raw_server(http(record())) as server:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        url = server.url.replace("127.0.0.1", host)
        async with CallsClient(KEY, base_url=url, trust_env=True, limits=BRIEF) as client:
            await client.get_call("call-1")
    assert proxy.connections == 0


@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("way", ["fetch", "stream", "stream, told"])
async def test_an_outcome_s_request_id_is_without_the_key(way, tries):
    """Alone or in bulk, with hooks or without, at the first try or at another one."""

    def script(exchange):
        if exchange.number < tries:
            return http(b"", status="500 Oops")
        return http(record("call-1"), f"x-request-id: r-{KEY}")

    options = {
        "retry": RetryPolicy(backoff_base=0.0),
        "hooks": [lambda _: None] if "told" in way else (),
    }
    async with (
        raw_server(script) as server,
        CallsClient(KEY, base_url=server.url, **options) as client,
    ):
        if way == "fetch":
            outcome = await client.fetch_call("call-1")
        else:
            (outcome,) = [each async for each in client.stream_calls(["call-1"])]
    assert (outcome.request_id, outcome.attempts) == ("r-sk_live_***", tries)
