"""Against httpbin: bodies, encodings, statuses and echoes that no call has; none becomes a call."""

from __future__ import annotations

import base64
import json
import pickle
import traceback

import pytest

from calls_async import (
    AttemptTimeoutError,
    AuthenticationError,
    CallsClient,
    CallsError,
    DecodeError,
    MismatchedCallError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
)
from tests.documents import example
from tests.peers.httpbin import missing, running

pytestmark = pytest.mark.peer

SECRET = "Zq7Xw9Kd2Lm4Pv8Rt1Yb6Nc3Hf5Gj0"
KEY = f"sk_live_{SECRET}"
RUNS = {SECRET[at : at + 6] for at in range(len(SECRET) - 5)}
BRIEF = Timeouts(attempt=0.3, total=10.0)


@pytest.fixture(scope="module")
def httpbin(tmp_path_factory):
    """One httpbin for the module."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("httpbin")) as server:
        yield server


async def failure_of(httpbin, call_id, **options):
    """What a call fails with; httpbin saw as many requests as it counts, and it holds no key."""
    before = httpbin.answered(call_id)
    retry = RetryPolicy(backoff_base=0.0, max_throttled_attempts=2, throttle_backoff_base=0.0)
    async with CallsClient(KEY, base_url=httpbin.url, retry=retry, **options) as client:
        with pytest.raises(CallsError) as caught:
            await client.get_call(call_id)
        requests = client.statistics().requests
    error = caught.value
    assert error.attempts == requests
    assert httpbin.comes_to(before + requests, call_id)
    told = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error)
    told += pickle.dumps(error).decode("latin-1")
    assert not [run for run in RUNS if run in told]
    return error


@pytest.mark.parametrize(
    ("call_id", "kind", "attempts"),
    [
        ("status/201", StatusError, 1),
        ("status/302", RedirectError, 1),
        ("status/400", StatusError, 1),
        ("status/404", NotFoundError, 1),
        ("status/418", StatusError, 1),
        ("status/429", RateLimitedError, 2),
        ("status/500", ServerError, 4),
        ("status/501", ServerError, 1),
        ("basic-auth/user/password", AuthenticationError, 1),
        ("hidden-basic-auth/user/password", NotFoundError, 1),
        ("redirect/3", RedirectError, 1),
        ("relative-redirect/3", RedirectError, 1),
        ("absolute-redirect/3", RedirectError, 1),
        ("cookies/set/name/value", RedirectError, 1),
        ("nowhere/at/all", NotFoundError, 1),
    ],
)
async def test_statuses(httpbin, call_id, kind, attempts):
    """Each is an error of its family, tried again only if that may help."""
    error = await failure_of(httpbin, call_id)
    assert type(error) is kind
    assert error.attempts == attempts


@pytest.mark.parametrize(
    ("call_id", "again"),
    [
        ("json", False),
        ("get", False),
        ("headers", False),
        ("anything/else", False),
        ("uuid", False),
        ("gzip", False),
        ("deflate", False),
        ("delay/1", False),
        ("status/200", True),
        ("html", True),
        ("xml", True),
        ("deny", True),
        ("robots.txt", True),
        ("encoding/utf8", True),
        ("image/png", True),
        ("bytes/2048", True),
        ("stream-bytes/20000", True),
        ("range/1024", True),
        ("stream/3", True),
    ],
)
async def test_bodies_that_are_no_call(httpbin, call_id, again):
    """A JSON document of something else is final, what is none at all is tried again."""
    error = await failure_of(httpbin, call_id)
    assert type(error) is DecodeError
    assert error.document_readable is not again
    assert error.attempts == (4 if again else 1)


@pytest.mark.parametrize("call_id", ["bearer", "headers", "get", "anything/x"])
async def test_an_echoed_key(httpbin, call_id):
    """The answer shows it; it reaches nobody, while the rest of the body does."""
    error = await failure_of(httpbin, call_id)
    assert type(error) is DecodeError
    assert b"{" in error.raw
    assert SECRET.encode() not in error.raw


async def test_brotli_that_nobody_asked_for(httpbin):
    """Whether it can be read depends on what is installed; a call it is in no case."""
    assert type(await failure_of(httpbin, "brotli")) in {DecodeError, ProtocolError}


async def test_a_record_of_another_id(httpbin):
    """A whole and valid record is withheld, because it is not the one asked for."""
    nulls = ("startedAt", "endedAt", "contact", "phoneNumber", "caller", "callerPhoneNumber")
    required = list(example())[:11]
    document = example() | dict.fromkeys(nulls)  # an id has no room for more
    record = json.dumps({member: document[member] for member in required}).encode()
    # Without "=" at its end, which httpbin's log writes in another way than it came.
    encoded = base64.urlsafe_b64encode(record + b" " * (-len(record) % 3)).decode()
    error = await failure_of(httpbin, f"base64/{encoded}")
    assert type(error) is MismatchedCallError
    assert (error.received_id, error.attempts) == (example()["id"], 2)


@pytest.mark.parametrize("call_id", ["delay/1", "drip"])
async def test_answers_that_take_too_long(httpbin, call_id):
    """The attempt's time ends them, before the head as well as in the body."""
    error = await failure_of(httpbin, call_id, timeouts=BRIEF)
    assert type(error) is AttemptTimeoutError
    assert error.attempts == 4


async def test_a_cookie_is_not_kept(httpbin):
    """What one answer sets, no later request brings along."""
    async with CallsClient(KEY, base_url=httpbin.url) as client:
        with pytest.raises(RedirectError):
            await client.get_call("cookies/set/name/value")
        with pytest.raises(DecodeError) as failure:
            await client.get_call("cookies")
    assert json.loads(failure.value.raw) == {"cookies": {}}
