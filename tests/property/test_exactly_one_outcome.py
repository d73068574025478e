"""The invariant of the bulk room: each occurrence of each id has exactly one outcome, its own."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from calls_async import Call, DecodeError, Failed, Fetched, Limits, StatusError
from calls_async.testing import (
    PERMANENT_FAULTS,
    TRANSIENT_FAULTS,
    FakeTransport,
    Fault,
    fake_client,
    run_in_virtual_time,
)

names = st.integers(0, 20).map("call-{}".format)
scripts = st.dictionaries(
    names,
    st.sampled_from(PERMANENT_FAULTS)
    | st.lists(st.sampled_from(TRANSIENT_FAULTS), max_size=2, unique_by=lambda fault: fault.name),
)
latencies = st.sampled_from([0.0, 1.0, (0.0, 3.0)])
pauses = st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.7]), min_size=1)


async def arriving(ids, waits):
    """The ids, after pauses of their own."""
    for position, call_id in enumerate(ids):
        await asyncio.sleep(waits[position % len(waits)])
        yield call_id


def is_planned(script, result):
    """Whether a record or an error is what the script leads to."""
    if not isinstance(script, Fault):
        return isinstance(result, Call)
    if script is Fault.bad_record:
        return isinstance(result, DecodeError)
    return isinstance(result, StatusError) and result.status == script.code


@given(
    ids=st.lists(names, max_size=40),
    faults=scripts,
    latency=latencies,
    width=st.integers(1, 5),
    source_waits=st.none() | pauses,
    consumer_waits=pauses,
)
def test_exactly_one_outcome(*, ids, faults, latency, width, source_waits, consumer_waits):
    """Whatever repeats, fails, waits or is late: outcomes and occurrences are the same."""

    async def main():
        transport = FakeTransport(faults=faults, latency=latency)
        source = ids if source_waits is None else arriving(ids, source_waits)
        seen = []
        async with fake_client(transport, limits=Limits(max_concurrency=width)) as client:
            async with client.stream_calls(source) as outcomes:
                async for outcome in outcomes:
                    await asyncio.sleep(consumer_waits[len(seen) % len(consumer_waits)])
                    seen.append(outcome)
            return seen, client.statistics(), transport.ledger

    seen, statistics, ledger = run_in_virtual_time(main())
    assert sorted(outcome.index for outcome in seen) == list(range(len(ids)))
    for outcome in seen:
        assert outcome.id == ids[outcome.index]
        match outcome:
            case Fetched(call=result):
                assert result.id == outcome.id
            case Failed(error=result):
                assert result.call_id == outcome.id
        assert is_planned(faults.get(outcome.id), result)
    assert statistics.requests == len(ledger)
    assert (statistics.in_flight, statistics.waiting, ledger.in_flight) == (0, 0, 0)
    assert ledger.max_in_flight <= width


@given(ids=st.lists(names, max_size=40), faults=scripts, latency=latencies, width=st.integers(1, 5))
def test_exactly_one_result_in_each_place(ids, faults, latency, width):
    """`gather_calls` puts the same record or error wherever the id stands, from one flight."""

    async def main():
        transport = FakeTransport(faults=faults, latency=latency)
        async with fake_client(transport, limits=Limits(max_concurrency=width)) as client:
            results = await client.gather_calls(ids, return_exceptions=True)
            return results, client.statistics()

    results, statistics = run_in_virtual_time(main())
    assert len(results) == len(ids)
    for call_id, result in zip(ids, results, strict=True):
        assert is_planned(faults.get(call_id), result)
        assert (result.id if isinstance(result, Call) else result.call_id) == call_id
        assert result is results[ids.index(call_id)]
    assert statistics.fetched + statistics.failed == len(set(ids))
