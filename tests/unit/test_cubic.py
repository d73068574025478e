"""CUBIC, the published rival: the simulation compares with the real one, by its own test cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation import rivals
from tests.simulation.rivals import Cubic, CubicPace, CubicRate

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cubic_rate.json").read_text("utf-8"))


def test_the_constants_are_the_published_ones():
    """The vector names them."""
    published = {name: VECTORS[name] for name in ("beta", "scale", "smoothing", "bucket_s")}
    assert published == {
        "beta": rivals.BETA,
        "scale": rivals.SCALE,
        "smoothing": rivals.SMOOTHING,
        "bucket_s": rivals.HALF,
    }
    assert VECTORS["min_fill"] == rivals.LEAST_FILL
    assert VECTORS["min_capacity"] == rivals.LEAST_CAPACITY


@pytest.mark.parametrize(("last_max_rate", "expected"), VECTORS["k"])
def test_the_time_back_to_the_last_maximum(last_max_rate, expected):
    """K is the cube root of what was cut, over the scale."""
    assert Cubic(last_max_rate).k == pytest.approx(expected)


@pytest.mark.parametrize(("now", "expected"), VECTORS["cubic_success"]["rate_at"])
def test_successes_only(now, expected):
    """The rate rises to the last maximum, rests there, and then goes beyond it."""
    given = VECTORS["cubic_success"]
    cubic = Cubic(given["last_max_rate"], given["last_throttle_t"])
    assert cubic.success(now) == pytest.approx(expected)


def test_successes_and_throttles_mixed():
    """Each throttled answer cuts the rate in use and starts the curve anew."""
    given = VECTORS["cubic_success"]
    cubic = Cubic(given["last_max_rate"], given["last_throttle_t"])
    rate = 0.0
    for answer, now, expected in VECTORS["mixed"]:
        if answer == "S":
            rate = cubic.success(now)
        else:
            # This published case hands the cut rate on as the new maximum; `measured`, which is
            # the whole algorithm, hands on the rate before the cut, and so does `CubicRate`.
            rate = cubic.last_max_rate = cubic.throttle(now, rate)
        assert rate == pytest.approx(expected)


def test_bound_to_the_measured_rate():
    """The rate is at most twice what was measured, and the bucket's fill has a lower bound."""
    subject = CubicRate()
    for now, throttled, measured, fill in VECTORS["measured"]["rows"]:
        subject.answered(now, throttled=throttled)
        assert (subject.measured, subject.fill) == pytest.approx((measured, fill))


def test_its_bucket_fills_while_it_is_parked():
    """As published: time without requests saves up tokens, and buys a burst afterwards."""
    pace = CubicPace()
    for tenth in range(30):
        pace.accepted(tenth / 10, started=0.0)
    pace.throttled(3.0, started=3.0, silence=1.0, rnd=0.0)
    assert pace.learnt is not None
    now, burst = 63.0, 0
    while pace.next_start() <= now:
        pace.started(now)
        burst += 1
    assert burst == int(pace.learnt) > 1
