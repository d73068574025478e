"""The client under aioresponses, for users who mock: docs/how-to/aioresponses.md shows the same."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses
from yarl import URL

from calls_async import (
    AttemptTimeoutError,
    CallsClient,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    RetryPolicy,
    structure_call,
    unstructure_call,
)
from tests.documents import example

BASE = "https://calls.example.com"
ONE = f"{BASE}/v1/calls/call-1"


# The part between the two lines is what users copy from the page.
# --- copied ---
class MockedResponse(aiohttp.ClientResponse):
    """A response that aioresponses can make on aiohttp 3.14."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def mocked(monkeypatch):
    monkeypatch.setattr("aioresponses.core.ClientResponse", MockedResponse)
    with aioresponses() as mock:
        yield mock


# --- end of the copied part ---


def document(call_id="call-1"):
    """A whole record as the server would send it."""
    return example() | {"id": call_id}


def client_of(**options):
    """A client that retries without waiting."""
    return CallsClient("sk_test_1", base_url=BASE, retry=RetryPolicy(backoff_base=0), **options)


def test_the_page_shows_what_is_tested():
    """The helper on the how-to page is this very one, to the letter."""
    here = Path(__file__).read_text("utf-8")
    helper = here.split("# --- copied ---\n")[1].split("\n\n\n# --- end of the copied part")[0]
    page = Path(__file__).parents[2] / "docs" / "how-to" / "aioresponses.md"
    assert helper.strip() in page.read_text("utf-8")


async def test_a_mocked_record_is_fetched(mocked):
    """A payload is answered, structured, and comes with its bytes."""
    mocked.get(ONE, payload=document(), headers={"x-request-id": "r-1"})
    async with client_of() as client:
        outcome = await client.fetch_call("call-1")
    assert outcome.call == structure_call(document())
    assert outcome.request_id == "r-1"


async def test_the_request_can_be_looked_at(mocked):
    """The mock sees the URL and the headers that the server would see."""
    mocked.get(re.compile(r".*"), payload=document("a/b"))
    async with client_of(headers={"X-Gateway": "7"}) as client:
        await client.get_call("a/b")
    (((method, url), [request]),) = mocked.requests.items()
    assert (method, url) == ("GET", URL(f"{BASE}/v1/calls/a%2Fb", encoded=True))
    assert request.kwargs["headers"]["Authorization"] == "Bearer sk_test_1"
    assert request.kwargs["headers"]["X-Gateway"] == "7"
    assert request.kwargs["allow_redirects"] is False


async def test_mocked_failures_are_retried(mocked):
    """Statuses and aiohttp's own exceptions are treated as if they were real."""
    mocked.get(ONE, status=500)
    mocked.get(ONE, exception=aiohttp.ServerDisconnectedError())
    mocked.get(ONE, timeout=True)
    mocked.get(ONE, payload=document())
    async with client_of() as client:
        outcome = await client.fetch_call("call-1")
        assert client.statistics().requests == outcome.attempts == 4


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"status": 404}, NotFoundError),
        ({"status": 302, "headers": {"Location": "/x"}}, RedirectError),
        ({"status": 429, "headers": {"Retry-After": "999"}}, RateLimitedError),
        ({"exception": aiohttp.ClientPayloadError("cut")}, ProtocolError),
        ({"timeout": True}, AttemptTimeoutError),
    ],
)
async def test_mocked_errors_are_ours(mocked, answer, kind):
    """What is mocked comes out as the error that the real thing would be."""
    mocked.get(ONE, repeat=True, **answer)
    async with client_of() as client:
        with pytest.raises(kind):
            await client.get_call("call-1")


async def test_many_mocked_records(mocked):
    """`gather_calls` over mocked answers, made from models of the user's own."""
    call = structure_call(document())
    mocked.get(ONE, payload=unstructure_call(call))
    mocked.get(f"{BASE}/v1/calls/call-2", payload=document("call-2"))
    async with client_of() as client:
        calls = await client.gather_calls(["call-1", "call-2", "call-1"])
    assert [fetched.id for fetched in calls] == ["call-1", "call-2", "call-1"]
    assert calls[0] == call


async def test_an_injected_session_is_mocked_too(mocked):
    """The mock replaces the requests of every session."""
    mocked.get(ONE, payload=document())
    async with aiohttp.ClientSession() as session, client_of(session=session) as client:
        assert (await client.get_call("call-1")).id == "call-1"
