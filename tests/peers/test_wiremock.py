"""Against WireMock: faults of the socket, delays, statuses, scenarios; its journal is the count."""

from __future__ import annotations

import asyncio

import pytest

from calls_async import (
    AttemptTimeoutError,
    AuthenticationError,
    CallsClient,
    CallsError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
    TLSError,
)
from calls_async.errors import TRANSIENT_STATUSES, StoppedBy
from tests.kit import call_ids
from tests.peers.cases import KEY
from tests.peers.process import happens
from tests.peers.wiremock import BRIEFLY, FAULTS, STATUSES, missing, running

pytestmark = pytest.mark.peer

BRIEF = Timeouts(attempt=2.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One WireMock for the module: it takes seconds to start."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("wiremock")) as wiremock:
        yield wiremock


@pytest.fixture
def wiremock(server):
    """The same with an empty journal; what is asked for in a test, a stub must be for."""
    server.reset()
    yield server
    assert server.unmatched() == 0


def client_of(wiremock, **options):
    """A client that hardly waits between its attempts."""
    retry = RetryPolicy(backoff_base=0.01, throttle_backoff_base=0.01, max_throttled_attempts=2)
    return CallsClient(KEY, base_url=wiremock.url, **{"retry": retry, **options})


async def failure_of(wiremock, call_id, **options):
    """What one call fails with, which the journal must have as often as it says."""
    async with client_of(wiremock, **options) as client:
        with pytest.raises(CallsError) as caught:
            await client.get_call(call_id)
        requests = client.statistics().requests
    error = caught.value
    assert happens(lambda: wiremock.requests_of(call_id) >= requests)
    assert wiremock.journal() == {f"/v1/calls/{call_id}": error.attempts}
    assert requests == error.attempts
    return error


@pytest.mark.parametrize("fault", [fault.lower() for fault in FAULTS])
async def test_a_fault_of_the_socket_that_stays(wiremock, fault):
    """It is told as what it is after four attempts, each of which the journal has."""
    error = await failure_of(wiremock, f"always-{fault}", timeouts=BRIEF)
    kinds = {ProtocolError}
    if fault == "malformed_response_chunk":
        kinds.add(AttemptTimeoutError)  # see tests/edges/test_late_garbage.py
    assert type(error) in kinds
    assert (error.attempts, error.stopped_by) == (4, StoppedBy.ATTEMPTS)


@pytest.mark.parametrize("fault", [fault.lower() for fault in FAULTS])
async def test_a_fault_of_the_socket_that_passes(wiremock, fault):
    """The third attempt brings the record, and there were two before it."""
    call_id = f"twice-{fault}"
    async with client_of(wiremock, timeouts=BRIEF) as client:
        fetched = await client.fetch_call(call_id)
        requests = client.statistics().requests
    assert (fetched.call.id, fetched.attempts) == (call_id, 3)
    assert wiremock.requests_of(call_id) == requests == 3


async def test_faults_among_many(wiremock):
    """A batch brings all records, and its retries are those that the scenarios call for."""
    flaky = [f"twice-{fault.lower()}" for fault in FAULTS]
    ids = [*call_ids(150), *flaky, *(f"late-{number}" for number in range(150))]
    async with client_of(wiremock, timeouts=BRIEF) as client:
        calls = await client.gather_calls(ids)
        requests = client.statistics().requests
    assert [call.id for call in calls] == ids
    journal = wiremock.journal()
    assert journal.total() == requests == 300 + 3 * len(flaky)
    assert {journal[f"/v1/calls/{call_id}"] for call_id in flaky} == {3}


@pytest.mark.parametrize("status", BRIEFLY)
async def test_a_status_that_passes(wiremock, status):
    """The second attempt brings the record, not before the server asked for it."""
    began = asyncio.get_running_loop().time()
    async with client_of(wiremock) as client:
        fetched = await client.fetch_call(f"briefly-{status}")
    took = asyncio.get_running_loop().time() - began
    assert fetched.attempts == wiremock.requests_of(f"briefly-{status}") == 2
    assert took >= (0.0 if status == 500 else 1.0)  # what it asked for is a bound of the machine's


SPECIAL = {
    301: RedirectError,
    304: RedirectError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    429: RateLimitedError,
}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_that_stays(wiremock, status):
    """It is an error of its family, tried again only if that may help."""
    policy = RetryPolicy(
        max_attempts=2, backoff_base=0.0, max_throttled_attempts=2, throttle_backoff_base=0.0
    )
    error = await failure_of(wiremock, f"status-{status}", retry=policy)
    default = ServerError if status >= 500 else StatusError
    assert type(error) is SPECIAL.get(status, default)
    assert error.status == status
    assert error.attempts == (2 if status in TRANSIENT_STATUSES else 1)


@pytest.mark.parametrize("call_id", ["page", "bad-utf8"])
async def test_a_200_that_is_no_document(wiremock, call_id):
    """A portal's page and broken text are tried again, and never a call."""
    error = await failure_of(wiremock, call_id)
    assert type(error) is DecodeError
    assert (error.attempts, error.document_readable) == (4, False)


@pytest.mark.parametrize("call_id", ["elsewhere", "loop"])
async def test_a_redirect_is_not_followed(wiremock, call_id):
    """The journal has the one request."""
    error = await failure_of(wiremock, call_id)
    assert type(error) is RedirectError
    assert error.attempts == 1


@pytest.mark.parametrize("call_id", ["lognormal", "uniform", "dribble"])
async def test_an_answer_that_takes_its_time(wiremock, call_id):
    """As long as it is within the attempt's time, it is waited for, in one attempt."""
    async with client_of(wiremock) as client:
        fetched = await client.fetch_call(call_id)
    assert (fetched.call.id, fetched.attempts) == (call_id, 1)
    assert wiremock.requests_of(call_id) == 1


@pytest.mark.parametrize("call_id", ["dribble", "stall"])
async def test_an_answer_that_takes_too_long(wiremock, call_id):
    """The attempt's time ends it, in the body as before the head."""
    error = await failure_of(wiremock, call_id, timeouts=Timeouts(attempt=0.3, total=5.0))
    assert type(error) is AttemptTimeoutError
    assert error.attempts == 4


async def test_each_id_gets_its_own_record(wiremock):
    """WireMock echoes the id that it read; a thousand come back in their order."""
    ids = call_ids(1000)
    async with client_of(wiremock) as client:
        calls = await client.gather_calls(ids)
        requests = client.statistics().requests
    assert [call.id for call in calls] == ids
    assert wiremock.journal().total() == requests == 1000


async def test_a_key_that_is_refused(wiremock):
    """A batch stops: what was on its way got its 401, the rest is not sent."""
    async with CallsClient("sk_test_nobody", base_url=wiremock.url) as client:
        errors = await client.gather_calls(call_ids(500), return_exceptions=True)
        requests = client.statistics().requests
    assert {type(error) for error in errors} == {AuthenticationError}
    assert wiremock.journal().total() == requests <= 20


async def test_its_own_certificate(wiremock):
    """WireMock has signed it itself, so there is one attempt and no request."""
    url = f"https://127.0.0.1:{wiremock.secure}"
    async with CallsClient(KEY, base_url=url) as client:
        with pytest.raises(TLSError) as failure:
            await client.get_call("call-1")
    assert failure.value.attempts == 1
    assert wiremock.journal().total() == 0
