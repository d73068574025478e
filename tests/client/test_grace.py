"""`close(grace=...)`: no call begins any more, those under way end in time, and nothing is lost."""

from __future__ import annotations

import asyncio
import math

import pytest

from calls_async import (
    Call,
    CallsClient,
    ClientClosedError,
    ConfigurationError,
    Failed,
    Fetched,
    Limits,
    NotFoundError,
    RetryPolicy,
    StoppedBy,
)
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns
from tests.waiting import until

NARROW = Limits(max_concurrency=4)
WAIT_A_MINUTE = Fault.status(429, headers={"Retry-After": "60"})


def now():
    return asyncio.get_running_loop().time()


def is_quiet(client):
    """Whether nothing of it is left: no task, no timer, no permit, no wait."""
    scope, statistics = client._core.scope, client.statistics()
    left = (scope._waits, scope._pulls, scope._questions, scope._watchers, scope._children)
    return (
        not any(left)
        and not scope.busy
        and (statistics.in_flight, statistics.waiting) == (0, 0)
        and other_tasks() == set()
        and timers() == []
    )


async def read(stream, outcomes):
    """Read a stream to its end; what it raised there."""
    try:
        async for outcome in stream:
            outcomes.append(outcome)
    except ClientClosedError as exc:
        return exc


async def closed_after(client, seconds, **options):
    """Close the client at that time; when that was done."""
    await asyncio.sleep(seconds)
    await client.close(**options)
    return now()


# --- Single calls --------------------------------------------------------------------------------


@in_virtual_time
async def test_a_call_under_way_has_its_record():
    """Closing waits for it, and not longer; whoever comes meanwhile is refused, unsent."""
    transport = FakeTransport(latency=3.0)
    client = fake_client(transport)
    call = asyncio.create_task(client.get_call("a"))
    fetched = asyncio.create_task(client.fetch_call("b"))
    await asyncio.sleep(1)
    closing = asyncio.create_task(client.close(grace=10))
    await turns(1)
    assert repr(client) == "<CallsClient of http://127.0.0.1, closing>"
    uses = [
        client.get_call("c"),
        client.fetch_call("c"),
        client.gather_calls(["c"], return_exceptions=True),
        anext(client.stream_calls(["c"])),
        client.__aenter__(),
        client.with_options().get_call("c"),
    ]
    for use in uses:
        with pytest.raises(ClientClosedError) as caught:
            await use
        assert caught.value.stopped_by is StoppedBy.CLOSED
    await closing
    assert now() == 3.0
    assert ((await call).id, (await fetched).id) == ("a", "b")
    assert repr(client) == "<CallsClient of http://127.0.0.1, closed>"
    assert len(transport.ledger) == 2
    assert is_quiet(client)


@in_virtual_time
async def test_calls_that_wait_and_fail_go_on():
    """Permits, backoffs and retries are part of a call: each that was made has its outcome."""
    transport = FakeTransport(
        latency=1.0,
        missing={"call-9"},
        faults={"call-3": [Fault.reset, Fault.status(503)], "call-5": [Fault.status(500)]},
    )
    client = fake_client(transport, limits=Limits(max_concurrency=2))
    calls = [asyncio.create_task(client.get_call(call_id)) for call_id in call_ids(10)]
    await turns(3)
    assert client.statistics().waiting == 8
    await client.close(grace=29)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Call] * 9 + [NotFoundError]
    assert is_quiet(client)


@in_virtual_time
async def test_what_has_not_ended_in_time_ends_with_the_client():
    """After the grace: what is on the wire, what waits, what sleeps, what asks for a key."""

    async def provider():
        await asyncio.Event().wait()

    transport = FakeTransport(faults={"call-1": Fault.stall, "call-2": [Fault.status(500)]})
    client = fake_client(
        transport,
        limits=Limits(max_concurrency=1),
        retry=RetryPolicy(wait=lambda _: 20.0),
    )
    keyless = fake_client(api_key=provider)
    calls = [asyncio.create_task(client.get_call(f"call-{number}")) for number in (2, 1, 3)]
    calls.append(asyncio.create_task(keyless.get_call("call-4")))
    await asyncio.sleep(1)
    await asyncio.gather(client.close(grace=5), keyless.close(grace=5))
    assert now() == 6.0
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosedError}
    assert [result.call_id for result in results] == ["call-2", "call-1", "call-3", "call-4"]
    assert [result.attempts for result in results] == [1, 1, 0, 0]
    assert {result.stopped_by for result in results} == {StoppedBy.CLOSED}
    assert is_quiet(client)


@in_virtual_time
async def test_a_silence_beyond_the_grace_is_not_waited_for():
    """Who is parked for longer ends at once, before or in the time; what is on the wire may end."""
    transport = FakeTransport(
        latency=2.0, faults={"hot": WAIT_A_MINUTE, "later": [Fault.slow(2.5), WAIT_A_MINUTE]}
    )
    client = fake_client(transport)
    options = {"timeout": 200}
    parked = asyncio.create_task(client.get_call("hot", **options))
    await asyncio.sleep(1)
    on_the_wire = asyncio.create_task(client.get_call("a", **options))
    await asyncio.sleep(1.5)
    await client.close(grace=30)
    assert now() == 3.0
    with pytest.raises(ClientClosedError):
        await parked
    assert (await on_the_wire).id == "a"

    client = fake_client(FakeTransport(latency=2.0, faults={"hot": WAIT_A_MINUTE}))
    parked = asyncio.create_task(client.get_call("hot", **options))
    await asyncio.sleep(1)
    await client.close(grace=30)
    assert now() == 5.0
    with pytest.raises(ClientClosedError):
        await parked
    assert is_quiet(client)


@in_virtual_time
async def test_a_silence_within_the_grace_is_waited_for():
    """The call that met it is tried again when the server allows, and has its record."""
    transport = FakeTransport(faults={"hot": [Fault.status(429, headers={"Retry-After": "8"})]})
    client = fake_client(transport)
    call = asyncio.create_task(client.get_call("hot"))
    await asyncio.sleep(1)
    await client.close(grace=20)
    assert (await call).id == "hot"
    assert 8 <= now() < 10


# --- Streams -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_stream_pulls_no_more_and_loses_nothing():
    """Every id that was pulled has its outcome, each by one request; then the end is told."""
    transport = FakeTransport(latency=(1.0, 2.0), missing={"call-2"})
    client = fake_client(transport, limits=NARROW)
    source = iter(call_ids(1000))
    outcomes = []
    reading = asyncio.create_task(read(client.stream_calls(source), outcomes))
    await asyncio.sleep(4.5)
    await client.close(grace=10)
    assert now() <= 6.5
    assert isinstance(await reading, ClientClosedError)
    pulled = int(next(source).removeprefix("call-"))
    assert sorted(outcome.index for outcome in outcomes) == list(range(pulled))
    assert len(transport.ledger) == pulled
    assert [outcome.id for outcome in outcomes if isinstance(outcome, Failed)] == ["call-2"]
    assert is_quiet(client)


@in_virtual_time
async def test_a_stream_that_waits_for_its_source_waits_no_longer():
    """An async source is let go at once, cleans up, and what it still holds is still there."""
    queue, cleaned = asyncio.Queue(), []

    async def source():
        try:
            while True:
                yield await queue.get()
        finally:
            cleaned.append(now())

    client = fake_client(FakeTransport(latency=3.0))
    outcomes = []
    queue.put_nowait("a")
    reading = asyncio.create_task(read(client.stream_calls(source()), outcomes))
    await asyncio.sleep(1)
    closing = asyncio.create_task(client.close(grace=10))
    await turns(5)
    queue.put_nowait("b")
    await closing
    assert isinstance(await reading, ClientClosedError)
    assert [outcome.id for outcome in outcomes] == ["a"]
    assert queue.get_nowait() == "b"
    assert (now(), cleaned) == (3.0, [1.0])


@in_virtual_time
async def test_a_stream_whose_source_has_ended_ends_as_ever():
    """Where nothing is left to pull, closing with grace takes nothing away."""
    client = fake_client(FakeTransport(latency=1.0))
    outcomes = []
    reading = asyncio.create_task(read(client.stream_calls(call_ids(5)), outcomes))
    await asyncio.sleep(0.5)
    await client.close(grace=10)
    assert await reading is None
    assert len(outcomes) == 5


@in_virtual_time
async def test_outcomes_may_be_read_after_the_end():
    """Closing waits for requests and not for consumers: what is at hand stays to be read."""
    client = fake_client(FakeTransport(latency=1.0), limits=NARROW)
    async with client.stream_calls(call_ids(100)) as stream:
        first = await anext(stream)
        await client.close(grace=60)
        assert now() < 60
        rest = []
        assert isinstance(await read(stream, rest), ClientClosedError)
    assert sorted(outcome.index for outcome in [first, *rest]) == list(range(len(rest) + 1))
    assert {type(outcome) for outcome in rest} == {Fetched}
    assert is_quiet(client)


@in_virtual_time
async def test_who_leaves_a_stream_meanwhile_is_not_waited_for():
    """A consumer that breaks off ends its work, and with it what closing waits for."""
    client = fake_client(FakeTransport(faults={"a": Fault.stall}))

    async def leave():
        async with client.stream_calls(["a", "b"]) as stream:
            await read(stream, [])

    reading = asyncio.create_task(leave())
    closing = asyncio.create_task(closed_after(client, 1, grace=9))
    await asyncio.sleep(2)
    reading.cancel()
    assert await closing == 2.0
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert is_quiet(client)


@in_virtual_time
async def test_the_time_is_over_for_streams_as_well():
    """What is stuck yields its `Failed` after the grace, and then the iteration raises."""
    client = fake_client(FakeTransport(faults={"call-1": Fault.stall}), limits=NARROW)
    outcomes = []
    reading = asyncio.create_task(read(client.stream_calls(iter(call_ids(2) * 99)), outcomes))
    assert await closed_after(client, 1, grace=5) == 6.0
    assert isinstance(await reading, ClientClosedError)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert {(outcome.id, type(outcome.error)) for outcome in failed} == {
        ("call-1", ClientClosedError)
    }
    assert is_quiet(client)


# --- Gathers -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_gather_has_what_was_begun_and_the_reason_for_the_rest():
    """With errors as results: records for the ids that were begun, and none of the rest is sent."""
    transport = FakeTransport(latency=1.0)
    client = fake_client(transport, limits=NARROW)
    gathering = asyncio.create_task(client.gather_calls(call_ids(50), return_exceptions=True))
    await asyncio.sleep(2.5)
    await client.close(grace=10)
    assert now() == 3.0
    results = await gathering
    begun = len(transport.ledger)
    assert 4 <= begun < 50
    assert {type(result) for result in results[:begun]} == {Call}
    assert {type(result) for result in results[begun:]} == {ClientClosedError}
    assert {(result.attempts, result.stopped_by) for result in results[begun:]} == {
        (0, StoppedBy.CLOSED)
    }
    assert is_quiet(client)


@pytest.mark.parametrize(("ids", "whole"), [(4, True), (50, False)])
@in_virtual_time
async def test_a_plain_gather_is_whole_or_raises(ids, whole):
    """It returns if all of it was begun; otherwise it cannot become whole, and says so."""
    client = fake_client(FakeTransport(latency=1.0), limits=NARROW)
    gathering = asyncio.create_task(client.gather_calls(call_ids(ids)))
    await asyncio.sleep(0.5)
    await client.close(grace=10)
    assert now() == 1.0
    if whole:
        assert [call.id for call in await gathering] == call_ids(ids)
    else:
        with pytest.raises(ClientClosedError):
            await gathering
    assert is_quiet(client)


# --- Closing itself ------------------------------------------------------------------------------


@in_virtual_time
async def test_a_client_without_work_is_closed_at_once():
    """Grace is no sleep: used or not, closed or not, it is waited for nobody."""
    unused, used = fake_client(), fake_client()
    await used.get_call("a")
    for client in (unused, used, used):
        await client.close(grace=100)
        with pytest.raises(ClientClosedError):
            await client.get_call("b")
    assert now() == 0.0
    assert timers() == []


@pytest.mark.parametrize("second", [{}, {"grace": 2}])
@in_virtual_time
async def test_the_shorter_grace_holds(second):
    """A second `close` ends the first one's wait when its own time is over."""
    client = fake_client(FakeTransport(faults={"a": Fault.stall}))
    call = asyncio.create_task(client.get_call("a", timeout=100))
    ends = await asyncio.gather(
        closed_after(client, 1, grace=50), closed_after(client, 3, **second)
    )
    assert ends == [3.0 + second.get("grace", 0)] * 2
    with pytest.raises(ClientClosedError):
        await call
    assert is_quiet(client)


@in_virtual_time
async def test_a_cancelled_close_ends_everything_at_once():
    """Who loses patience, by `asyncio.timeout` or a second signal, has a closed client."""
    client = fake_client(FakeTransport(faults={"a": Fault.stall}))
    call = asyncio.create_task(client.get_call("a", timeout=100))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await client.close(grace=50)
    assert now() == 4.0
    with pytest.raises(ClientClosedError):
        await call
    assert is_quiet(client)


@in_virtual_time
async def test_children_share_the_end_and_cannot_bring_it_about():
    """A child's `close` does nothing; the parent's waits for the child's calls and refuses more."""
    client = fake_client(FakeTransport(latency=2.0))
    child = client.with_options(retry=RetryPolicy(max_attempts=1))
    call = asyncio.create_task(child.get_call("a"))
    await asyncio.sleep(1)
    await child.close(grace=10)
    assert now() == 1.0
    late = asyncio.create_task(child.get_call("b"))
    await turns(2)
    await client.close(grace=10)
    assert now() == 3.0
    assert ((await call).id, (await late).id) == ("a", "b")
    with pytest.raises(ClientClosedError):
        await child.get_call("c")


@in_virtual_time
async def test_leaving_the_context_after_a_graceful_close_changes_nothing():
    """`async with` and `close(grace=...)` go together."""
    async with fake_client(FakeTransport(latency=2.0)) as client:
        call = asyncio.create_task(client.get_call("a"))
        await asyncio.sleep(1)
        await client.close(grace=10)
    assert (await call).id == "a"


@pytest.mark.parametrize("grace", [-1, math.nan, math.inf, True, "5", None])
@in_virtual_time
async def test_grace_is_a_number_of_seconds(grace):
    """Anything else is refused, and the client stays open."""
    async with fake_client() as client:
        with pytest.raises(ConfigurationError, match="grace"):
            await client.close(grace=grace)
        assert (await client.get_call("a")).id == "a"


# --- Over sockets --------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
async def test_what_is_on_the_wire_is_answered(calls_sandbox):
    """Over either transport: requests in flight bring their records, then the connections close."""
    calls_sandbox.latency = 0.02
    client = CallsClient(
        calls_sandbox.api_key, base_url=calls_sandbox.base_url, limits=Limits(max_concurrency=3)
    )
    outcomes = []
    reading = asyncio.create_task(read(client.stream_calls(iter(call_ids(500))), outcomes))
    call = asyncio.create_task(client.get_call("single"))
    await until(lambda: len(calls_sandbox.ledger) > 6)
    await client.close(grace=20)
    sent = len(calls_sandbox.ledger)
    assert isinstance(await reading, ClientClosedError)
    assert (await call).id == "single"
    assert {type(outcome) for outcome in outcomes} == {Fetched}
    assert len(outcomes) + 1 == sent == len(calls_sandbox.ledger)
    assert calls_sandbox.ledger.in_flight == 0


@pytest.mark.usefixtures("way")
async def test_what_is_stuck_on_the_wire_is_cut(calls_sandbox):
    """Over either transport: after the grace a stalled request is over, for both sides."""
    calls_sandbox.faults = {"a": Fault.stall}
    client = CallsClient(calls_sandbox.api_key, base_url=calls_sandbox.base_url)
    call = asyncio.create_task(client.get_call("a"))
    await until(lambda: calls_sandbox.ledger.in_flight == 1)
    await client.close(grace=0.01)
    with pytest.raises(ClientClosedError):
        await call
    await until(lambda: calls_sandbox.ledger.in_flight == 0)
