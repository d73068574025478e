"""A client travels as its configuration, and the key never travels with it."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import ssl

import aiohttp
import pytest

from calls_async import CallsClient, ConfigurationError, Limits, RetryPolicy, Timeouts
from tests.kit import run_python

KEY = "sk_test_0123456789secret"
URL = "https://calls.example.com/gateway"
EVERYTHING = {
    "retry": RetryPolicy(max_attempts=2, backoff_base=0.5),
    "timeouts": Timeouts(attempt=1.0, total=5.0),
    "limits": Limits(max_concurrency=7, max_rate=12.5, patience=60.0, max_body_bytes=2048),
    "proxy": "http://proxy.example.com:3128",
    "trust_env": True,
    "allow_http": True,
    "headers": {"X-Team": "sales"},
    "user_agent": "my-worker/1",
    "hooks": (print,),
}
OWN_PACE = "of the sales team"


class Pace:
    """A user's own `FleetPace`, which is its name."""

    def __init__(self, name):
        self.name = name

    async def reserve(self, most): ...

    async def park(self, seconds): ...

    async def close(self): ...

    def __eq__(self, other):
        return self.name == other.name

    __hash__ = None


class BoundPace(Pace):
    """One that cannot leave its process."""

    def __reduce__(self):
        raise TypeError("the password is hunter2")


provider = functools.partial(os.getenv, "MY_OWN_VARIABLE")
"""An importable provider, as the standard library makes them."""


@pytest.fixture
def environment(monkeypatch):
    """The other side, which has a key of its own."""
    monkeypatch.setenv("CALLS_API_KEY", "sk_test_of_the_other_side")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_configuration_comes_through_whole(protocol):
    """Every option is the same on the other side, and the key is the one that is there."""
    client = CallsClient(KEY, base_url=URL, pace=Pace(OWN_PACE), **EVERYTHING)
    data = pickle.dumps(client, protocol)
    assert b"secret" not in data
    there = pickle.loads(data)
    own = Pace(OWN_PACE)
    expected = CallsClient("sk_test_of_the_other_side", base_url=URL, pace=own, **EVERYTHING)
    assert there._config == expected._config
    assert there._config != client._config


def test_a_key_from_the_environment_does_not_travel_either(monkeypatch):
    """Wherever the key came from, it is in none of the bytes."""
    monkeypatch.setenv("CALLS_API_KEY", KEY)
    monkeypatch.setenv("CALLS_BASE_URL", URL)
    data = pickle.dumps(CallsClient())
    assert b"secret" not in data
    monkeypatch.setenv("CALLS_BASE_URL", "https://elsewhere.example.com")
    assert pickle.loads(data)._config.base_url == URL


def test_without_a_key_on_the_other_side_it_says_what_to_do(monkeypatch):
    """Unpickling where no key is configured is a `ConfigurationError` that names both ways."""
    monkeypatch.delenv("CALLS_API_KEY", raising=False)
    data = pickle.dumps(CallsClient(KEY, base_url=URL))
    with pytest.raises(ConfigurationError, match=r"api_key.*CALLS_API_KEY"):
        pickle.loads(data)


def test_an_importable_provider_travels(monkeypatch):
    """A provider is named in the pickle and asked on the other side; the environment is not."""
    monkeypatch.delenv("CALLS_API_KEY", raising=False)
    there = pickle.loads(pickle.dumps(CallsClient(provider, base_url=URL)))
    monkeypatch.setenv("MY_OWN_VARIABLE", KEY)
    assert there._config.source() == KEY


@pytest.mark.usefixtures("environment")
def test_a_child_travels_with_its_own_policies():
    """What `with_options` gives pickles as a client of its own with those policies."""
    child = CallsClient(KEY, base_url=URL).with_options(retry=RetryPolicy(max_attempts=9))
    there = pickle.loads(pickle.dumps(child))
    assert there._config.retry.max_attempts == 9
    assert there._owns_core


@pytest.mark.usefixtures("environment")
def test_copies_are_made_in_the_same_way():
    """`copy` gives a client of its own, by the same rule."""
    client = CallsClient(KEY, base_url=URL, user_agent="me")
    for twin in (copy.copy(client), copy.deepcopy(client)):
        assert twin._core is not client._core
        assert twin._config.user_agent == "me"


class Subclass(CallsClient):
    """A user's own client."""


@pytest.mark.usefixtures("environment")
def test_a_subclass_stays_one():
    """The class travels too."""
    assert type(pickle.loads(pickle.dumps(Subclass(KEY, base_url=URL)))) is Subclass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl", ssl.create_default_context()),
        ("hooks", [lambda _: None]),
        ("retry", RetryPolicy(stop=lambda _: True)),
        ("api_key", lambda: KEY),
        ("pace", BoundPace(OWN_PACE)),
    ],
)
def test_what_cannot_travel_is_named(name, value):
    """The error names the option, tells what to do, and chains nothing that could show a key."""
    client = CallsClient(**{"api_key": KEY, "base_url": URL, name: value})
    with pytest.raises(ConfigurationError, match=rf"CallsClient\({name}=...\)") as caught:
        pickle.dumps(client)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


async def test_a_session_cannot_travel():
    """An injected session belongs to this process, and the error says so."""
    async with aiohttp.ClientSession() as session:
        client = CallsClient(KEY, base_url=URL, session=session)
        with pytest.raises(ConfigurationError, match="session"):
            pickle.dumps(client)


OTHER_SIDE = """
import asyncio, pickle, sys

client = pickle.loads(sys.stdin.buffer.read())

async def main():
    async with client:
        print((await client.get_call("a")).id, client.statistics().requests)

asyncio.run(main())
"""


async def test_another_process_fetches_with_it(calls_sandbox):
    """A client that was used here is sent elsewhere, opens its own connections, and fetches."""
    base_url = calls_sandbox.base_url
    async with CallsClient(calls_sandbox.api_key, base_url=base_url) as client:
        await client.get_call("here")
        data = pickle.dumps(client)
    done = await run_python(OTHER_SIDE, stdin=data, CALLS_API_KEY=calls_sandbox.api_key)
    assert done == (0, "a 1\n", "")
    assert [entry.fresh for entry in calls_sandbox.ledger.entries] == [True, True]
