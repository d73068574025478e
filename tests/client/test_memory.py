"""A stream's memory does not depend on its length."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from calls_async import Fetched
from calls_async.testing import FakeTransport, Ledger, fake_client
from tests.kit import turns


async def stream(number):
    fetched = 0
    async with fake_client(FakeTransport(ledger=Ledger(keep=0))) as client:
        ids = (f"call-{position}" for position in range(number))
        async with client.stream_calls(ids) as outcomes:
            async for outcome in outcomes:
                fetched += isinstance(outcome, Fetched)
                if fetched % 500 == 1:
                    await turns(300)  # until as much waits as ever may; else chance decides
    assert fetched == number


@pytest.fixture
def peak():
    """Measures the most memory, in bytes, that Python has had at one time in a run."""

    def measure(number):
        gc.collect()
        tracemalloc.start()
        try:
            asyncio.run(stream(number))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # What is reachable counts, and not when the collector happens to come by. It comes often,
    # and looks at the run's own objects alone.
    threshold = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50)
    yield measure
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.parametrize(
    ("few", "many", "more"),
    [
        # The few do not meet with every turn of chance; the slow form takes enough of them.
        pytest.param(6_000, 18_000, 0.15, id="short"),
        pytest.param(20_000, 1_000_000, 0.05, marks=pytest.mark.slow, id="long"),
    ],
)
def test_a_long_stream_needs_no_more_memory_than_a_short_one(peak, few, many, more):
    """However many ids there are, the peak is the same: within 5% for a million."""
    asyncio.run(stream(20_000))  # the sandbox keeps two thousand kinds of calls, once made
    assert peak(many) <= (1.0 + more) * peak(few)
