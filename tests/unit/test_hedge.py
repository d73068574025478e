"""Hedging: when a request is late, and how many rivals there may be."""

from __future__ import annotations

import pytest

from calls_async._hedge import Hedge


def observed(durations: list[float]) -> Hedge:
    """A hedge that knows these durations."""
    hedge = Hedge(0.05)
    for duration in durations:
        hedge.observed(duration)
    return hedge


def test_before_fifty_answers_nothing_is_late():
    """The slowest 5% of 49 answers are two accidents."""
    assert observed([1.0] * 49).delay() is None
    assert observed([1.0] * 50).delay() == 1.0


@pytest.mark.parametrize(("known", "percentile"), [(50, 48), (60, 57), (100, 95), (200, 190)])
def test_the_delay_is_the_95th_percentile(known, percentile):
    """The shortest duration that at least 95% of the answers did not pass, in any order."""
    assert observed([float(n) for n in range(known, 0, -1)]).delay() == percentile


def test_only_the_last_two_hundred_answers_count():
    """The percentile moves with the server: what is older than 200 answers is forgotten."""
    hedge = observed([9.0] * 200 + [1.0] * 189)
    assert hedge.delay() == 9.0
    hedge.observed(1.0)
    assert hedge.delay() == 1.0


def test_equal_durations_are_forgotten_one_by_one():
    """Of many equal durations exactly the oldest goes."""
    assert observed([1.0] * 190 + [2.0] * 10 + [1.0] * 200 + [3.0] * 11).delay() == 3.0


def test_twenty_first_requests_earn_a_hedge():
    """At 5% a hedge is paid for by twenty requests, and the first twenty have none to give."""
    hedge = Hedge(0.05)
    for _ in range(19):
        hedge.started()
    assert not hedge.take()
    hedge.started()
    hedge.started()
    assert hedge.take()
    assert not hedge.take()


def test_a_quiet_hour_saves_up_five_hedges_and_no_more():
    """When the server slows down, the hedges of an hour do not all come at once."""
    hedge = Hedge(0.05)
    for _ in range(100_000):
        hedge.started()
    assert [hedge.take() for _ in range(6)] == [True] * 5 + [False]


def test_the_repr_tells_the_delay_and_the_credit():
    """What a person wants to know at night."""
    assert repr(Hedge(0.05)) == "Hedge(delay=None, credit=0.00, share=0.05)"
