"""The line: what the script answers, on a real server, and what the pure parts make of it."""

from __future__ import annotations

import math
import time

import pytest

from calls_async import Reservation
from calls_async.engines._line import (
    LEASE,
    LULL,
    QUIET,
    SCRIPT,
    Reply,
    ServerClock,
    Share,
    arguments,
)

AHEAD = 0.1
SOON = 0.05
"""Seconds that a busy machine may take between two commands."""


def read(answer):
    """An answer of strings and numbers in the server's own form."""
    return [line for line in answer.split(b"\r\n") if line and line[:1] not in (b"*", b"$")]


class Scripted:
    """The script on a line of the test's own.

    Args:
        server: The server.
        name: What the line is called.
    """

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.keys = (f"{{{name}}}:line", f"{{{name}}}:workers")

    def run(self, worker="a", *, rate=100.0, most=0, **options):
        asked = arguments(worker, rate=rate, ahead=AHEAD, most=most, **options)
        answer = read(self.server.command("EVAL", SCRIPT, 2, *self.keys, *asked))
        assert len(answer) == 6, answer
        return Reply.of([part.removeprefix(b":").decode() for part in answer])

    def set(self, **fields):
        """Set fields of the line, in seconds from now."""
        now = time.time()
        for field, seconds in fields.items():
            self.server.command("HSET", self.keys[0], field, f"{(now + seconds) * 1e6:.3f}")


@pytest.fixture
def line(redis_server, request):
    """A line that was used until a moment ago."""
    line = Scripted(redis_server, request.node.name.replace("[", "-"))
    line.set(next=0.0)
    return line


def test_slots_are_evenly_spaced(line):
    """The next slots begin where the last ones ended, one interval apart, whoever asks."""
    first, second = line.run(most=3), line.run("b", most=3)
    assert (first.count, first.step, second.step) == (3, 0.01, 0.01)
    ended = first.now + first.first + 3 * first.step
    assert second.now + second.first == pytest.approx(ended, abs=1e-5)


def test_a_line_that_is_not_used_up_saves_nothing(line):
    """After a pause the first slot is now, and there is no burst."""
    line.set(next=-0.2)
    reply = line.run(most=100)
    assert reply.first == 0.0
    assert reply.count == 10
    assert line.run(most=1).first == pytest.approx(0.1, abs=SOON)


@pytest.mark.parametrize(("workers", "count"), [(1, 10), (2, 5), (3, 3), (10, 1), (50, 1)])
def test_a_process_gets_its_share_ahead_and_no_more(line, workers, count):
    """At most a tenth of a second of its even share at once, but one slot at least."""
    for worker in range(workers):
        reply = line.run(f"w{worker}")
    assert reply.workers == workers
    assert line.run("w0", most=1000).count == count
    assert line.run("w0", most=1).count == 1


def test_a_park_binds_all(line):
    """Nobody gets a slot until it is over; a shorter one changes nothing."""
    line.run(park=10.0)
    line.run("b", park=1.0)
    reply = line.run("c", most=5)
    assert (reply.count, reply.step) == (0, 0.0)
    assert reply.parked == pytest.approx(10.0, abs=SOON)


def test_after_a_park_the_line_goes_on_evenly(line):
    """Shortly before its end slots are given again, from its end on and one interval apart."""
    line.run(park=0.09)
    first, second = line.run(most=2), line.run("b", most=2)
    assert first.first == pytest.approx(0.09, abs=SOON)
    assert second.now + second.first - first.now - first.first == pytest.approx(0.02, abs=1e-5)
    assert first.step == second.step == 0.01


def test_a_line_that_nobody_knows_begins_after_a_silence(redis_server):
    """After a restart without its line Redis gives no slot before all have asked again."""
    line = Scripted(redis_server, "forgotten")
    assert line.run().count == 0  # to look is not to begin
    assert line.run(most=5).first == pytest.approx(QUIET, abs=SOON)
    reply = line.run("b", most=5)
    assert reply.first > QUIET - SOON
    assert reply.count == 5


def test_a_line_that_lay_idle_goes_on_at_one_share(line):
    """After a restart with its line, those who have not noticed use no more than the rest."""
    line.run("a"), line.run("b"), line.run("c")
    line.set(next=-LULL - 0.1)
    first = line.run("a", most=10)
    assert (first.count, first.step) == (1, 0.03)
    second = line.run("b", most=10)
    assert second.now + second.first - first.now - first.first == pytest.approx(0.03, abs=1e-4)
    line.set(next=QUIET + 0.1)
    assert line.run("a", most=10).step == 0.01


def test_a_process_that_was_alone_for_long_knows_how_many_there_were(line):
    """Those who were not heard of for longer than their lease count as long as one remembers."""
    line.set(next=-3600.0)
    assert line.run("a", most=10, peers=4).step == 0.04
    assert line.run("a", most=10).step == 0.04


def test_who_is_not_heard_of_is_forgotten(line):
    """A process that died stops to count when its lease ends."""
    gone = time.time() - LEASE - 1.0
    line.server.command("ZADD", line.keys[1], f"{gone * 1e6:.0f}", "gone")
    assert line.run("a").workers == 1


def test_a_clock_that_goes_back_stops_nobody_for_long(line):
    """A slot that lies further ahead than any line is of another time."""
    line.set(next=3600.0)
    reply = line.run(most=1)
    assert reply.first < QUIET + 1.0


def test_all_keys_expire(line):
    """What nobody uses is gone after a day, and a park that is longer holds until its end."""
    line.run(most=1)
    for key in line.keys:
        assert 0 < int(line.server.command("PTTL", key)[1:]) <= 86_400_000
    line.run(park=2 * 86_400.0)
    assert int(line.server.command("PTTL", line.keys[0])[1:]) > 2 * 86_400_000


# --- The pure parts ------------------------------------------------------------------------------


def test_the_clock_is_as_the_quickest_exchange_had_it():
    """A loop that was busy makes an exchange long, and its answer a bad witness."""
    clock = ServerClock()
    clock.noted(10.0, 10.2, 1010.15)
    assert clock.here(1000.0) == pytest.approx(-0.05)
    clock.noted(11.0, 11.002, 1011.001)
    clock.noted(12.0, 12.2, 1012.15)
    assert clock.here(1000.0) == pytest.approx(0.0)
    clock.forget()
    clock.noted(10.0, 10.2, 1010.15)
    assert clock.here(1000.0) == pytest.approx(-0.05)


def test_a_clock_that_was_set_is_noticed():
    """What two exchanges cannot both be right about is another clock, and the new one counts."""
    clock = ServerClock()
    clock.noted(10.0, 10.001, 1010.0)
    clock.noted(11.0, 11.05, 1041.0)
    assert clock.here(1041.0) == pytest.approx(11.025)


def test_an_own_share_is_evenly_spaced():
    """Slots are one interval apart over all reservations, and none is before its time."""
    share = Share(0.02, begins=100.0)
    assert share.take(99.0, 10, AHEAD) == Reservation(1.0, 0.02, 5)
    given = share.take(99.5, 2, AHEAD)
    assert (given.first, given.count) == (pytest.approx(0.6), 2)
    assert share.due == pytest.approx(100.14)
    assert share.take(200.0, 1, AHEAD) == Reservation(0.0, 0.02, 1)  # a pause saves nothing
    assert Share(1.0, begins=0.0).take(0.0, 10, AHEAD).count == 1


def test_a_reply_is_in_seconds():
    """The script counts in microseconds, and everybody else in seconds."""
    reply = Reply.of(["1000000.000", 2, "5000.000", "2500.000", 3, "-1.000"])
    assert reply == Reply(now=1.0, count=2, first=0.005, step=0.0025, workers=3, parked=-1e-06)
    assert math.isclose(float(arguments("w", rate=300.0, ahead=0.1)[1]), 3333.333)
