"""Bad input is a clear error before anything is sent: keys, base URLs and ids."""

from __future__ import annotations

import pytest

from calls_async import (
    CallsClient,
    ConfigurationError,
    Failed,
    InvalidCallIdError,
    Limits,
    RetryPolicy,
    Timeouts,
    gather_calls,
)
from calls_async.testing import SANDBOX_KEY, FakeTransport, fake_client
from tests.kit import in_virtual_time

KEY = "sk_test_key"
URL = "https://calls.example.com"

BAD_KEYS = {
    "empty": ("", "empty"),
    "blank": (" ", "white space"),
    "a line end": ("sk_test_key\n", "white space"),
    "a space inside": ("sk_test key", "space"),
    "a tab inside": ("sk_test\tkey", "control character"),
    "a line end inside": ("sk_test\r\nX-Evil: 1", "control character"),
    "a NUL": ("sk_test\x00", "control character"),
    "non-ASCII": ("sk_test_clé", "ASCII"),
    "a lone surrogate": ("sk_test_\ud800", "ASCII"),
    "the scheme": ("Bearer sk_test_key", "'Bearer'"),
    "the scheme in small letters": ("bearer sk_test_key", "'Bearer'"),
    "bytes": (b"sk_test_key", "not bytes"),
    "a number": (7, "not int"),
}

BAD_URLS = {
    "empty": "",
    "no scheme": "calls.example.com",
    "no host": "https://",
    "another scheme": "ftp://calls.example.com",
    "a query": f"{URL}?a=b",
    "an empty query": f"{URL}?",
    "a fragment": f"{URL}#part",
    "a user": "https://me@calls.example.com",
    "a user and password": "https://me:secret@calls.example.com",
    "plain http": "http://calls.example.com",
    "plain http to an address": "http://10.0.0.1",
    "plain http to a look-alike": "http://localhost.example.com",
    "a space": "https://calls.example.com/a b",
    "a control character": f"{URL}/\n",
    "non-ASCII": "https://cälls.example.com",
    "a port that is none": f"{URL}:http",
    "a port that is too high": f"{URL}:65536",
    "a relative path": f"{URL}/a/../b",
    "a relative path, percent-encoded": f"{URL}/%2e%2e",
    "bytes": URL.encode(),
}

GOOD_URLS = [
    URL,
    f"{URL}/",
    f"{URL}:8443/gateway/calls",
    "http://127.0.0.1:8080",
    "http://localhost:8080/x",
    "http://[::1]:8080",
]

BAD_IDS = {
    "empty": "",
    "here": ".",
    "up": "..",
    "a control character": "call\n1",
    "a NUL": "call\x00",
    "a C1 control": "call\x85",
    "DEL": "call\x7f",
    "a lone surrogate": "call-\ud800",
    "too long": "x" * 513,
    "None": None,
    "a number": 7,
    "bytes": b"call-1",
    "a list": ["call-1"],
}

GOOD_IDS = ["a/b", "a?b", "a#b", "%2F", "%2e%2e", "...", "x" * 512, "é", "//host", "a b", ":"]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("CALLS_API_KEY", raising=False)
    monkeypatch.delenv("CALLS_BASE_URL", raising=False)


# --- Keys ----------------------------------------------------------------------------------------


def test_no_key_names_both_ways_to_give_one():
    """Argument and environment variable are both in the message."""
    with pytest.raises(ConfigurationError, match=r"api_key=.*CALLS_API_KEY"):
        CallsClient(base_url=URL)


@pytest.mark.parametrize(("key", "problem"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_bad_key_is_refused_when_the_client_is_made(key, problem):
    """The error says what is wrong with it, and never quotes it."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        CallsClient(key, base_url=URL)
    assert isinstance(caught.value, ValueError)
    assert not isinstance(key, str) or len(key) < 3 or key not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [key for key, _ in BAD_KEYS.values() if isinstance(key, str) and not {*key} & {*"\0\ud800"}],
)
def test_a_bad_key_in_the_environment_is_refused(monkeypatch, key):
    """The variable is held to the same rule, and the message names it."""
    monkeypatch.setenv("CALLS_API_KEY", key)
    with pytest.raises(ConfigurationError, match="CALLS_API_KEY"):
        CallsClient(base_url=URL)


@pytest.mark.parametrize(("key", "problem"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
@in_virtual_time
async def test_a_bad_key_from_a_provider_is_refused_before_anything_is_sent(key, problem):
    """What a provider gives is held to the same rule."""
    transport = FakeTransport()
    async with fake_client(transport, api_key=lambda: key) as client:
        with pytest.raises(ConfigurationError, match=problem):
            await client.get_call("call-1")
        mixed = await client.gather_calls(["a", "b"], return_exceptions=True)
    assert [type(error) for error in mixed] == [ConfigurationError] * 2
    assert len(transport.ledger) == 0


# --- Base URLs -----------------------------------------------------------------------------------


def test_no_base_url_names_both_ways_to_give_one():
    """There is no default: argument and environment variable are both in the message."""
    with pytest.raises(ConfigurationError, match=r"base_url=.*CALLS_BASE_URL"):
        CallsClient(KEY)


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS.keys())
def test_a_bad_base_url_is_refused_when_the_client_is_made(url):
    """The error names the option, and shows no password."""
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        CallsClient(KEY, base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [url for url in BAD_URLS.values() if isinstance(url, str)])
def test_a_bad_base_url_in_the_environment_is_refused(monkeypatch, url):
    """The variable is held to the same rule, and the message names it."""
    monkeypatch.setenv("CALLS_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="CALLS_BASE_URL"):
        CallsClient(KEY)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_base_url_is_taken(url):
    """Path prefixes, ports and loopback hosts are fine."""
    assert CallsClient(KEY, base_url=url)._config.base_url == url.rstrip("/")


# --- Ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call_id", BAD_IDS.values(), ids=BAD_IDS.keys())
@in_virtual_time
async def test_a_bad_id_is_refused_by_every_method_before_anything_is_sent(call_id):
    """`get_call`, `fetch_call` and `gather_calls` raise, a stream yields `Failed`."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        for attempt in (
            client.get_call(call_id),
            client.fetch_call(call_id),
            client.gather_calls([call_id]),
        ):
            with pytest.raises(InvalidCallIdError) as caught:
                await attempt
            assert isinstance(caught.value, ValueError)
            assert caught.value.attempts == 0
        (error,) = await client.gather_calls([call_id], return_exceptions=True)
        (outcome,) = [outcome async for outcome in client.stream_calls([call_id])]
        assert isinstance(outcome, Failed)
        assert type(outcome.error) is type(error) is InvalidCallIdError
        assert outcome.attempts == 0
        assert client.statistics().requests == 0
    assert len(transport.ledger) == 0


@pytest.mark.parametrize("call_id", GOOD_IDS)
async def test_an_odd_id_is_sent_as_it_is(calls_client, calls_sandbox, call_id):
    """What can be one segment of a path is no bad input: the server sees this very id."""
    assert (await calls_client.gather_calls([call_id]))[0].id == call_id
    (entry,) = calls_sandbox.ledger.entries
    assert entry.call_id == call_id
    assert entry.path.removeprefix("/v1/calls/").isascii()
    assert "/" not in entry.path.removeprefix("/v1/calls/")


# --- The rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headers", {"Authorization": "Bearer other"}),
        ("headers", {"X Y": "1"}),
        ("headers", {"X": "a\r\nY: b"}),
        ("headers", {"X": 1}),
        ("user_agent", "a\nb"),
        ("user_agent", ""),
        ("proxy", "socks5://proxy.example.com"),
        ("hooks", print),
        ("hooks", [None]),
        ("retry", None),
        ("timeouts", 5),
        ("limits", 64),
        ("trust_env", "yes"),
        ("session", object()),
        ("ssl", True),
    ],
)
async def test_a_bad_option_is_refused_when_the_client_is_made(name, value):
    """The error names the option, from the constructor as from `gather_calls`."""
    with pytest.raises(ConfigurationError, match=name):
        CallsClient(KEY, base_url=URL, **{name: value})
    with pytest.raises(ConfigurationError, match=name):
        await gather_calls(["a"], api_key=KEY, base_url=URL, **{name: value})


@pytest.mark.parametrize(
    ("policy", "option", "value"),
    [
        (RetryPolicy, "max_attempts", 0),
        (RetryPolicy, "backoff_factor", 0.5),
        (RetryPolicy, "stop", 3),
        (Timeouts, "attempt", 0),
        (Timeouts, "total", float("nan")),
        (Limits, "max_concurrency", 0),
        (Limits, "max_rate", 0),
        (Limits, "patience", -1),
    ],
)
def test_a_bad_policy_is_refused_when_it_is_made(policy, option, value):
    """A policy that cannot work names its option at once."""
    with pytest.raises(ConfigurationError, match=rf"{policy.__name__}\({option}="):
        policy(**{option: value})


def test_the_sandboxs_key_is_a_good_one():
    """The key of the examples passes the rule that these tests are about."""
    CallsClient(SANDBOX_KEY, base_url=URL)
