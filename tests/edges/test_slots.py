"""A client in a fleet: it starts when it has a slot, whatever the pace does, and loses no id."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from calls_async import (
    CallsError,
    ConfigurationError,
    DeadlineExceededError,
    FleetPaceError,
    Limits,
    Reservation,
    StoppedBy,
)
from calls_async._slots import LATE, OVERDUE
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.fleets import Line, Member, most_within
from tests.kit import call_ids, in_virtual_time, other_tasks, timers

SOON = 0.001
"""Seconds that timers may be early or late by rounding."""


def now():
    return asyncio.get_running_loop().time()


class Scripted:
    """A pace that does what the test says: each `reserve` is the next of these.

    A step is a `Reservation` (or whatever else it returns), an exception, or `None`: it hangs. The
    last step goes on for ever.
    """

    def __init__(self, *steps, park=None, close=None):
        self.steps = itertools.chain(steps, itertools.repeat(steps[-1]))
        self.asked, self.parks, self.closed = [], [], 0
        self.on_park, self.on_close = park, close

    async def reserve(self, most):
        self.asked.append((now(), most))
        return await _done(next(self.steps))

    async def park(self, seconds):
        self.parks.append(seconds)
        await _done(self.on_park)

    async def close(self):
        self.closed += 1
        await _done(self.on_close)


class Hang:
    """Never comes back."""


async def _done(step):
    if isinstance(step, BaseException):
        raise step
    if step is Hang:
        await asyncio.get_running_loop().create_future()
    return step


def one_at_a_time(interval=0.1):
    return Reservation(interval, 0.0, 1)


def starts(transport):
    return [entry.at for entry in transport.ledger.entries]


# --- Slots are starts ----------------------------------------------------------------------------


@in_virtual_time
async def test_starts_are_the_fleet_s_slots():
    """Every request starts at a slot's time, and two clients share the rate evenly."""
    line, transport = Line(rate=200.0), FakeTransport(latency=0.02)
    async with (
        fake_client(transport, pace=Member(line)) as one,
        fake_client(transport, pace=Member(line)) as other,
    ):
        ids = call_ids(400)
        await asyncio.gather(one.gather_calls(ids[:200]), other.gather_calls(ids[200:]))
    at = starts(transport)
    assert most_within(at, 1.0) <= 205
    assert most_within(at, 0.05) <= 15
    assert at[-1] < 2.2
    assert min(abs(slot - begun) for slot in line.granted for begun in at[:1]) < LATE


@in_virtual_time
async def test_no_slot_is_asked_for_that_nobody_could_use():
    """Not more are wanted than there are calls that wait and permits that are free."""
    pace = Member(Line(rate=1000.0, ahead=10.0))
    limits = Limits(max_concurrency=4)
    async with fake_client(FakeTransport(latency=0.1), pace=pace, limits=limits) as client:
        await client.gather_calls(call_ids(2))
        assert sum(pace.asked) <= 4
        await client.gather_calls(call_ids(40))
    assert max(pace.asked) <= 4


@in_virtual_time
async def test_a_late_slot_is_thrown_away():
    """A loop that was busy does not catch up: what it missed is lost, and it asks again."""
    line, transport = Line(rate=100.0), FakeTransport()
    async with fake_client(transport, pace=Member(line)) as client:
        job = asyncio.create_task(client.gather_calls(call_ids(100)))
        await asyncio.sleep(0.5)
        before = len(transport.ledger)
        asyncio.get_running_loop().jump(0.2)
        await asyncio.sleep(0)
        await job
    at = starts(transport)[before:]
    assert most_within(at, LATE) <= LATE * 100 + 2
    assert most_within(starts(transport), 1.0) <= 102


@in_virtual_time
async def test_single_calls_take_slots_too():
    """What needs no batch needs a slot all the same, one for each request."""
    line = Line(rate=10.0)
    async with fake_client(pace=Member(line)) as client:
        for _ in range(5):
            await client.get_call("call-1")
        assert now() >= 0.4
    assert len(line.granted) == 5


@in_virtual_time
async def test_the_client_s_own_rate_holds_beside_the_fleet_s():
    """The next start is the later of the gate's and the slot's; the fleet loses no slot to that."""
    line = Line(rate=100.0)
    transport = FakeTransport()
    limits = Limits(max_rate=20.0)
    async with fake_client(transport, pace=Member(line), limits=limits) as client:
        await client.gather_calls(call_ids(40))
    assert most_within(starts(transport), 1.0) <= 21
    assert now() == pytest.approx(2.0, abs=0.2)
    assert len(line.granted) <= 45


@in_virtual_time
async def test_hedges_take_slots_too():
    """A rival of a late request starts only if a slot is at hand."""
    transport = FakeTransport(latency=0.01)
    line = Line(rate=1000.0)
    async with fake_client(transport, pace=Member(line), limits=Limits(hedge=0.05)) as client:
        for call_id in call_ids(100):
            await client.get_call(call_id)
        transport.latency = 1.0
        await client.get_call("late")
    assert len(transport.ledger) <= len(line.granted)


# --- Cool-down -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_refusal_of_one_parks_the_fleet():
    """Once one client is asked for silence, the other starts nothing but the slots it had."""
    line, transport = Line(rate=100.0), FakeTransport(latency=0.01)
    refusing = FakeTransport(faults={"call-0": [Fault.status(429, headers={"Retry-After": "20"})]})
    async with (
        fake_client(refusing, pace=Member(line)) as one,
        fake_client(transport, pace=Member(line)) as other,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(other.gather_calls(call_ids(500)))
        await asyncio.sleep(1.0)
        group.create_task(one.gather_calls(call_ids(1)))
        await asyncio.sleep(1.0)
        assert other.statistics().cool_down == pytest.approx(19.1, abs=0.1)
        with pytest.raises(DeadlineExceededError) as caught:
            await other.get_call("hurried", timeout=5)
        assert now() == pytest.approx(2.0, abs=SOON)  # it knew at once
        assert any("asked for silence" in note for note in caught.value.__notes__)
    at = starts(transport)
    assert [time for time in at if 1.2 < time < 21.0] == []
    assert sum(time > 21.0 for time in at) > 300


@in_virtual_time
async def test_a_longer_silence_is_told_as_well():
    """The fleet is told when it begins and when it grows, and not for each refusal of a wave."""
    pace = Scripted(one_at_a_time(0.0))
    refused = [Fault.status(429, headers={"Retry-After": wait}) for wait in ("2", "30")]
    async with fake_client(FakeTransport(faults={"a": refused}), pace=pace) as client:
        await client.gather_calls(["a"])
    assert pace.parks == pytest.approx([2.0, 30.0], abs=0.1)


@pytest.mark.parametrize("how", [RuntimeError("password"), Hang])
@in_virtual_time
async def test_parking_that_fails_costs_nothing(how):
    """This client keeps silent all the same, and closing it waits no longer than a moment."""
    pace = Scripted(one_at_a_time(0.0), park=how)
    slow = Fault.status(429, headers={"Retry-After": "2"})
    client = fake_client(FakeTransport(faults={"a": [slow]}), pace=pace)
    await client.gather_calls(["a", "b"])
    assert now() >= 2.0
    before = now()
    await client.close()
    assert now() <= before + 2.0
    assert other_tasks() == set()


@in_virtual_time
async def test_while_the_fleet_is_parked_patience_runs():
    """A batch that has no patience for the silence ends at once, with the reason, and unsent."""
    pace = Scripted(Reservation(500.0, count=0))
    transport = FakeTransport()
    async with fake_client(transport, pace=pace, limits=Limits(patience=60.0)) as client:
        brought = await client.gather_calls(call_ids(5), return_exceptions=True)
    assert {(type(each), each.stopped_by) for each in brought} == {
        (FleetPaceError, StoppedBy.PATIENCE)
    }
    assert (now(), len(transport.ledger)) == (0.0, 0)


# --- A pace that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        RuntimeError("password"),
        CallsError("out of order"),
        asyncio.CancelledError(),
        "ten",
        Reservation(0.0, 0.0, 10**9),
    ],
    ids=["raises", "raises ours", "is cancelled", "gives nonsense", "gives too much"],
)
@in_virtual_time
async def test_a_pace_that_fails_loses_no_id(trouble, caplog):
    """It is asked again until it gives slots; the log says so once, without the foreign text."""
    pace = Scripted(*[trouble] * 5, one_at_a_time(0.0))
    with caplog.at_level(logging.WARNING, logger="calls_async"):
        async with fake_client(pace=pace) as client:
            calls = await client.gather_calls(call_ids(20))
    assert [call.id for call in calls] == call_ids(20)
    assert len(caplog.records) == 1
    assert "password" not in caplog.text
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(pace.asked[:6])]
    assert min(gaps) >= 0.05
    assert max(gaps) <= 2.0


@pytest.mark.parametrize("trouble", [RuntimeError(), Hang], ids=["raises", "hangs"])
@in_virtual_time
async def test_a_pace_that_never_works_ends_with_patience(trouble):
    """A batch gives up when nothing was heard for as long as it has patience, and says why."""
    transport = FakeTransport()
    client = fake_client(transport, pace=Scripted(trouble), limits=Limits(patience=60.0))
    async with client:
        brought = await client.gather_calls(call_ids(5), return_exceptions=True)
    assert {(type(each), each.stopped_by, each.attempts) for each in brought} == {
        (FleetPaceError, StoppedBy.PATIENCE, 0)
    }
    assert now() == pytest.approx(60.0 + OVERDUE, abs=OVERDUE)
    assert len(transport.ledger) == 0
    assert other_tasks() == set()


@in_virtual_time
async def test_a_pace_that_cannot_work_ends_a_batch_at_once():
    """After a `ConfigurationError` nothing is waited for: it will not get better by itself."""
    pace = Scripted(ConfigurationError("the password is wrong"))
    async with fake_client(pace=pace) as client:
        with pytest.raises(ConfigurationError, match="the password is wrong"):
            await client.gather_calls(call_ids(5))
        assert now() == 0.0
        with pytest.raises(DeadlineExceededError) as caught:
            await client.get_call("single")
    assert any("the password is wrong" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("pace", [Hang, one_at_a_time(1000.0)], ids=["hangs", "a far slot"])
@in_virtual_time
async def test_who_waits_no_longer_leaves_nothing_behind(pace):
    """A call that is cancelled while it waits for a slot takes the question for it along."""
    async with fake_client(pace=Scripted(pace)) as client:
        single = asyncio.create_task(client.get_call("call-1"))
        batch = asyncio.create_task(client.gather_calls(call_ids(5)))
        await asyncio.sleep(1.0)
        for task in (single, batch):
            task.cancel()
        await asyncio.wait({single, batch})
        await asyncio.sleep(0)
        assert other_tasks() == set()
        assert timers() == []
        assert client.statistics().waiting == 0


@in_virtual_time
async def test_who_comes_after_one_that_was_cancelled_is_served():
    """The question that was called off is asked anew for the next."""
    pace = Scripted(Hang, one_at_a_time())
    async with fake_client(pace=pace) as client:
        first = asyncio.create_task(client.get_call("call-1"))
        await asyncio.sleep(1.0)
        first.cancel()
        await asyncio.wait({first})
        call = await client.get_call("call-2")
    assert call.id == "call-2"


# --- Closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [None, RuntimeError("password"), Hang])
@in_virtual_time
async def test_closing_closes_the_pace(how, caplog):
    """The client closes it once, whatever it does then; nothing of it is left."""
    pace = Scripted(one_at_a_time(0.0), close=how)
    client = fake_client(pace=pace)
    child = client.with_options()
    await client.get_call("call-1")
    await child.close()
    assert pace.closed == 0
    await client.close()
    await client.close()
    assert pace.closed == 1
    assert other_tasks() == set()
    assert "password" not in caplog.text


@in_virtual_time
async def test_closing_while_calls_wait_for_slots():
    """They end with the client, and the hanging question with them."""
    client = fake_client(pace=Scripted(Hang))
    waiting = asyncio.create_task(client.gather_calls(call_ids(5), return_exceptions=True))
    await asyncio.sleep(1.0)
    await client.close()
    assert {each.stopped_by for each in await waiting} == {StoppedBy.CLOSED}
    assert other_tasks() == set()


class Stubborn(Scripted):
    """A pace that does not let itself be cancelled."""

    async def reserve(self, most):
        while True:
            try:
                await super().reserve(most)
            except asyncio.CancelledError:
                if now() > 100.0:
                    raise


@in_virtual_time
async def test_closing_does_not_wait_for_what_will_not_end():
    """Code that swallows its cancellation keeps nobody from closing."""
    client = fake_client(pace=Stubborn(Hang))
    waiting = asyncio.create_task(client.get_call("call-1"))
    await asyncio.sleep(1.0)
    await client.close()
    assert now() <= 4.0
    with pytest.raises(CallsError):
        await waiting
    await asyncio.sleep(100.0)
    for task in other_tasks():
        task.cancel()


@in_virtual_time
async def test_a_close_that_is_cancelled_leaves_nothing_behind():
    """Who is in a hurry ends the rest at once."""
    pace = Scripted(one_at_a_time(0.0), park=Hang, close=Hang)
    slow = Fault.status(429, headers={"Retry-After": "2"})
    for pause in (0.5, 1.5):
        client = fake_client(FakeTransport(faults={"a": [slow]}), pace=pace)
        await client.gather_calls(["a", "b"])
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(pause)
        closing.cancel()
        await asyncio.wait({closing})
        await asyncio.sleep(0)
        assert closing.cancelled()
        assert other_tasks() == set()


# --- An outage of the API ------------------------------------------------------------------------


@in_virtual_time
async def test_an_outage_takes_no_slots_from_the_fleet():
    """While a batch holds, it asks for the slots of its probes alone."""
    line = Line(rate=100.0)
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, pace=Member(line)) as client:
        job = asyncio.create_task(client.gather_calls(call_ids(500)))
        await asyncio.sleep(5.0)
        assert client.statistics().outage > 0
        before = len(line.granted)
        await asyncio.sleep(40.0)
        assert len(line.granted) - before <= 25
        transport.reachable = True
        assert len(await job) == 500
