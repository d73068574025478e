"""`stream_calls`: a bounded window over any source, one outcome for each id, a clean end."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import Counter
from contextlib import suppress

import pytest

from calls_async import (
    AttemptTimeoutError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    Failed,
    Fetched,
    InvalidCallIdError,
    Limits,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    StoppedBy,
)
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns

NARROW = Limits(max_concurrency=4)
WINDOW = 8  # ids on their way at `NARROW`, and as many outcomes that wait


class Source:
    """An endless source, which counts what was pulled from it."""

    def __init__(self):
        self.pulled = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.pulled += 1
        return f"call-{self.pulled - 1}"


async def quiet():
    """Whether nothing of a stream is left: neither a task nor a timer."""
    await turns(5)
    return (other_tasks(), timers()) == (set(), [])


async def drain(stream, into):
    """Read a stream to its end, or to what it raises; `into` has its outcomes in any case."""
    async for outcome in stream:
        into.append(outcome)


async def taken(stream, number):
    """The next outcomes of a stream."""
    return [await anext(stream) for _ in range(number)]


# --- What comes out ------------------------------------------------------------------------------


@in_virtual_time
async def test_each_occurrence_has_one_outcome_with_its_index():
    """Outcomes come as they are ready; `index` says where the id stands, duplicates included."""
    ids = [f"call-{number % 40}" for number in range(200)]
    transport = FakeTransport(latency=(0.1, 2.0), fault_share=0.1, missing={"call-7"})
    async with fake_client(transport) as client, client.stream_calls(ids) as outcomes:
        seen = [outcome async for outcome in outcomes]
    assert sorted(outcome.index for outcome in seen) == list(range(200))
    assert all(outcome.id == ids[outcome.index] for outcome in seen)
    assert [outcome.index for outcome in seen] != list(range(200))
    assert {outcome.id for outcome in seen if isinstance(outcome, Failed)} == {"call-7"}
    assert all(outcome.call.id == outcome.id for outcome in seen if isinstance(outcome, Fetched))


@in_virtual_time
async def test_an_id_on_its_way_is_not_sent_again():
    """Single flight within the window: occurrences at the same time share one request."""
    transport = FakeTransport(latency=1.0, missing={"gone"})
    async with fake_client(transport) as client:
        outcomes = [outcome async for outcome in client.stream_calls(["a", "gone"] * 30)]
    assert len(transport.ledger) == 2
    assert Counter(type(outcome) for outcome in outcomes) == {Fetched: 30, Failed: 30}


@in_virtual_time
async def test_what_is_no_valid_id_is_an_outcome():
    """Ids that are no str, not hashable or not sendable fail alone, unsent."""
    transport = FakeTransport()
    ids = ["a", None, ["a"], "", "b"]
    async with fake_client(transport) as client:
        outcomes = [outcome async for outcome in client.stream_calls(ids)]
    failed = {outcome.index: outcome for outcome in outcomes if isinstance(outcome, Failed)}
    assert sorted(failed) == [1, 2, 3]
    assert {type(outcome.error) for outcome in failed.values()} == {InvalidCallIdError}
    assert [failed[index].id for index in (1, 2, 3)] == [None, ["a"], ""]
    assert len(transport.ledger) == 2


@pytest.mark.parametrize("ids", ["call-1", b"call-1", 7, None])
@in_virtual_time
async def test_what_holds_no_ids_is_refused_at_once(ids):
    """The mistake is raised where it is made, not where the outcomes are read."""
    async with fake_client() as client:
        with pytest.raises(ConfigurationError, match="get_call"):
            client.stream_calls(ids)


@in_virtual_time
async def test_after_the_end_there_is_nothing_more():
    """A stream that is used up stays so, as every iterator does."""
    async with fake_client() as client, client.stream_calls(["a"]) as outcomes:
        assert [outcome.id async for outcome in outcomes] == ["a"]
        assert [outcome.id async for outcome in outcomes] == []
        assert await quiet()


# --- The window ----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_consumer_that_stops_stops_the_source():
    """Back-pressure: beyond the window, one id is pulled for one outcome taken."""
    source = Source()
    async with fake_client(limits=NARROW) as client, client.stream_calls(source) as outcomes:
        await anext(outcomes)
        await asyncio.sleep(100)
        assert source.pulled <= 1 + 2 * WINDOW
        full = source.pulled
        await taken(outcomes, 50)
        await asyncio.sleep(100)
        assert source.pulled == full + 50


@in_virtual_time
async def test_an_endless_source_is_read_as_far_as_it_is_wanted():
    """The window is all that is held of it, and breaking off ends the work at once."""
    transport = FakeTransport(latency=0.1)
    source = Source()
    async with fake_client(transport, limits=NARROW) as client:
        async with client.stream_calls(source) as outcomes:
            async for outcome in outcomes:
                if outcome.index >= 100:
                    break
        assert await quiet()
        assert transport.ledger.in_flight == 0
    assert transport.ledger.max_in_flight == NARROW.max_concurrency
    assert source.pulled <= 101 + 3 * WINDOW


@pytest.mark.parametrize("pause", [0.0, 1.0])
@in_virtual_time
async def test_a_slow_consumer_costs_no_patience(pause):
    """Patience is for a silent server: a consumer may take longer than that over one outcome."""
    async with (
        fake_client(FakeTransport(latency=pause), limits=NARROW) as client,
        client.stream_calls(call_ids(100)) as outcomes,
    ):
        first = await anext(outcomes)
        await asyncio.sleep(10_000)
        rest = [outcome async for outcome in outcomes]
    assert {type(outcome) for outcome in (first, *rest)} == {Fetched}
    assert len(rest) == 99


@in_virtual_time
async def test_a_slow_source_costs_no_patience():
    """A queue that is empty for hours, as a worker's is at night, ends no stream."""

    async def source():
        for call_id in call_ids(3):
            await asyncio.sleep(10_000)
            yield call_id

    async with fake_client() as client:
        seen = [outcome async for outcome in client.stream_calls(source())]
    assert [type(outcome) for outcome in seen] == [Fetched] * 3


# --- Sources that fail or wait -------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@in_virtual_time
async def test_a_source_that_raises_is_heard_after_its_outcomes(asynchronous):
    """All ids that it gave have their outcomes first; then its own error is raised, once."""

    def broken():
        yield from call_ids(20)
        raise LookupError("the source is broken")

    async def broken_too():
        for call_id in call_ids(20):
            yield call_id
        raise LookupError("the source is broken")

    ids = broken_too() if asynchronous else broken()
    seen = []
    async with fake_client(FakeTransport(latency=(0.1, 1))) as client:
        outcomes = client.stream_calls(ids)
        with pytest.raises(LookupError, match="the source is broken"):
            await drain(outcomes, seen)
        assert sorted(outcome.index for outcome in seen) == list(range(20))
        assert [outcome async for outcome in outcomes] == []
        assert await quiet()


@in_virtual_time
async def test_a_timeout_of_the_source_is_its_own():
    """A `TimeoutError` that the source raises is not taken for the stream's own."""

    async def impatient():
        yield "a"
        raise TimeoutError("no more ids")

    async with fake_client() as client:
        outcomes = client.stream_calls(impatient())
        assert (await anext(outcomes)).id == "a"
        with pytest.raises(TimeoutError, match="no more ids"):
            await anext(outcomes)


@in_virtual_time
async def test_what_the_callers_strategy_raises_is_heard():
    """A tenacity strategy that raises ends the iteration with its own error, not with a hang."""

    def strategy(_):
        raise ZeroDivisionError

    transport = FakeTransport(faults={"call-3": Fault.status(500)}, latency=0.1)
    source = Source()
    async with fake_client(transport, retry=RetryPolicy(stop=strategy), limits=NARROW) as client:
        seen = []
        with pytest.raises(ZeroDivisionError):
            await drain(client.stream_calls(source), seen)
        assert sorted(outcome.index for outcome in seen) == [
            index for index in range(source.pulled) if index != 3
        ]
        assert source.pulled <= 2 * WINDOW
        assert await quiet()


@in_virtual_time
async def test_those_who_share_a_flight_share_what_it_raises():
    """Occurrences that wait for an id on its way are not left waiting when the strategy raises."""

    def strategy(_):
        raise ZeroDivisionError

    transport = FakeTransport(faults={"a": Fault.status(500)}, latency=0.1)
    async with fake_client(transport, retry=RetryPolicy(retry=strategy)) as client:
        with pytest.raises(ZeroDivisionError):
            await anext(client.stream_calls(["a"] * 4))
        with pytest.raises(ZeroDivisionError):
            await client.gather_calls(["a"] * 4, return_exceptions=True)
        assert await quiet()


@in_virtual_time
async def test_a_refused_key_ends_the_iteration():
    """What was pulled yields `Failed`, unsent after the first 401; then the error is raised."""
    source = Source()
    transport = FakeTransport(latency=0.1)
    seen = []
    async with fake_client(transport, limits=NARROW, api_key="sk_test_wrong") as client:
        async with client.stream_calls(source) as outcomes:
            with pytest.raises(AuthenticationError) as caught:
                await drain(outcomes, seen)
        assert await quiet()
    assert caught.value.stopped_by is StoppedBy.KEY_REFUSED
    assert sorted(outcome.index for outcome in seen) == list(range(source.pulled))
    assert {type(outcome.error) for outcome in seen} == {AuthenticationError}
    assert source.pulled <= 2 * WINDOW
    assert len(transport.ledger) == NARROW.max_concurrency


@in_virtual_time
async def test_a_source_that_waits_for_ever_does_not_keep_a_refused_key_secret():
    """The wait for the source ends with the batch, and what the source cleans up is awaited."""
    cleaned = []

    async def source():
        yield "a"
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    async with fake_client(FakeTransport(latency=0.1), api_key="sk_test_wrong") as client:
        outcomes = client.stream_calls(source())
        assert isinstance(await anext(outcomes), Failed)
        with pytest.raises(AuthenticationError):
            await anext(outcomes)
        assert cleaned == [True]
        assert await quiet()


@in_virtual_time
async def test_when_patience_ends_the_iteration_ends():
    """A silence beyond it: what was pulled has its outcome, then the last error is raised."""
    seen = []
    limits = Limits(max_concurrency=4, patience=5.0)
    silence = Fault.status(429, headers={"Retry-After": "6"})
    transport = FakeTransport(faults={"call-20": silence}, latency=0.1)
    source = Source()
    async with fake_client(transport, limits=limits) as client:
        with pytest.raises(RateLimitedError) as caught:
            await drain(client.stream_calls(source), seen)
        assert await quiet()
    assert caught.value.stopped_by is StoppedBy.PATIENCE
    assert sorted(outcome.index for outcome in seen) == list(range(source.pulled))
    assert asyncio.get_running_loop().time() < 2


@in_virtual_time
async def test_a_server_that_answers_nothing_is_given_up_after_patience():
    """Without a single answer the batch ends after `patience` seconds."""
    transport = FakeTransport(latency=1e9)
    limits = Limits(max_concurrency=4, patience=25.0)
    async with fake_client(transport, limits=limits) as client:
        seen = []
        with pytest.raises(AttemptTimeoutError) as caught:
            await drain(client.stream_calls(Source()), seen)
        assert {type(outcome) for outcome in seen} == {Failed}
        assert await quiet()
    assert caught.value.stopped_by is StoppedBy.PATIENCE


# --- Leaving early -------------------------------------------------------------------------------


@in_virtual_time
async def test_a_break_inside_the_context_manager_ends_the_work_at_once():
    """On the way out every request is ended and awaited."""
    transport = FakeTransport(latency=(0.1, 60.0))
    async with fake_client(transport) as client:
        async with client.stream_calls(Source()) as outcomes:
            async for _ in outcomes:
                break
        assert (other_tasks(), timers(), transport.ledger.in_flight) == (set(), [], 0)
        assert client.statistics().in_flight == client.statistics().waiting == 0
        assert (await client.get_call("after")).id == "after"


@in_virtual_time
async def test_leaving_lets_go_of_the_source():
    """What the source cleans up is cleaned up then, and not when the stream is collected."""
    cleaned = []

    async def source():
        try:
            for call_id in itertools.cycle(call_ids(50)):
                yield call_id
        finally:
            cleaned.append(True)

    async with fake_client() as client:
        async with client.stream_calls(source()) as outcomes:
            await anext(outcomes)
        assert await quiet()
        assert cleaned == [True]
        assert [outcome async for outcome in outcomes] == []


@in_virtual_time
async def test_an_exception_in_the_body_ends_the_work_and_passes():
    """The body's own error is what is raised."""
    async with fake_client(FakeTransport(latency=0.1)) as client:

        async def consume():
            async with client.stream_calls(Source()) as outcomes:
                async for _ in outcomes:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await consume()
        assert (other_tasks(), timers()) == (set(), [])


@in_virtual_time
async def test_a_plain_loop_left_early_ends_when_it_is_collected():
    """Without the context manager the collector ends the work; nothing is left and nobody warns."""
    transport = FakeTransport(latency=0.1)
    client = fake_client(transport, limits=NARROW)
    async for _ in client.stream_calls(Source()):
        break
    gc.collect()
    assert await quiet()
    assert transport.ledger.in_flight == 0
    assert client._core.scope._children == set()


@in_virtual_time
async def test_a_finished_stream_that_is_dropped_before_its_end_leaves_nothing():
    """All work is done and only the end was not asked for: its patience ends all the same."""
    client = fake_client()
    outcomes = client.stream_calls(["a"])
    await anext(outcomes)
    await turns(5)
    del outcomes
    gc.collect()
    assert await quiet()
    assert client._core.scope._children == set()


async def test_a_stream_may_be_collected_after_its_loop():
    """A forgotten stream whose loop is closed is nobody's error."""

    def forget():
        loop = asyncio.new_event_loop()
        outcomes = fake_client(FakeTransport(latency=1e-9)).stream_calls(["a"])
        loop.run_until_complete(anext(outcomes))
        loop.run_until_complete(turns(5))
        loop.close()
        return outcomes

    await asyncio.to_thread(forget)
    gc.collect()


@in_virtual_time
async def test_a_stream_that_is_never_iterated_is_nothing():
    """Making one starts neither task nor timer, and dropping or leaving it warns of nothing."""
    async with fake_client() as client:
        client.stream_calls(Source())
        async with client.stream_calls(Source()) as outcomes:
            assert await quiet()
        assert [outcome async for outcome in outcomes] == []
        gc.collect()
        assert await quiet()


@in_virtual_time
async def test_closing_twice_is_closing_once():
    """`aclose` may be called again, also by two tasks at once."""
    async with fake_client(FakeTransport(latency=0.1)) as client:
        outcomes = client.stream_calls(Source())
        await anext(outcomes)
        await asyncio.gather(outcomes.aclose(), outcomes.aclose())
        await outcomes.aclose()
        assert await quiet()
        assert [outcome async for outcome in outcomes] == []


@pytest.mark.parametrize("consumers", [1, 2, 20])
@in_virtual_time
async def test_closing_wakes_those_who_wait_for_an_outcome(consumers):
    """No consumer in another task is left waiting for what does not come any more."""
    async with fake_client(FakeTransport(latency=9.0)) as client:
        outcomes = client.stream_calls(Source())
        waiting = [asyncio.ensure_future(anext(outcomes)) for _ in range(consumers)]
        await asyncio.sleep(1)
        await outcomes.aclose()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(end) for end in ends} == {StopAsyncIteration}
        assert await quiet()


@in_virtual_time
async def test_several_consumers_share_the_outcomes():
    """Each outcome goes to one of them, and all of them hear of the end."""
    transport = FakeTransport(latency=(0.1, 1.0))
    async with fake_client(transport) as client, client.stream_calls(call_ids(100)) as outcomes:

        async def consume():
            return [outcome.index async for outcome in outcomes]

        shares = await asyncio.gather(*(consume() for _ in range(5)))
    assert sorted(itertools.chain(*shares)) == list(range(100))


@in_virtual_time
async def test_a_consumer_that_is_cancelled_as_it_is_woken_loses_nothing():
    """In whichever turn one consumer is cancelled, the other one gets the outcome."""
    for turn in range(8):
        async with fake_client() as client:
            outcomes = client.stream_calls(["a"])
            first, second = (asyncio.ensure_future(anext(outcomes)) for _ in range(2))
            await turns(turn)
            cancelled = first.cancel()
            ends = await asyncio.gather(first, second, return_exceptions=True)
            kinds = [type(end) for end in ends]
            if cancelled:
                assert kinds == [asyncio.CancelledError, Fetched], turn
            else:
                assert kinds == [Fetched, StopAsyncIteration], turn
            await outcomes.aclose()
            assert await quiet()
    assert not cancelled


@in_virtual_time
async def test_a_consumer_that_gives_up_again_and_again_leaves_nothing_behind():
    """Waiting for an outcome with a time limit may be repeated for ever, and loses none."""
    async with fake_client(FakeTransport(latency=9.5)) as client:
        outcomes = client.stream_calls(["a"])
        for _ in range(9):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(outcomes), 1.0)
        assert not outcomes._crew._waiting
        assert (await anext(outcomes)).id == "a"
        await outcomes.aclose()


@in_virtual_time
async def test_an_iterator_that_ends_in_the_wrong_way_is_heard():
    """`StopAsyncIteration` of an ordinary iterator does not pass for the end of the ids."""

    def mistaken():
        yield "a"
        raise StopAsyncIteration

    async with fake_client() as client:
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await drain(client.stream_calls(mistaken()), [])
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await client.gather_calls(mistaken())


@in_virtual_time
async def test_a_source_that_swallows_its_cancellation_keeps_nobody_waiting():
    """Whatever the source does when the stream is left, the stream ends."""

    async def stubborn():
        for call_id in itertools.cycle(call_ids(50)):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
            yield call_id

    async with fake_client(limits=Limits(max_concurrency=1)) as client:
        async with client.stream_calls(stubborn()) as outcomes:
            await anext(outcomes)
            await asyncio.sleep(100)
        async with client.stream_calls(stubborn()) as outcomes:
            await anext(outcomes)
        assert await quiet()


@in_virtual_time
async def test_a_strategy_that_swallows_its_cancellation_keeps_nobody_waiting():
    """A coroutine of the caller's own that survives its cancellation ends all the same."""

    async def stubborn(_):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return True

    # While it holds one worker, the other fills the room for outcomes.
    transport = FakeTransport(faults={"call-0": Fault.status(500)})
    policy = RetryPolicy(stop=stubborn)
    async with fake_client(transport, retry=policy, limits=Limits(max_concurrency=1)) as client:
        async with client.stream_calls(call_ids(50)) as outcomes:
            await anext(outcomes)
            await asyncio.sleep(1)
        assert await quiet()


@in_virtual_time
async def test_a_worker_that_somebody_else_cancels_is_no_silent_loss():
    """Who cancels all tasks of the loop gets a cancelled iteration, not one that is too short."""
    async with fake_client(FakeTransport(latency=1.0)) as client:
        outcomes = client.stream_calls(call_ids(10))
        waiting = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(0.5)
        for task in other_tasks() - {waiting}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await quiet()


# --- The client under it -------------------------------------------------------------------------


@in_virtual_time
async def test_closing_the_client_ends_its_streams():
    """What was pulled yields `Failed` with a `ClientClosedError`, and then the iteration raises."""
    source = Source()
    transport = FakeTransport(latency=1.0)
    client = fake_client(transport, limits=NARROW)
    outcomes = client.stream_calls(source)
    seen = [await anext(outcomes)]
    await client.close()
    with pytest.raises(ClientClosedError) as caught:
        await drain(outcomes, seen)
    assert caught.value.stopped_by is StoppedBy.CLOSED
    assert sorted(outcome.index for outcome in seen) == list(range(source.pulled))
    failed = [outcome for outcome in seen if isinstance(outcome, Failed)]
    assert {type(outcome.error) for outcome in failed} == {ClientClosedError}
    assert transport.ledger.in_flight == 0
    assert await quiet()


@in_virtual_time
async def test_a_closed_client_is_found_by_the_first_step():
    """A stream of a closed client raises instead of yielding."""
    client = fake_client()
    await client.close()
    outcomes = client.stream_calls(["a"])
    with pytest.raises(ClientClosedError):
        await anext(outcomes)


@in_virtual_time
async def test_an_early_exit_leaves_other_streams_alone():
    """Streams of one client share its gate and nothing else."""
    transport = FakeTransport(latency=0.1, faults={"bad": Fault.status(500)})
    async with fake_client(transport) as client:
        other = client.stream_calls(call_ids(50))
        first = await anext(other)
        async with client.stream_calls(Source()) as outcomes:
            await anext(outcomes)
        rest = [outcome async for outcome in other]
        assert {type(outcome) for outcome in (first, *rest)} == {Fetched}
        with pytest.raises(ServerError):
            await client.get_call("bad")


# --- The crew ------------------------------------------------------------------------------------


@in_virtual_time
async def test_nobody_waits_for_a_permit_that_another_has():
    """On a healthy server there are as many ids on their way as permits, and they go straight."""
    transport = FakeTransport(latency=(0.01, 0.02))
    limits = Limits(max_concurrency=32)
    async with (
        fake_client(transport, limits=limits) as client,
        client.stream_calls(call_ids(2000)) as outcomes,
    ):
        waited = [client.statistics().waiting async for _ in outcomes]
    assert sum(map(bool, waited)) < 0.05 * len(waited)
    assert transport.ledger.max_in_flight == 32


@in_virtual_time
async def test_another_stands_in_for_a_call_that_sleeps():
    """A call that waits for its next try keeps no permit, and no id from being fetched."""
    transport = FakeTransport(faults={"call-0": [Fault.status(500)]}, latency=1.0)
    policy = RetryPolicy(wait=lambda _: 20.0)
    limits = Limits(max_concurrency=1)
    async with fake_client(transport, limits=limits, retry=policy) as client:
        calls = await client.gather_calls(call_ids(5))
    assert [call.id for call in calls] == call_ids(5)
    assert asyncio.get_running_loop().time() == pytest.approx(22.0)
