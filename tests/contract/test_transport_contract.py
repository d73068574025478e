"""One contract, three transports: the fake one, and the lane and the session before a real server.

Where the fake gave anything that the real ones do not give, tests over it would prove nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from calls_async._secret import ApiKey
from calls_async._transport import LaneTransport, SessionTransport
from calls_async._wire import Answer
from calls_async.errors import ConnectError, ProtocolError, TransportError
from calls_async.testing import (
    PERMANENT_FAULTS,
    SANDBOX_KEY,
    TRANSIENT_FAULTS,
    FakeTransport,
    Fault,
    Sandbox,
    make_record,
    record_body,
)
from tests.waiting import until

KEY = ApiKey(SANDBOX_KEY)
BREAKS = (Fault.reset, Fault.close, Fault.cut, Fault.garbage)
ANSWERS = [
    fault
    for fault in (*TRANSIENT_FAULTS, *PERMANENT_FAULTS, Fault.status(401), Fault.status(302))
    if fault.breaks is None and not fault.delay
]


REAL = {"lane": LaneTransport, "session": SessionTransport}


@pytest.fixture(params=["fake", *REAL])
async def connect(request):
    """Opens a transport and the endpoint that it asks, with the endpoint's options."""
    async with AsyncExitStack() as stack:

        async def opened(**options):
            if request.param == "fake":
                fake = FakeTransport(**options)
                stack.push_async_callback(fake.close)
                return fake, fake
            sandbox = await stack.enter_async_context(Sandbox(**options))
            real = REAL[request.param](
                base_url=sandbox.base_url, max_body_bytes=1 << 20, headers={}, user_agent="contract"
            )
            stack.push_async_callback(real.close)
            return real, sandbox

        yield opened


async def make_unreachable(endpoint):
    if isinstance(endpoint, FakeTransport):
        endpoint.reachable = False
    else:
        await endpoint.stop()


async def test_a_healthy_id_is_answered_with_its_record(connect):
    """The answer is a 200 with the body as sent, and the ledger has this one request."""
    transport, endpoint = await connect()
    answer = await transport.get("call-1", KEY)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, record_body("call-1"))
    (entry,) = endpoint.ledger.entries
    assert (entry.call_id, entry.status, entry.key_accepted) == ("call-1", 200, True)
    assert entry.path == "/v1/calls/call-1"
    assert answer.headers["x-request-id"] == entry.request_id


@pytest.mark.parametrize("call_id", ["a/b", "a b?c#d", "%2F", "..a", "ü/日本", "//host", "a+b&c=d"])
async def test_an_odd_id_arrives_as_it_is(connect, call_id):
    """An id is one segment of the path, whatever its characters, and comes back in the record."""
    transport, endpoint = await connect()
    answer = await transport.get(call_id, KEY)
    assert orjson.loads(answer.body) == make_record(call_id)
    (entry,) = endpoint.ledger.entries
    assert entry.call_id == call_id
    assert entry.path.isascii()
    assert entry.path.count("/") == 3


async def test_header_fields_are_found_in_any_case_and_repeated_ones_are_kept_apart(connect):
    """What RFC 9110 says of fields holds for both."""
    twice = Fault(name="twice", headers=(("X-Hint", "one"), ("x-hint", "two")))
    transport, _ = await connect(faults={"call-1": twice})
    answer = await transport.get("call-1", KEY)
    assert answer.headers.getall("X-HINT") == ["one", "two"]
    assert answer.headers.get("X-Request-ID") == answer.headers["x-request-id"]
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("fault", ANSWERS, ids=str)
async def test_a_fault_that_is_an_answer_comes_back_as_that_answer(connect, fault):
    """Status, header fields and body are the fault's; nothing is followed, retried or judged."""
    transport, endpoint = await connect(faults={"call-1": fault})
    answer = await transport.get("call-1", KEY)
    assert isinstance(answer, Answer)
    assert answer.status == fault.code
    assert answer.body == (fault.body if isinstance(fault.body, bytes) else fault.body("call-1"))
    assert all(answer.headers[name] == value for name, value in fault.headers)
    assert endpoint.ledger.by_fault == {fault.name: 1}


@pytest.mark.parametrize("fault", BREAKS, ids=str)
async def test_a_fault_that_breaks_the_answer_comes_back_as_a_protocol_error(connect, fault):
    """A lost, cut or garbled answer is one kind of value, worth another try."""
    transport, _ = await connect(faults={"call-1": [fault]})
    error = await transport.get("call-1", KEY)
    assert type(error) is ProtocolError
    assert error.retryable
    assert SANDBOX_KEY not in f"{error!r} {error}"
    assert (await transport.get("call-1", KEY)).status == 200


@pytest.mark.parametrize("fault", BREAKS, ids=str)
async def test_a_request_is_sent_once_whatever_becomes_of_it(connect, fault):
    """There is no hidden second try, not even on a connection that was used before."""
    transport, endpoint = await connect(faults={"call-1": [fault]})
    await transport.get("call-2", KEY)
    await transport.get("call-1", KEY)
    assert endpoint.ledger.requests_of("call-1") == 1
    assert endpoint.ledger.by_status == {200: 1, None: 1}


async def test_without_a_server_it_is_a_connect_error(connect):
    """What cannot be opened is told apart from what was lost, and is on nobody's ledger."""
    transport, endpoint = await connect()
    await make_unreachable(endpoint)
    error = await transport.get("call-1", KEY)
    assert type(error) is ConnectError
    assert len(endpoint.ledger) == 0


async def test_an_unknown_key_is_answered_with_401(connect):
    """The transport carries the key that it is given, and leaves the judgement to the caller."""
    transport, endpoint = await connect()
    answer = await transport.get("call-1", ApiKey("sk_test_stranger"))
    assert answer.status == 401
    assert [entry.key_accepted for entry in endpoint.ledger.entries] == [False]


async def test_above_the_rate_it_is_a_429_with_the_time_to_come_back(connect):
    """The limit's header fields arrive."""
    transport, _ = await connect(max_rate=0.001, burst=1, announce=True)
    admitted, denied = [await transport.get("call-1", KEY) for _ in range(2)]
    assert (admitted.status, denied.status) == (200, 429)
    assert 990 <= int(denied.headers["Retry-After"]) <= 1000
    assert denied.headers["RateLimit-Policy"] == '"sandbox";q=1;w=1000'
    assert all(
        answer.headers["RateLimit"].startswith('"sandbox";r=0;t=') for answer in (admitted, denied)
    )


@pytest.mark.parametrize("fault", [Fault.stall, Fault.freeze, Fault.slow(3600)], ids=str)
async def test_a_cancelled_request_leaves_nothing_in_flight(connect, fault):
    """The cancellation passes at once, and neither a task nor a connection in use is left."""
    transport, endpoint = await connect(faults={"call-1": fault})
    tasks = asyncio.all_tasks()
    request = asyncio.create_task(transport.get("call-1", KEY))
    await until(lambda: endpoint.ledger.in_flight == 1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await until(lambda: endpoint.ledger.in_flight == 0)
    await until(lambda: len(asyncio.all_tasks()) <= len(tasks))
    assert (await transport.get("call-2", KEY)).status == 200


@pytest.mark.parametrize("fault", [Fault.stall, Fault.freeze, Fault.slow(3600)], ids=str)
async def test_closing_ends_the_requests_in_flight_with_an_error(connect, fault):
    """Nobody waits for an answer that cannot come any more."""
    transport, endpoint = await connect(faults={"call-1": fault})
    request = asyncio.create_task(transport.get("call-1", KEY))
    await until(lambda: endpoint.ledger.in_flight == 1)
    await transport.close()
    async with asyncio.timeout(10):
        assert isinstance(await request, TransportError)
    await until(lambda: endpoint.ledger.in_flight == 0)


async def test_closing_twice_or_unused_does_no_harm(connect):
    """There need not be anything to close."""
    transport, endpoint = await connect()
    await transport.close()
    await transport.close()
    assert len(endpoint.ledger) == 0


async def test_a_fresh_request_is_known_as_one(connect):
    """Only what asked for it comes over a connection of its own, once one is open."""
    transport, endpoint = await connect()
    await transport.get("warm-up", KEY)
    for fresh in (False, True, False):
        await transport.get("call-1", KEY, fresh=fresh)
    assert [entry.fresh for entry in endpoint.ledger.entries[1:]] == [False, True, False]


async def test_many_requests_at_once_each_get_their_own_answer(connect):
    """Answers are not mixed up, and what was in flight is over at the end."""
    transport, endpoint = await connect()
    ids = [f"call-{number}" for number in range(50)]
    answers = await asyncio.gather(*(transport.get(call_id, KEY) for call_id in ids))
    assert [orjson.loads(answer.body)["id"] for answer in answers] == ids
    assert (len(endpoint.ledger), endpoint.ledger.in_flight) == (50, 0)


# --- Relays --------------------------------------------------------------------------------------


async def test_a_relay_shows_each_record_and_gives_the_last_one(connect):
    """One request for each id that is named, in that order."""
    transport, endpoint = await connect()
    named, seen = iter(["call-2", "a/b", None]), []
    answer = await transport.relay("call-1", KEY, lambda came: seen.append(came) or next(named))
    assert [came.body for came in seen] == [*map(record_body, ("call-1", "call-2", "a/b"))]
    assert (answer.status, answer.body) == (200, record_body("a/b"))
    assert [entry.call_id for entry in endpoint.ledger.entries] == ["call-1", "call-2", "a/b"]
    assert all(entry.key_accepted for entry in endpoint.ledger.entries)


@pytest.mark.parametrize("fault", [*ANSWERS, *BREAKS], ids=str)
async def test_what_is_no_200_ends_a_relay_unseen(connect, fault):
    """It comes back as from `get`, whatever it is."""
    transport, endpoint = await connect(faults={"call-1": fault})
    alone = await transport.get("call-1", KEY)
    named, seen = iter(["call-1", None]), []
    came = await transport.relay("call-0", KEY, lambda came: seen.append(came.body) or next(named))
    assert type(came) is type(alone)
    if isinstance(alone, Answer):
        assert (came.status, came.body) == (alone.status, alone.body)
    unseen = not isinstance(alone, Answer) or alone.status != 200
    assert seen == [record_body("call-0")] if unseen else seen[:1] == [record_body("call-0")]
    assert endpoint.ledger.requests_of("call-0") == 1
