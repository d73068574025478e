"""The wait between attempts: full jitter below an exponential, capped ceiling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async._backoff import full_jitter

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "aws_standard_retry.json").read_text("utf-8")
)
RULES = VECTORS["rules"]

attempts = st.integers(1, 10**6)
bases = st.floats(0, 1e3)
factors = st.floats(1, 100)
caps = st.floats(0, 1e6)
draws = st.floats(0, 1)


def delays_of(case: dict[str, Any]) -> list[tuple[str, int, float]]:
    """The (answer, failures so far, delay) of every step that is followed by another attempt."""
    return [
        (answer, attempt, delay)
        for attempt, (answer, delay, _quota) in enumerate(case["steps"], start=1)
        if isinstance(delay, float)
    ]


@pytest.mark.parametrize(
    ("attempt", "expected"), list(enumerate(VECTORS["delays_by_attempt"], start=1))
)
def test_the_ceiling_doubles_up_to_the_cap(attempt, expected):
    """Without jitter, the wait is base * factor ** (attempt - 1), and never more than the cap."""
    delay = full_jitter(
        attempt,
        base=RULES["base_transient_s"],
        factor=RULES["factor"],
        cap=RULES["max_backoff_s"],
        rnd=RULES["jitter"],
    )
    assert delay == pytest.approx(expected)


@pytest.mark.parametrize("case", [case for case in VECTORS["cases"] if delays_of(case)])
def test_every_published_case_waits_as_long_as_it_says(case):
    """Throttled answers start at one second, all others at the transient base."""
    for answer, attempt, expected in delays_of(case):
        base = "base_throttle_s" if answer == "429" else "base_transient_s"
        rules = RULES | case
        delay = full_jitter(
            attempt, base=rules[base], factor=rules["factor"], cap=rules["max_backoff_s"], rnd=1.0
        )
        assert delay == pytest.approx(expected)


def test_a_high_attempt_reaches_the_cap():
    """The published overflow case: a ceiling far beyond the cap is the cap."""
    case = VECTORS["no_overflow"]
    delay = full_jitter(
        case["attempt"],
        base=case["base_s"],
        factor=RULES["factor"],
        cap=RULES["max_backoff_s"],
        rnd=1.0,
    )
    assert delay == case["expect"]


@pytest.mark.parametrize(("base", "expected"), [(0.05, 20.0), (0.0, 0.0)])
def test_a_power_beyond_all_floats_is_the_cap_unless_there_is_nothing_to_multiply(base, expected):
    """No attempt number overflows, and a base of zero means no backoff, however many attempts."""
    assert full_jitter(5000, base=base, factor=2.0, cap=20.0, rnd=1.0) == expected


@pytest.mark.parametrize(("rnd", "expected"), [(0.0, 0.0), (0.25, 1.0), (1.0, 4.0)])
def test_the_draw_scales_the_whole_range(rnd, expected):
    """The jitter is full: the wait may be anything from nothing to the ceiling."""
    assert full_jitter(3, base=1.0, factor=2.0, cap=20.0, rnd=rnd) == expected


@given(attempt=attempts, base=bases, factor=factors, cap=caps, rnd=draws)
def test_the_wait_is_never_negative_and_never_above_the_cap(attempt, base, factor, cap, rnd):
    """Whatever the policy and the draw, 0 <= wait <= cap."""
    assert 0.0 <= full_jitter(attempt, base=base, factor=factor, cap=cap, rnd=rnd) <= cap


@given(attempt=attempts, base=bases, factor=factors, caps=st.tuples(caps, caps), rnd=draws)
def test_a_higher_cap_never_shortens_the_wait(attempt, base, factor, caps, rnd):
    """The wait is monotone in the cap."""
    low, high = (
        full_jitter(attempt, base=base, factor=factor, cap=cap, rnd=rnd) for cap in sorted(caps)
    )
    assert low <= high


@given(attempt=attempts, base=bases, factor=factors, cap=caps, rnd=draws)
def test_a_further_failure_never_shortens_the_wait(attempt, base, factor, cap, rnd):
    """The wait is monotone in the number of failures, also across the edge of the floats."""
    now, later = (
        full_jitter(number, base=base, factor=factor, cap=cap, rnd=rnd)
        for number in (attempt, attempt + 1)
    )
    assert now <= later
