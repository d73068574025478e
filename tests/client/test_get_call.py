"""One call through the public client: the record or a typed error, within its time."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from calls_async import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    DecodeError,
    Fetched,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    StoppedBy,
    structure_call,
)
from calls_async.testing import FakeTransport, Fault, fake_client, make_record, record_body
from tests.kit import in_virtual_time

ID = "123e4567-e89b-12d3-a456-426614174000"


async def test_get_call_returns_the_record_asked_for(calls_client):
    """The record that comes back over a real socket is the one with this id, structured."""
    assert await calls_client.get_call(ID) == structure_call(make_record(ID))


async def test_fetch_call_returns_the_record_as_received_and_what_it_took(
    calls_client, calls_sandbox
):
    """`Fetched` carries the body's bytes, the attempts and the server's request id."""
    calls_sandbox.faults = {ID: [Fault.status(500)]}
    outcome = await calls_client.fetch_call(ID)
    assert isinstance(outcome, Fetched)
    assert outcome.raw == record_body(ID)
    assert (outcome.id, outcome.index, outcome.attempts) == (ID, 0, 2)
    assert outcome.request_id == calls_sandbox.ledger.entries[-1].request_id
    assert outcome.elapsed > 0.0


@pytest.mark.parametrize(
    "call_id",
    ["a/b", "a?b=c", "a#b", "%2F", "a%2Fb", "a b", "a+b", "é🙂", "...", "//host", "~:@&="],
)
async def test_any_text_is_one_segment_of_the_path(calls_client, calls_sandbox, call_id):
    """The server receives exactly the id that was given, as one percent-encoded segment."""
    call = await calls_client.get_call(call_id)
    (entry,) = calls_sandbox.ledger.entries
    assert call.id == entry.call_id == call_id
    assert entry.path == f"/v1/calls/{quote(call_id, safe='')}"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(404), NotFoundError),
        (Fault.status(410), NotFoundError),
        (Fault.status(403), PermissionDeniedError),
        (Fault.status(501), ServerError),
        (Fault.bad_record, DecodeError),
    ],
)
@in_virtual_time
async def test_a_failure_that_repeats_is_raised_at_once(fault, error):
    """A final failure takes one request, and the error says which call and why no other try."""
    transport = FakeTransport(faults={ID: fault})
    async with fake_client(transport) as client:
        with pytest.raises(error) as caught:
            await client.get_call(ID)
    assert len(transport.ledger) == 1
    assert caught.value.call_id == ID
    assert caught.value.attempts == 1
    assert caught.value.stopped_by is StoppedBy.FINAL


@in_virtual_time
async def test_a_transient_failure_is_retried_until_the_attempts_are_spent():
    """What may pass is tried four times, and then its last failure is raised."""
    transport = FakeTransport(faults={ID: Fault.status(502)})
    async with fake_client(transport) as client:
        with pytest.raises(ServerError) as caught:
            await client.get_call(ID)
        assert client.statistics().retries == 3
    assert len(transport.ledger) == caught.value.attempts == 4
    assert caught.value.stopped_by is StoppedBy.ATTEMPTS


@in_virtual_time
async def test_another_calls_record_is_asked_for_again_once_on_a_fresh_connection():
    """A foreign record never reaches the user: one more try, then a `MismatchedCallError`."""
    transport = FakeTransport(faults={"once": [Fault.wrong_id], "always": Fault.wrong_id})
    async with fake_client(transport) as client:
        assert (await client.get_call("once")).id == "once"
        with pytest.raises(MismatchedCallError):
            await client.get_call("always")
    assert [entry.fresh for entry in transport.ledger.entries] == [False, True, False, True]


@in_virtual_time
async def test_the_time_of_a_call_includes_everything():
    """`timeout=` replaces `Timeouts.total`, and ends the call to the second."""
    async with fake_client(FakeTransport(faults={ID: Fault.stall})) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.get_call(ID, timeout=3.5)
    assert asyncio.get_running_loop().time() == pytest.approx(3.5)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.stopped_by is StoppedBy.DEADLINE


@in_virtual_time
async def test_a_server_that_asks_for_more_than_the_cap_is_not_waited_for():
    """Past `max_server_wait` a single call fails at once and says when to come back."""
    fault = Fault.status(429, headers={"Retry-After": "121"})
    async with fake_client(FakeTransport(faults={ID: fault})) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.get_call(ID, timeout=1000)
        assert client.statistics().cool_down == pytest.approx(121)
    assert asyncio.get_running_loop().time() == 0.0
    assert caught.value.retry_after == 121
    assert caught.value.stopped_by is StoppedBy.SERVER_WAIT


@in_virtual_time
async def test_a_parked_call_fails_before_it_waits_in_vain():
    """A call whose time ends before the gate opens fails at once, unsent."""
    transport = FakeTransport(
        faults={"throttled": [Fault.status(429, headers={"Retry-After": "60"})]}
    )
    async with fake_client(transport) as client, asyncio.TaskGroup() as group:
        first = group.create_task(client.get_call("throttled", timeout=100))
        await asyncio.sleep(1)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.get_call(ID)
        assert asyncio.get_running_loop().time() == 1.0
        assert caught.value.attempts == 0
    assert first.result().id == "throttled"


@in_virtual_time
async def test_a_provider_is_asked_again_after_a_401():
    """A key that rotates under a running client costs one request, not the call."""
    keys = iter(["sk_test_old", "sk_test_new"])
    transport = FakeTransport(api_keys=["sk_test_new"])
    async with fake_client(transport, api_key=lambda: next(keys)) as client:
        assert (await client.get_call(ID)).id == ID
        assert (await client.get_call("other")).id == "other"
    assert [entry.key_accepted for entry in transport.ledger.entries] == [False, True, True]


@in_virtual_time
async def test_a_refused_key_is_an_error_that_does_not_hold_it():
    """A 401 is final, and the key is nowhere in what is raised."""
    async with fake_client(FakeTransport(), api_key="sk_test_wrong") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.get_call(ID)
    assert caught.value.stopped_by is StoppedBy.KEY_REFUSED
    assert "wrong" not in f"{caught.value!r} {caught.value} {vars(caught.value)}"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
@in_virtual_time
async def test_a_time_limit_that_is_none_is_refused(timeout):
    """`timeout=` is a finite number of seconds above zero; nothing is sent otherwise."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        for method in (client.get_call, client.fetch_call):
            with pytest.raises(ConfigurationError, match="timeout"):
                await method(ID, timeout=timeout)
    assert len(transport.ledger) == 0
