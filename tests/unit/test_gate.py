"""The gate: one answer's wish for silence holds for all, and its end is no stampede."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from calls_async._gate import RAMP, STAGGER, Gate

NOW = 1000.0


def gate(*, max_rate=None, max_cool_down=60.0):
    return Gate(max_rate=max_rate, max_cool_down=max_cool_down)


def starts(subject, *, begin, end):
    """When requests start if there are always some that wait, and timers are punctual."""
    now, times = begin, []
    while (now := max(now, subject.next_start())) < end:
        subject.started(now)
        times.append(now)
        if len(times) > 10_000:
            break
    return times


def gaps(times):
    """The time from each start to the next."""
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_new_gate_is_open():
    """Nobody waits for what no server has asked for."""
    assert gate().next_start() == -math.inf


def test_a_cool_down_holds_for_the_next_start():
    """Nothing starts before the time that the server named."""
    subject = gate()
    assert subject.cool_down(NOW, 5.0)
    assert subject.not_before == subject.next_start() == NOW + 5.0


def test_the_opening_only_moves_later():
    """A shorter wish that arrives afterwards does not open the gate early; a longer is no news."""
    subject = gate()
    assert subject.cool_down(NOW, 10.0)
    assert not subject.cool_down(NOW + 1.0, 2.0)
    assert not subject.cool_down(NOW + 1.0, 9.0)
    assert subject.not_before == NOW + 10.0
    assert not subject.cool_down(NOW + 1.0, 9.5)
    assert subject.not_before == NOW + 10.5


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_silence_is_no_news(seconds):
    """A wait of nothing neither closes the gate nor staggers the starts that follow."""
    subject = gate()
    assert not subject.cool_down(NOW, seconds)
    assert subject.not_before == -math.inf


def test_a_silence_is_capped():
    """A server that asks for a year is asked again after the longest silence."""
    subject = gate(max_cool_down=60.0)
    assert subject.cool_down(NOW, 365 * 86_400.0)
    assert subject.not_before == NOW + 60.0


def test_those_who_waited_start_one_after_the_other():
    """For one second after the opening, starts are 10 ms apart; from then on they are free."""
    subject = gate()
    subject.started(NOW)  # somebody was busy before
    subject.cool_down(NOW, 5.0)
    times = starts(subject, begin=NOW, end=NOW + 5.0 + RAMP - STAGGER / 2)
    assert times[0] == NOW + 5.0
    assert gaps(times) == pytest.approx([STAGGER] * 99, abs=1e-6)
    after = NOW + 5.0 + RAMP
    assert len(starts(subject, begin=after, end=after + STAGGER)) > 10_000


def test_a_slower_pace_outlasts_the_stagger():
    """A known limit holds before, during and after the opening."""
    subject = gate(max_rate=10.0)
    subject.cool_down(NOW, 5.0)
    times = starts(subject, begin=NOW, end=NOW + 7.95)
    assert gaps(times) == pytest.approx([0.1] * 29)


def test_the_pace_holds_while_the_gate_is_open():
    """Without any cool-down, the pace alone says when the next start is due."""
    subject = gate(max_rate=4.0)
    subject.started(NOW)
    assert subject.next_start() == NOW + 0.25


def test_repr_is_truthful():
    """The repr tells when the gate opens, to the millisecond, and at which pace."""
    subject = gate(max_rate=4.0)
    assert repr(subject) == "Gate(not_before=-inf, pace=Pace(interval=0.25))"
    subject.cool_down(1_234_567.891, 1.0)
    assert repr(subject) == "Gate(not_before=1234568.891, pace=Pace(interval=0.25))"


def test_a_short_silence_has_a_short_ramp():
    """After 50 ms of silence nobody is held back for a second: the ramp is as long as it was."""
    subject = gate()
    subject.cool_down(NOW, 0.05)
    subject.started(NOW + 0.051)
    assert subject.next_start() > NOW + 0.051  # staggered
    subject.started(NOW + 0.2)
    assert subject.next_start() <= NOW + 0.2  # at full speed again
