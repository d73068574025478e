"""The short form of the sweep over time, and the laws that it stands on."""

from __future__ import annotations

import asyncio
import time

import pytest

from calls_async import CallsClient, Timeouts
from tests.kit import turns
from tests.proof.loops import run_watched, watched
from tests.proof.timing import FRAMINGS, ID, sweep
from tests.rawserver import http, raw_server, record
from tests.waiting import until

KEY = "sk_test_of_the_proof"


@pytest.mark.usefixtures("way")
async def test_whatever_does_not_end_is_ended():
    """Every silence, drip and flood ends with the error of the limit that it crossed, in time."""
    tally = await sweep(short=True)
    assert not tally.bad
    assert tally.cases > 250
    assert set(tally.ends) == {"AttemptTimeoutError", "DeadlineExceededError", "record"}


def test_each_framing_is_the_record():
    """The answers that the sweep cuts short are right when they are whole."""

    async def fetch(answer):
        def script(exchange):
            exchange.send(answer)

        async with (
            raw_server(script) as server,
            CallsClient(KEY, base_url=server.url) as client,
        ):
            return (await client.fetch_call(ID)).raw

    for answer in FRAMINGS.values():
        assert run_watched(fetch(answer)) == record(ID)


@pytest.mark.usefixtures("way")
async def test_a_peer_that_vanished_costs_one_attempt():
    """When a kept-alive peer is gone without a FIN, the call goes on over another connection."""

    async def script(exchange):
        if exchange.number == 2:
            await exchange.hung_up()
        return http(record(ID))

    async with (
        raw_server(script) as server,
        CallsClient(KEY, base_url=server.url, timeouts=Timeouts(attempt=0.1)) as client,
    ):
        await client.fetch_call(ID)
        fetched = await client.fetch_call(ID)
        assert fetched.attempts == 2
        assert [x.connection for x in server.requests] == [1, 1, 2]
        await until(lambda: server.open == 1)


def test_a_blocked_loop_is_seen():
    """The sweep's own recording tells a callback that blocks, and forgets when it is told to."""

    async def block():
        await asyncio.sleep(0)
        watched().forget()
        time.sleep(0.02)  # noqa: ASYNC251 (it is the point)
        await turns(2)
        seen = watched().longest
        watched().forget()
        return seen, watched().longest

    seen, forgotten = run_watched(block())
    assert seen > 0.015
    assert forgotten == 0.0


def test_silence_takes_no_time_where_the_clock_jumps():
    """An hour of the loop's clock passes while nobody says anything."""

    async def sleep():
        began = watched().time()
        await asyncio.sleep(3600)
        return watched().time() - began

    assert run_watched(sleep(), jumps=True) >= 3600
