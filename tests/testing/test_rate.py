"""The sandbox's token bucket: what it admits, and what it announces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calls_async._headers import read_hint
from calls_async.testing._rate import TokenBucket


@given(
    st.floats(0.1, 1000),
    st.integers(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=50),
)
def test_it_never_admits_more_than_burst_plus_rate_times_time(rate, burst, gaps):
    """Over the whole time no more is admitted than the bucket held and what flowed in since."""
    bucket = TokenBucket()
    now = admitted = 0
    for gap in gaps:
        now += gap
        admitted += bucket.take(now, rate=rate, burst=burst)
        assert admitted <= burst + now * rate + 1e-6


@given(st.floats(0.1, 1000), st.integers(1, 20))
def test_requests_at_the_rate_are_all_admitted(rate, burst):
    """A client that keeps the rate is never turned away."""
    bucket = TokenBucket()
    assert all(bucket.take(number / rate, rate=rate, burst=burst) for number in range(100))


def test_a_full_bucket_admits_a_burst_and_then_one_at_a_time():
    """After the burst a token comes every 1 / rate seconds."""
    bucket = TokenBucket()
    assert [bucket.take(100.0, rate=4, burst=3) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(100.2, rate=4, burst=3)
    assert bucket.take(100.25, rate=4, burst=3)


@pytest.mark.parametrize(
    ("rate", "policy"),
    [(50, '"sandbox";q=50;w=1'), (0.5, '"sandbox";q=1;w=2'), (2.5, '"sandbox";q=2;w=1')],
)
def test_the_policy_is_the_rate_in_whole_numbers(rate, policy):
    """The quota of the window never promises more than the rate."""
    bucket = TokenBucket()
    bucket.take(0.0, rate=rate, burst=1)
    assert dict(bucket.announcement(rate=rate, burst=1))["RateLimit-Policy"] == policy


def test_what_it_announces_is_what_the_client_reads():
    """The client's own reader gets what is left and the seconds until there is more."""
    bucket = TokenBucket()
    bucket.take(0.0, rate=0.5, burst=3)
    fields = CIMultiDict(bucket.announcement(rate=0.5, burst=3))
    (budget,) = read_hint(200, fields, 0.0).budgets
    assert (budget.remaining, budget.reset) == (2, 2.0)


def test_a_request_that_is_turned_away_is_told_when_to_come_back():
    """`Retry-After` is the time until the next token, in whole seconds, rounded up."""
    bucket = TokenBucket()
    bucket.take(0.0, rate=0.4, burst=1)
    assert not bucket.take(0.0, rate=0.4, burst=1)
    fields = CIMultiDict(bucket.retry_after(rate=0.4) + bucket.announcement(rate=0.4, burst=1))
    assert fields["Retry-After"] == "3"
    hint = read_hint(429, fields, 0.0)
    assert (hint.wait, hint.budgets[0].remaining, hint.budgets[0].reset) == (3.0, 0, 3.0)
    assert bucket.take(2.5, rate=0.4, burst=1)
