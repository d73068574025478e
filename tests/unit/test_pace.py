"""The pace: even starts, no burst after a pause, and no slowing down because timers are late."""

from __future__ import annotations

import pytest

from calls_async._pace import SLACK, Pace


def test_the_first_start_is_free():
    """A pace that has seen nothing holds nobody back."""
    assert Pace(10.0).next_start() < 0.0


def test_starts_are_one_interval_apart():
    """At 10 a second, one start makes the next one due a tenth of a second later."""
    pace = Pace(10.0)
    pace.started(5.0)
    assert pace.next_start() == pytest.approx(5.1)
    pace.started(5.1)
    assert pace.next_start() == pytest.approx(5.2)


def test_without_a_rate_nobody_waits():
    """`None` is no limit: the next start is never in the future."""
    pace = Pace(None)
    for now in (0.0, 0.0, 1.0, 100.0):
        pace.started(now)
        assert pace.next_start() <= now


def test_unused_time_buys_no_burst():
    """After a pause of any length, the second start waits a whole interval again."""
    pace = Pace(1000.0)
    for now in (0.0, 60.0, 60.5):
        pace.started(now)
        assert pace.next_start() == pytest.approx(now + 0.001)


def test_a_late_timer_does_not_push_the_others_back():
    """A start that comes late by no more than the slack counts as if it had been in time."""
    pace = Pace(20.0)
    pace.started(0.0)
    pace.started(0.05 + SLACK / 2)
    assert pace.next_start() == pytest.approx(0.10)


def test_lateness_is_made_up_for_at_high_rates_too():
    """At 1,000 a second a timer that wakes 5 ms late finds six starts due, and no more."""
    pace = Pace(1000.0)
    pace.started(0.0)
    now, started = 0.001 + 0.005, 0
    while pace.next_start() <= now + 1e-9:
        pace.started(now)
        started += 1
    assert started == 6


def test_a_start_that_nobody_waited_for_is_not_late():
    """Beyond the slack it was a pause, and the next start is due an interval after it."""
    pace = Pace(20.0)
    pace.started(0.0)
    pace.started(0.05 + 2 * SLACK)
    assert pace.next_start() == pytest.approx(0.10 + 2 * SLACK)


@pytest.mark.parametrize(("max_rate", "expected"), [(None, 0.5), (1.0, 1.0), (10.0, 0.5)])
def test_the_longer_interval_counts(max_rate, expected):
    """A passing wish for more distance does not make a slower pace faster."""
    pace = Pace(max_rate)
    pace.started(3.0, at_least=0.5)
    assert pace.next_start() == pytest.approx(3.0 + expected)


def test_repr_tells_the_interval():
    """A limiter's repr is truthful."""
    assert repr(Pace(4.0)) == "Pace(interval=0.25)"
    assert repr(Pace(None)) == "Pace(interval=0)"
