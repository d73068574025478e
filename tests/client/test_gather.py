"""`gather_calls`: asyncio's own gather in behaviour, over any source of ids."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter

import pytest

from calls_async import (
    AuthenticationError,
    Call,
    CallFinished,
    CallsError,
    ClientClosedError,
    ConfigurationError,
    InvalidCallIdError,
    Limits,
    NotFoundError,
    RateLimitedError,
    StoppedBy,
    gather_calls,
)
from calls_async._concurrency import START
from calls_async.testing import FakeTransport, Fault, Ledger, fake_client
from tests.kit import call_ids, in_virtual_time, other_tasks, timers, turns


def ids_of(calls):
    return [call.id for call in calls]


async def arriving(ids):
    """An asynchronous source."""
    for call_id in ids:
        await asyncio.sleep(1)
        yield call_id


SOURCES = {
    "list": list,
    "tuple": tuple,
    "generator": lambda ids: (call_id for call_id in ids),
    "dict keys": lambda ids: dict.fromkeys(ids).keys(),
    "dict": dict.fromkeys,
    "async generator": arriving,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
@in_virtual_time
async def test_the_calls_are_in_the_order_of_the_ids(source):
    """Whatever holds the ids, and in whatever order the answers come, the order is theirs."""
    ids = call_ids(100)
    transport = FakeTransport(latency=(0.01, 1.0), fault_share=0.2)
    async with fake_client(transport) as client:
        assert ids_of(await client.gather_calls(source(ids))) == ids


@in_virtual_time
async def test_a_set_gives_its_own_order():
    """The order is that of the iteration."""
    ids = set(call_ids(50))
    async with fake_client(FakeTransport(latency=(0.1, 1.0))) as client:
        assert ids_of(await client.gather_calls(ids)) == list(ids)


@pytest.mark.parametrize("return_exceptions", [False, True])
@in_virtual_time
async def test_no_ids_are_no_calls(return_exceptions):
    """An empty source gives an empty list, and nothing is sent."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        assert await client.gather_calls([], return_exceptions=return_exceptions) == []
    assert len(transport.ledger) == 0


@in_virtual_time
async def test_one_id_is_one_call():
    """A batch of one is a batch."""
    async with fake_client() as client:
        assert ids_of(await client.gather_calls(["only"])) == ["only"]


@in_virtual_time
async def test_an_id_that_occurs_often_is_fetched_once():
    """Duplicates cost no request, however far apart they are, and each place has its call."""
    ids = [f"call-{position % 7}" for position in range(1000)]
    transport = FakeTransport()
    async with fake_client(transport) as client:
        calls = await client.gather_calls(ids)
    assert ids_of(calls) == ids
    assert len({id(call) for call in calls}) == 7
    assert len(transport.ledger) == 7


@in_virtual_time
async def test_events_tell_the_position_among_the_ids_given():
    """With duplicates before it, an id's `index` is still where it first occurs."""
    finished = []

    def hook(event):
        if isinstance(event, CallFinished):
            finished.append((event.outcome.id, event.outcome.index))

    async with fake_client(hooks=[hook]) as client:
        await client.gather_calls(["a", "a", "b", "a", "c"])
    assert sorted(finished) == [("a", 0), ("b", 2), ("c", 4)]


@pytest.mark.parametrize("ids", ["call-1", b"call-1", 7, None, 1.5, object()])
@in_virtual_time
async def test_what_holds_no_ids_is_refused(ids):
    """One id given alone is a mistake that is named, and not taken apart into letters."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        with pytest.raises(ConfigurationError, match=f"not one {type(ids).__name__}: .*get_call"):
            await client.gather_calls(ids)
    assert len(transport.ledger) == 0


# --- Failures ------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_first_final_failure_cancels_and_awaits_the_rest():
    """When the error is raised, no task is left, no request is in flight, no permit is out."""
    ids = [*call_ids(20), "missing", *call_ids(40)]
    transport = FakeTransport(latency=5.0, faults={"missing": Fault.status(404)})
    transport.faults |= {"call-3": Fault.stall}
    async with fake_client(transport, limits=Limits(max_concurrency=8)) as client:
        with pytest.raises(NotFoundError) as caught:
            await client.gather_calls(ids)
        assert other_tasks() == set()
        assert timers() == []
        statistics = client.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        assert transport.ledger.in_flight == 0
        assert len(transport.ledger) < 40
    assert caught.value.call_id == "missing"


@in_virtual_time
async def test_errors_take_their_places_when_asked_to():
    """With `return_exceptions=True` every position holds its own call or its own error."""
    transport = FakeTransport(
        fault_share=0.2, missing={"call-3", "call-7"}, faults={"call-5": Fault.bad_record}
    )
    ids = [*call_ids(30), "call-3"]
    async with fake_client(transport) as client:
        mixed = await client.gather_calls(ids, return_exceptions=True)
    for call_id, result in zip(ids, mixed, strict=True):
        if call_id in ("call-3", "call-5", "call-7"):
            assert isinstance(result, CallsError)
            assert result.call_id == call_id
        else:
            assert isinstance(result, Call)
            assert result.id == call_id
    assert transport.ledger.requests_of("call-3") == 1


@pytest.mark.parametrize(("limit", "concurrency"), [(1, 1), (2, 2), (64, START)])
@in_virtual_time
async def test_after_a_refused_key_nothing_more_is_sent(limit, concurrency):
    """Only what was in flight when the first 401 came is in the ledger; the rest get that error."""
    transport = FakeTransport(latency=0.1)
    options = {"api_key": "sk_test_wrong", "limits": Limits(max_concurrency=limit)}
    async with fake_client(transport, **options) as client:
        mixed = await client.gather_calls(call_ids(300), return_exceptions=True)
        assert client.statistics().requests == len(transport.ledger) == concurrency
    assert {entry.at for entry in transport.ledger.entries} == {0.0}
    assert {type(error) for error in mixed} == {AuthenticationError}
    assert [error.call_id for error in mixed] == call_ids(300)
    assert {error.stopped_by for error in mixed} == {StoppedBy.KEY_REFUSED}
    assert Counter(error.attempts for error in mixed) == {1: concurrency, 0: 300 - concurrency}


@in_virtual_time
async def test_a_refused_key_is_raised():
    """Without `return_exceptions` the 401 is the first final failure."""
    async with fake_client(api_key="sk_test_wrong") as client:
        with pytest.raises(AuthenticationError):
            await client.gather_calls(call_ids(300))


@in_virtual_time
async def test_when_patience_ends_the_rest_fails_unsent():
    """A silence that outlasts `patience` fails everything not yet fetched, at once."""
    silence = Fault.status(429, headers={"Retry-After": "301"})
    transport = FakeTransport(latency=0.1, faults={"call-1": silence})
    limits = Limits(max_concurrency=1, patience=300)
    async with fake_client(transport, limits=limits) as client:
        mixed = await client.gather_calls(call_ids(50), return_exceptions=True)
    assert isinstance(mixed[0], Call)
    assert {type(error) for error in mixed[1:]} == {RateLimitedError}
    assert {error.stopped_by for error in mixed[1:]} == {StoppedBy.PATIENCE}
    assert len(transport.ledger) == 2
    assert asyncio.get_running_loop().time() < 1


@in_virtual_time
async def test_a_client_that_is_closed_meanwhile_ends_the_batch():
    """Everything not yet fetched gets a `ClientClosedError`; nobody waits for the server."""
    transport = FakeTransport(latency=4.0)
    client = fake_client(transport, limits=Limits(max_concurrency=4))
    async with asyncio.TaskGroup() as group:
        batch = group.create_task(client.gather_calls(call_ids(20), return_exceptions=True))
        await asyncio.sleep(6)
        await client.close()
    results = batch.result()
    assert [type(result) for result in results] == [Call] * 4 + [ClientClosedError] * 16
    assert [error.call_id for error in results[4:]] == call_ids(20)[4:]
    assert asyncio.get_running_loop().time() == 6


# --- Ids that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "..", "\ud800", "x" * 513, 7, None, b"call-1", ["call-1"], {}])
@in_virtual_time
async def test_an_invalid_id_is_found_before_anything_is_sent(bad):
    """Even the last one: it is raised, and the ledger is empty."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        with pytest.raises(InvalidCallIdError):
            await client.gather_calls([*call_ids(200), bad])
        await turns(1)
        assert other_tasks() == set()
    assert len(transport.ledger) == 0


@in_virtual_time
async def test_invalid_ids_take_their_places_when_asked_to():
    """What is no str, or not even hashable, has its own error in its place; the rest is fetched."""
    ids = ["a", "", ["a"], "b", None, "", {"a"}, "a"]
    transport = FakeTransport()
    async with fake_client(transport) as client:
        mixed = await client.gather_calls(ids, return_exceptions=True)
    assert [getattr(result, "id", None) for result in mixed] == [
        "a", None, None, "b", None, None, None, "a",
    ]  # fmt: skip
    assert sum(isinstance(result, InvalidCallIdError) for result in mixed) == 5
    assert len(transport.ledger) == 2


# --- The caller's own code -----------------------------------------------------------------------


async def broken(ids):
    """A source that fails."""
    for call_id in ids:
        yield call_id
    raise LookupError("the source is broken")


@in_virtual_time
async def test_what_the_source_raises_passes_as_it_is():
    """It is the caller's own error, raised before anything is sent."""
    transport = FakeTransport()
    async with fake_client(transport) as client:
        with pytest.raises(LookupError, match="the source is broken"):
            await client.gather_calls(broken(call_ids(5)))
    assert len(transport.ledger) == 0


async def test_the_module_level_function_has_a_client_of_its_own(calls_sandbox):
    """`gather_calls(ids)` opens a client, passes its options on, and closes it."""
    calls = await gather_calls(
        call_ids(20), api_key=calls_sandbox.api_key, base_url=calls_sandbox.base_url
    )
    assert ids_of(calls) == call_ids(20)
    mixed = await gather_calls(
        ["a"],
        return_exceptions=True,
        api_key="sk_test_wrong",
        base_url=calls_sandbox.base_url,
    )
    assert [type(error) for error in mixed] == [AuthenticationError]


async def test_the_module_level_function_refuses_bad_options():
    """Its options are the client's, and so are their errors."""
    with pytest.raises(ConfigurationError, match="base_url"):
        await gather_calls(["a"], api_key="sk_test_x", base_url="ftp://example.com")


@in_virtual_time
async def test_a_large_batch_keeps_to_its_limit():
    """All fetched, in order, never more in flight than permitted."""
    ids = call_ids(2_000)
    transport = FakeTransport(latency=0.01, ledger=Ledger(keep=0))
    async with fake_client(transport, limits=Limits(max_concurrency=16)) as client:
        assert ids_of(await client.gather_calls(ids)) == ids
    assert transport.ledger.max_in_flight == 16


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_calls_that_nobody_keeps_are_gone_at_once(return_exceptions):
    """The batch is no cycle, which would keep a million of them until the collector comes by."""
    async with fake_client(FakeTransport()) as client:
        calls = await client.gather_calls(call_ids(3), return_exceptions=return_exceptions)
        gc.disable()
        try:
            last = weakref.ref(calls[-1])
            await turns(1)  # in which asyncio lets go of the workers
            del calls
            assert last() is None
        finally:
            gc.enable()
