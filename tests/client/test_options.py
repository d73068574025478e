"""Every option of the client does what it says, as seen by whoever is at the other end."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from calls_async import (
    AnswerTooLargeError,
    AttemptFinished,
    AttemptStarted,
    AttemptTimeoutError,
    CallFinished,
    CallParked,
    CallsClient,
    CallStarted,
    ConfigurationError,
    CoolDownEntered,
    DeadlineExceededError,
    Limits,
    PaceChanged,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    Timeouts,
    TransportError,
    __version__,
)
from calls_async._pace import SLACK
from calls_async.testing import FakeTransport, Fault, Sandbox, fake_client
from tests.kit import call_ids, in_virtual_time
from tests.rawserver import http, raw_server, record

KEY = "sk_test_options"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("CALLS_API_KEY", "CALLS_BASE_URL", "HTTP_PROXY", "http_proxy", "NO_PROXY",
                 "no_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


async def sent(raw, *, call_id="call-1", **options):
    """What a client with these options puts on the wire for one call."""
    async with CallsClient(**{"api_key": KEY, "base_url": raw.url} | options) as client:
        await client.get_call(call_id)
    return raw.requests[-1]


@pytest.fixture
async def raw():
    async with raw_server(http(record())) as server:
        yield server


# --- Where the client finds its options ----------------------------------------------------------


async def test_key_and_base_url_come_from_the_environment(raw, monkeypatch):
    """What is not given is read from `CALLS_API_KEY` and `CALLS_BASE_URL`."""
    monkeypatch.setenv("CALLS_API_KEY", "sk_test_from_environment")
    monkeypatch.setenv("CALLS_BASE_URL", f"{raw.url}/prefix")
    async with CallsClient() as client:
        await client.get_call("call-1")
    (request,) = raw.requests
    assert request.headers["authorization"] == "Bearer sk_test_from_environment"
    assert request.target == "/prefix/v1/calls/call-1"


async def test_what_is_given_wins_over_the_environment(raw, monkeypatch):
    """Arguments come first."""
    monkeypatch.setenv("CALLS_API_KEY", "sk_test_from_environment")
    monkeypatch.setenv("CALLS_BASE_URL", "https://nobody.example.com")
    request = await sent(raw)
    assert request.headers["authorization"] == f"Bearer {KEY}"


# --- What goes on the wire -----------------------------------------------------------------------


async def test_a_request_says_this_and_nothing_else(raw):
    """The default request, field by field."""
    request = await sent(raw)
    assert request.target == "/v1/calls/call-1"
    headers = request.headers
    assert headers.pop("user-agent").startswith(f"calls_async/{__version__} Python/3.")
    assert headers == {
        "host": raw.url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
    }


@pytest.mark.parametrize(
    ("suffix", "path"),
    [("", ""), ("/", ""), ("/gateway", "/gateway"), ("/a/b%20c/", "/a/b%20c")],
)
async def test_a_path_prefix_is_kept(raw, suffix, path):
    """Gateways serve the API under a path; a slash at its end makes no difference."""
    request = await sent(raw, base_url=raw.url + suffix)
    assert request.target == f"{path}/v1/calls/call-1"


async def test_a_prefix_of_the_sandbox_is_found():
    """The same over the sandbox, whose gateway path is its own."""
    async with (
        Sandbox(prefix="/gateway") as sandbox,
        CallsClient(sandbox.api_key, base_url=sandbox.base_url) as client,
    ):
        assert (await client.get_call("a/b")).id == "a/b"


async def test_headers_and_user_agent_go_along(raw):
    """The caller's own headers are on each request, beside the client's."""
    request = await sent(raw, headers={"X-Team": "sales", "Accept": "*/*"}, user_agent="worker/7")
    assert request.headers["x-team"] == "sales"
    assert request.headers["accept"] == "*/*"
    assert request.headers["user-agent"] == "worker/7"
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_headers_are_copied(raw):
    """What the caller does to the mapping afterwards is the caller's own affair."""
    headers = {"X-Team": "sales"}
    async with CallsClient(KEY, base_url=raw.url, headers=headers) as client:
        headers["X-Team"] = "other"
        await client.get_call("call-1")
    assert raw.requests[0].headers["x-team"] == "sales"


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
async def test_the_key_may_come_from_a_function(raw, kind):
    """A provider, sync or async, is asked once, by the first call."""
    asked = []

    def provider():
        asked.append(True)
        return "sk_test_provided"

    async def async_provider():
        return provider()

    api_key = provider if kind == "function" else async_provider
    async with CallsClient(api_key, base_url=raw.url) as client:
        assert asked == []
        await asyncio.gather(*(client.get_call("call-1") for _ in range(5)))
    assert asked == [True]
    assert {x.headers["authorization"] for x in raw.requests} == {"Bearer sk_test_provided"}


async def test_a_proxy_is_asked_for_the_whole_url(raw):
    """With `proxy=` the request goes there and names the real host."""
    base_url = "http://calls.example.com"
    request = await sent(raw, base_url=base_url, allow_http=True, proxy=raw.url)
    assert request.target == f"{base_url}/v1/calls/call-1"
    assert request.headers["host"] == "calls.example.com"


async def test_the_environments_proxy_is_used_when_asked_for(raw, monkeypatch):
    """`trust_env=True` lets `HTTP_PROXY` name the proxy; otherwise it is ignored."""
    monkeypatch.setenv("HTTP_PROXY", raw.url)
    monkeypatch.setenv("http_proxy", raw.url)
    base_url = "http://calls.example.com"
    request = await sent(raw, base_url=base_url, allow_http=True, trust_env=True)
    assert request.target.startswith(base_url)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await sent(raw)).target == "/v1/calls/call-1"


async def test_plain_http_leaves_this_machine_only_when_allowed():
    """The refusal says which option means it."""
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        CallsClient(KEY, base_url="http://calls.example.com")
    CallsClient(KEY, base_url="http://calls.example.com", allow_http=True)


def test_ssl_takes_a_context_and_no_switch():
    """`ssl=False` would switch the checks off by a word; only a context can."""
    CallsClient(KEY, base_url="https://calls.example.com", ssl=ssl.create_default_context())
    with pytest.raises(ConfigurationError, match="ssl"):
        CallsClient(KEY, base_url="https://calls.example.com", ssl=False)


class WatchedContext(ssl.SSLContext):
    """A TLS context that counts the handshakes it is used for."""

    handshakes = 0

    def wrap_bio(self, *args, **options):
        self.handshakes += 1
        return super().wrap_bio(*args, **options)


async def test_the_ssl_context_makes_the_handshake(calls_sandbox):
    """The context given is the one that connections are secured with; no TLS there is an error."""
    context = WatchedContext(ssl.PROTOCOL_TLS_CLIENT)
    base_url = calls_sandbox.base_url.replace("http://", "https://")
    async with CallsClient(
        KEY, base_url=base_url, ssl=context, retry=RetryPolicy(max_attempts=1)
    ) as client:
        with pytest.raises(TransportError):
            await client.get_call("call-1")
    assert context.handshakes == 1
    assert len(calls_sandbox.ledger) == 0


# --- Policies ------------------------------------------------------------------------------------


@in_virtual_time
async def test_retry_and_timeouts_bind_each_call():
    """`max_attempts` counts requests, `attempt` and `total` are seconds."""
    transport = FakeTransport(faults={"bad": Fault.status(500), "stuck": Fault.stall})
    timeouts = Timeouts(attempt=2.0, total=5.0)
    retry = RetryPolicy(max_attempts=2, backoff_base=0.0)
    async with fake_client(transport, retry=retry, timeouts=timeouts) as client:
        with pytest.raises(ServerError) as caught:
            await client.get_call("bad")
        assert caught.value.attempts == 2
        with pytest.raises(AttemptTimeoutError) as late:
            await client.get_call("stuck")
        assert asyncio.get_running_loop().time() == 4.0
        assert late.value.attempts == 2
        with pytest.raises(DeadlineExceededError):
            await client.get_call("stuck", timeout=1.0)
        assert asyncio.get_running_loop().time() == 5.0


@in_virtual_time
async def test_limits_bind_the_client():
    """`max_concurrency` bounds the requests in flight, `max_rate` their starts per second."""
    transport = FakeTransport(latency=1.0)
    limits = Limits(max_concurrency=3, max_rate=2.0)
    async with fake_client(transport, limits=limits) as client:
        await client.gather_calls(call_ids(10))
        assert client.statistics().max_concurrency == 3
    starts = [entry.at for entry in transport.ledger.entries]
    assert starts == pytest.approx([number / 2 for number in range(10)], abs=SLACK)
    assert transport.ledger.max_in_flight <= 3


async def test_a_body_beyond_the_limit_is_refused(raw):
    """`max_body_bytes` is what is read of an answer."""
    with pytest.raises(AnswerTooLargeError, match="100 bytes"):
        await sent(raw, limits=Limits(max_body_bytes=100))


@in_virtual_time
async def test_hooks_hear_of_everything():
    """Each hook is called with each event of a call, in order; one that raises breaks nothing."""
    heard = []

    def broken(_):
        raise RuntimeError

    silence = Fault.status(429, headers={"Retry-After": "1"})
    transport = FakeTransport(faults={"a": [silence]})
    async with fake_client(transport, hooks=(broken, heard.append)) as client:
        await client.get_call("a")
    assert [type(event) for event in heard] == [
        CallStarted, AttemptStarted, AttemptFinished, CoolDownEntered, PaceChanged, RetryScheduled,
        CallParked, AttemptStarted, AttemptFinished, CallFinished,
    ]  # fmt: skip
