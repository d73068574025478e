"""Cancellation, the short form: a sample of the await points, and how the sweep can fail."""

from __future__ import annotations

import asyncio

import pytest

from calls_async._throttle import Throttle
from calls_async.testing import FakeTransport
from tests.proof import cancellations
from tests.proof.cancellations import Way, judge
from tests.proof.stages import STAGES
from tests.proof.suspensions import Moment
from tests.proof.tally import Tally
from tests.proof.theatre import Case
from tests.ways import is_usual


@pytest.mark.usefixtures("way")
async def test_whatever_is_cancelled_ends_and_leaves_nothing():
    """At a sample of all suspensions the interruption comes out, and nothing stays."""
    tally = await cancellations.sweep(short=True)
    assert not tally.bad
    if is_usual():
        assert tally.cases > 200
        assert {"CancelledError", "TimeoutError", "ExceptionGroup"} <= set(tally.ends)
    else:  # over sockets alone, and there the short form only cancels
        assert tally.cases > 30
        assert set(tally.ends) == {"CancelledError"}


def one(name, way=Way.CANCEL, moment=Moment.BEFORE, *, at):
    """The tally of one case."""
    tally = Tally("one")
    (stage,) = (stage for stage in STAGES if stage.name == name)
    virtual = True
    judge(tally, Case(stage, virtual, way, moment, at))
    return tally


def test_a_permit_that_is_kept_is_found(monkeypatch):
    """A client that forgets permits fails the sweep."""
    monkeypatch.setattr(Throttle, "release", lambda _: None)
    assert "in flight: 1" in "".join(one("a record at once", at=1).leaks)


def test_a_cancellation_that_is_swallowed_is_found(monkeypatch):
    """A transport that swallows cancellations fails the sweep."""
    get = FakeTransport.get

    async def stubborn(self, call_id, key, headers=None, *, fresh=False):
        try:
            return await get(self, call_id, key, headers, fresh=fresh)
        except asyncio.CancelledError:
            return await get(self, call_id, key, headers, fresh=fresh)

    monkeypatch.setattr(FakeTransport, "get", stubborn)
    assert "swallowed" in "".join(one("a record at once", at=1).wrong)


def test_the_end_of_the_work_is_the_end_of_the_stage():
    """Behind the last suspension there is no case."""
    assert one("a record at once", at=100).cases == 0


async def test_why_a_message_may_be_lost():
    """Of two messages in a turn asyncio keeps the first, of a `gather` that of the last part."""
    loop = asyncio.get_running_loop()

    async def wait(*futures):
        await asyncio.gather(*futures, return_exceptions=True)

    for done, told in ((0, ("enough",)), (1, ())):
        futures = loop.create_future(), loop.create_future()
        waiting = asyncio.create_task(wait(*futures))
        await asyncio.sleep(0)
        futures[done].set_result(None)
        waiting.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert caught.value.args == told

    future = loop.create_future()
    future.cancel()
    future.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await future
    assert caught.value.args == ()
