"""Relays: in a healthy batch an answer sends what follows it, and nothing else is different."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from unittest.mock import AsyncMock, MagicMock, patch

import aiohttp
import pytest

from calls_async import (
    AuthenticationError,
    CallsClient,
    ClientClosedError,
    Failed,
    Fetched,
    Limits,
    RetryPolicy,
    Timeouts,
    _relay,
)
from calls_async._transport._choice import UnmockedLane
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time
from tests.rawserver import http, id_of, own, raw_server, record

KEY = "sk_test_of_the_relays"
ONE = Limits(max_concurrency=1)
IDS = call_ids(50)


def client_to(server, **options):
    """A client of this server's."""
    return CallsClient(options.pop("api_key", KEY), base_url=server.url, **options)


class Counted(FakeTransport):
    """A fake transport that counts its relays."""

    relays = 0

    async def relay(self, call_id, key, following):
        self.relays += 1
        return await super().relay(call_id, key, following)


# --- As long as all is ordinary ------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 7])
async def test_a_healthy_batch_is_one_relay_for_each_permit(monkeypatch, width):
    """Each has a connection of its own; every id is asked for once, and has its own record."""
    relays = []
    relay = UnmockedLane.relay
    monkeypatch.setattr(UnmockedLane, "relay", lambda *given: relays.append(1) or relay(*given))
    async with raw_server(own) as server:
        async with client_to(server, limits=Limits(max_concurrency=width)) as client:
            calls = await client.gather_calls(IDS)
            seen = client.statistics()
        assert [call.id for call in calls] == IDS
        assert len(server.requests) == len(IDS)
        assert server.connections == len(relays) == width
    assert (seen.requests, seen.fetched, seen.in_flight) == (len(IDS), len(IDS), 0)


async def test_each_call_of_a_relay_has_its_own_outcome():
    """Its index, its body, its request id and its own time, one attempt."""
    async with (
        raw_server(lambda exchange: http(own(exchange).partition(b"\r\n\r\n")[2],
                                         f"X-Request-Id: r-{exchange.number}")) as server,
        client_to(server, limits=ONE) as client,
        client.stream_calls(IDS) as outcomes,
    ):  # fmt: skip
        seen = [outcome async for outcome in outcomes]
    for index, (call_id, outcome) in enumerate(zip(IDS, seen, strict=True)):
        assert (outcome.id, outcome.index, outcome.call.id) == (call_id, index, call_id)
        assert (outcome.raw, outcome.request_id) == (record(call_id), f"r-{index + 1}")
        assert outcome.attempts == 1
    assert sum(outcome.elapsed for outcome in seen) < 60.0


@in_virtual_time
async def test_each_call_of_a_relay_has_its_own_time_limit():
    """A relay may take as long as it likes, as long as none of its calls does."""
    fake = Counted(latency=0.6)
    async with fake_client(fake, limits=ONE, timeouts=Timeouts(attempt=1.0, total=1.5)) as client:
        assert len(await client.gather_calls(IDS)) == len(IDS)
    assert asyncio.get_running_loop().time() == pytest.approx(0.6 * len(IDS))
    assert fake.relays == 1


class Unrelayed:
    """A transport that has no relays."""

    def __init__(self, transport):
        self.name, self.get, self.close = transport.name, transport.get, transport.close


@pytest.mark.parametrize("over", [FakeTransport, lambda **given: Unrelayed(FakeTransport(**given))])
@in_virtual_time
async def test_each_record_renews_the_patience_of_its_batch(over):
    """A failure long after the beginning is none too many where records came until then."""
    fake = over(latency=1.0, faults={"call-30": [Fault.status(500)]})
    async with fake_client(fake, limits=Limits(max_concurrency=1, patience=5.0)) as client:
        calls = await client.gather_calls(IDS)
    assert [call.id for call in calls] == IDS


PLACE = ContextVar("PLACE", default="nowhere")


async def test_a_source_is_pulled_in_the_context_of_its_batch():
    """Also from where an answer arrives: what it logs can tell whose it is."""
    seen = []

    def source():
        for call_id in IDS:
            seen.append(PLACE.get())
            yield call_id

    async with raw_server(own) as server, client_to(server, limits=ONE) as client:
        PLACE.set("the batch")
        async with client.stream_calls(source()) as outcomes:
            assert len([outcome async for outcome in outcomes]) == len(IDS)
    assert seen == ["the batch"] * len(IDS)


# --- What ends a relay ---------------------------------------------------------------------------


@in_virtual_time
async def test_a_call_that_fails_ends_its_relay_alone():
    """It is tried again on its own; those before it were handed on, and those behind it follow."""
    fake = Counted(faults={"call-7": [Fault.status(500)], "call-9": Fault.status(404)})
    async with fake_client(fake, limits=ONE) as client:
        outcomes = [outcome async for outcome in client.stream_calls(IDS)]
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(IDS)))
    attempts = {outcome.id: outcome.attempts for outcome in outcomes}
    assert {call_id for call_id in IDS if attempts[call_id] != 1} == {"call-7"}
    assert [outcome.id for outcome in outcomes if isinstance(outcome, Failed)] == ["call-9"]
    assert len(fake.ledger.entries) == len(IDS) + 1
    assert fake.relays < len(IDS) / 2


@in_virtual_time
async def test_a_call_that_takes_too_long_ends_its_relay_alone():
    """The limit is that of the call under way, and its error is of that call."""
    stalls = {"call-7": [Fault.stall], "call-9": Fault.stall}
    policy = RetryPolicy(max_attempts=2)
    fake = Counted(faults=stalls, latency=0.1)
    options = {"limits": ONE, "retry": policy, "timeouts": Timeouts(attempt=1.0, total=60.0)}
    async with fake_client(fake, **options) as client:
        outcomes = {outcome.id: outcome async for outcome in client.stream_calls(IDS)}
    assert [*sorted(outcomes)] == sorted(IDS)
    assert outcomes["call-7"].attempts == 2
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, Failed)]
    assert [outcome.error.call_id for outcome in failed] == ["call-9"]


@pytest.mark.parametrize("way", ["lane", "session"])
async def test_a_time_of_day_is_read_by_this_clock_where_the_answer_has_none(way):
    """As after a single request: the silence that a record asks for is from now until then."""
    session = aiohttp.ClientSession() if way == "session" else None
    until_then = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)

    def script(exchange):
        hint = [f"Retry-After: {until_then}"] if exchange.number == 3 else []
        return http(record(id_of(exchange)), *hint)

    async with (
        raw_server(script) as server,
        session or nullcontext(),
        client_to(server, session=session, limits=ONE) as client,
    ):
        await client.gather_calls(IDS[:3])
        assert 0.0 < client.statistics().cool_down <= 120.0


@in_virtual_time
async def test_a_wish_for_silence_ends_all_relays():
    """What is in flight comes in, and nobody starts before the silence is over."""
    wish = Fault(name="wish", code=200, headers=(("Retry-After", "20"),), body=_record)
    fake = Counted(faults={"call-7": wish}, latency=0.1)
    async with fake_client(fake, limits=Limits(max_concurrency=3)) as client:
        await client.gather_calls(IDS)
    asked = {entry.call_id: entry.at for entry in fake.ledger.entries}
    later = [at for at in asked.values() if at > asked["call-7"] + 0.15]
    assert later
    assert min(later) >= asked["call-7"] + 20.0


def _record(call_id):
    return record(call_id)


@in_virtual_time
async def test_a_new_key_ends_the_relays_that_carry_the_old_one():
    """After the renewal nothing is sent with a key that was refused."""
    first, second = "sk_test_of_the_first_key", "sk_test_of_the_second"
    keys, used = iter([first, second]), []

    class Locked(FakeTransport):
        async def get(self, call_id, key, headers=None, *, fresh=False):
            if call_id == "call-9":
                self.api_keys = (second,)
            used.append(key.authorization().removeprefix("Bearer "))
            came = await super().get(call_id, key, headers, fresh=fresh)
            if call_id == "call-8":  # which was let in, and comes when there is another key
                await asyncio.sleep(1.0)
            return came

    fake = Locked(latency=0.1, api_keys=(first,))
    limits = Limits(max_concurrency=3)
    async with fake_client(fake, api_key=lambda: next(keys), limits=limits) as client:
        assert len(await client.gather_calls(IDS)) == len(IDS)
    assert first not in used[used.index(second) :]
    assert used.count(first) > 9


@pytest.mark.parametrize("way", ["lane", "session"])
async def test_a_session_that_is_mocked_meanwhile_ends_the_relays(way):
    """It is asked before each request, also of a relay, whether a test has mocked it."""
    session = aiohttp.ClientSession() if way == "session" else None
    mock = AsyncMock()
    mock.return_value = MagicMock(status=404, headers={}, connection=None)
    mock.return_value.content.is_eof.return_value = True
    mock.return_value.content.read_nowait.return_value = b"{}"
    patched = patch.object(aiohttp.ClientSession, "get", mock)

    def script(exchange):
        if exchange.number == 3:
            patched.start()
        return own(exchange)

    try:
        async with (
            raw_server(script) as server,
            session or nullcontext(),
            client_to(server, session=session, limits=ONE) as client,
        ):
            assert client.statistics().transport == way
            calls = await client.gather_calls(IDS[:6], return_exceptions=True)
    finally:
        patched.stop()
    assert len(server.requests) == mock.await_count == 3
    assert [getattr(call, "id", None) for call in calls] == [*IDS[:3], None, None, None]


@in_virtual_time
async def test_closing_the_client_ends_its_relays():
    """What was handed on stays, what is in flight fails, and nothing more is sent."""
    fake = Counted(latency=1.0)
    client = fake_client(fake, limits=Limits(max_concurrency=2))
    batch = asyncio.ensure_future(client.gather_calls(IDS, return_exceptions=True))
    await asyncio.sleep(3.5)
    await client.close()
    results = await batch
    assert [type(result) is not ClientClosedError for result in results] == [
        *[True] * 6, *[False] * 44,
    ]  # fmt: skip
    assert len(fake.ledger.entries) == 8


@pytest.mark.parametrize("ended", ["by its limit", "by its caller"])
@in_virtual_time
async def test_who_is_ended_when_all_was_handed_on_has_lost_nothing(ended):
    """The time may be over in the very turn in which the last record was handed on."""

    class Slow(FakeTransport):
        async def relay(self, call_id, key, following):
            came = await super().relay(call_id, key, following)
            await asyncio.sleep(60.0)  # as if others kept the loop from going on
            return came

    fake = Slow(latency=0.1)
    timeouts = Timeouts(attempt=1.0, total=2.0)
    async with fake_client(fake, limits=ONE, timeouts=timeouts) as client:
        batch = asyncio.ensure_future(client.gather_calls(IDS[:5]))
        if ended == "by its caller":
            await asyncio.sleep(0.7)
            batch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await batch
        else:
            assert [call.id for call in await batch] == IDS[:5]
        seen = client.statistics()
    assert (seen.fetched, seen.failed, seen.requests, seen.in_flight) == (5, 0, 5, 0)


@pytest.mark.parametrize("kind", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_what_is_raised_where_an_answer_arrives_is_heard_by_the_batch(monkeypatch, kind):
    """It is raised where the caller waits, and not lost in the event loop."""
    assess = _relay.assess
    told, ended = [], []

    def broken(call_id, *others):
        if call_id == "call-3":
            raise kind("broken")
        return assess(call_id, *others)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with raw_server(own) as server, client_to(server, limits=ONE) as client:
            try:
                await client.gather_calls(IDS)
            finally:
                ended.append((client.statistics().in_flight, len(server.requests)))

    monkeypatch.setattr(_relay, "assess", broken)
    with pytest.raises(kind):
        asyncio.run(main())
    assert ended == [(0, 4)]
    # What the server of this test says of an interrupt is its own.
    assert not [context for context in told if "StreamReader" not in context["message"]]


@in_virtual_time
async def test_a_refused_key_ends_a_relay_and_its_batch():
    """Nothing is sent behind the refusal."""
    fake = Counted(faults={"call-5": Fault.status(401)}, latency=0.1)
    async with fake_client(fake, limits=ONE) as client:
        with pytest.raises(AuthenticationError):
            await client.gather_calls(IDS)
    assert len(fake.ledger.entries) == 6


@in_virtual_time
async def test_with_hooks_there_are_no_relays():
    """Each call has its events, which a relay would not tell."""
    fake, told = Counted(), []
    async with fake_client(fake, hooks=[told.append]) as client:
        await client.gather_calls(IDS)
    assert fake.relays == 0
    assert (
        sum(isinstance(event.outcome, Fetched) for event in told if hasattr(event, "outcome")) == 50
    )
