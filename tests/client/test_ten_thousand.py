"""A large batch over real sockets, with every kind of fault in its way, loses nothing."""

from __future__ import annotations

import pytest

from calls_async import (
    Call,
    CallsClient,
    DecodeError,
    StatusError,
    Timeouts,
    structure_call,
)
from calls_async.testing import PERMANENT_FAULTS, TRANSIENT_FAULTS, Fault, Sandbox, make_record
from tests.kit import call_ids
from tests.waiting import until


def rough_road(ids):
    """Scripts by which 5% of the ids meet a transient fault first, and 1% fail for ever."""
    flaky = {
        call_id: [TRANSIENT_FAULTS[number % len(TRANSIENT_FAULTS)]]
        for number, call_id in enumerate(ids[7::20])
    }
    permanent = {
        call_id: PERMANENT_FAULTS[number % len(PERMANENT_FAULTS)]
        for number, call_id in enumerate(ids[50::100])
    }
    return flaky | permanent


def is_planned(error, fault):
    """Whether this error is what this fault has to end in."""
    if fault is Fault.bad_record:
        return isinstance(error, DecodeError)
    return isinstance(error, StatusError) and error.status == fault.code


@pytest.mark.parametrize(
    "number", [1_000, pytest.param(10_000, marks=pytest.mark.slow)], ids="{:,}".format
)
async def test_every_id_has_its_own_record_or_its_own_error(number):
    """Right record, right error, right order, and both sides count the same requests."""
    ids = call_ids(number)
    faults = rough_road(ids)
    permanent = {call_id for call_id, fault in faults.items() if isinstance(fault, Fault)}
    async with Sandbox(faults=faults) as sandbox:
        async with CallsClient(
            # A stalled answer costs the attempt's whole time.
            sandbox.api_key, base_url=sandbox.base_url, timeouts=Timeouts(attempt=1.0)
        ) as client:  # fmt: skip
            results = await client.gather_calls(ids, return_exceptions=True)
            statistics = client.statistics()
        await until(lambda: sandbox.ledger.in_flight == 0)
    assert len(results) == number
    for call_id, result in zip(ids, results, strict=True):
        if call_id in permanent:
            assert is_planned(result, faults[call_id]), result
            assert result.call_id == call_id
        else:
            assert isinstance(result, Call), result
            assert result == structure_call(make_record(call_id))
    met = set(sandbox.ledger.by_fault)
    assert met == {fault.name for fault in (*TRANSIENT_FAULTS, *PERMANENT_FAULTS)}
    assert statistics.requests == len(sandbox.ledger)
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    assert (statistics.fetched, statistics.failed) == (number - len(permanent), len(permanent))
    assert statistics.retries == statistics.requests - number
