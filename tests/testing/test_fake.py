"""The fake transport in virtual time; what it has in common with the real one is in contract/."""

from __future__ import annotations

import asyncio

from calls_async import CallsClient, Failed, Fetched, Timeouts, structure_call
from calls_async._secret import ApiKey
from calls_async._wire import Answer
from calls_async.testing import (
    SANDBOX_KEY,
    FakeTransport,
    Fault,
    Ledger,
    fake_client,
    make_record,
    run_in_virtual_time,
)

KEY = ApiKey(SANDBOX_KEY)


def test_latency_passes_in_virtual_time():
    """An hour of latency is an hour by the loop's clock."""

    async def main():
        fake = FakeTransport(latency=3600)
        answer = await fake.get("call-1", KEY)
        return answer, asyncio.get_running_loop().time(), fake.ledger.entries[0].at

    answer, now, at = run_in_virtual_time(main())
    assert isinstance(answer, Answer)
    assert (now, at) == (3600, 0)


def test_the_rate_limit_follows_the_loops_clock():
    """A token comes back while the time passes, virtual or not."""

    async def main():
        fake = FakeTransport(max_rate=0.5, burst=1)
        statuses = []
        for pause in (0, 0, 2):
            await asyncio.sleep(pause)
            statuses.append((await fake.get("call-1", KEY)).status)
        return statuses

    assert run_in_virtual_time(main()) == [200, 429, 200]


def test_every_request_gives_way_to_others():
    """As over a network, two requests are in flight at the same time if both are started."""

    async def main():
        fake = FakeTransport(latency=1)
        await asyncio.gather(*(fake.get(f"call-{number}", KEY) for number in range(5)))
        return fake.ledger.max_in_flight, asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == (5, 1)


def test_the_client_over_the_fake_loses_no_id_over_any_fault():
    """Every id has one outcome: its record, or the failure that the plan has for it."""
    ids = [f"call-{number}" for number in range(300)]
    fake = FakeTransport(fault_share=0.4, permanent_share=0.2, latency=(0.01, 0.1))

    async def main():
        async with fake_client(fake, timeouts=Timeouts(attempt=1.0)) as client:
            async with client.stream_calls(ids) as outcomes:
                found = {outcome.id: outcome async for outcome in outcomes}
            return found, client.statistics().requests

    found, requests = run_in_virtual_time(main())
    assert set(found) == set(ids)
    for call_id, outcome in found.items():
        fate = fake.expected(call_id)
        if fate.kind == "permanent":
            assert isinstance(outcome, Failed)
            continue
        assert isinstance(outcome, Fetched)
        assert outcome.call == structure_call(make_record(call_id))
        assert outcome.attempts == fake.ledger.requests_of(call_id)
    assert requests == len(fake.ledger)
    assert fake.ledger.in_flight == 0


def test_a_client_needs_neither_a_key_nor_an_address_nor_a_transport():
    """`fake_client()` is a whole client, with the options that it is given."""

    async def main():
        async with fake_client() as client:
            assert isinstance(client, CallsClient)
            return await client.get_call("call-1")

    assert run_in_virtual_time(main()).id == "call-1"


def test_a_fake_may_keep_no_entries():
    """For millions of ids: nothing is kept of a request but the counters."""
    fake = FakeTransport(ledger=Ledger(keep=0), faults={"call-1": [Fault.reset]})

    async def main():
        for number in range(10):
            await fake.get(f"call-{number}", KEY)

    run_in_virtual_time(main())
    assert len(fake.ledger) == 10
    assert fake.ledger.by_status == {200: 9, None: 1}
