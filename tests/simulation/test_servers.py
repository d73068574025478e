"""The server models: each limits as what it stands for does, and a run of them can be repeated."""

from __future__ import annotations

import math

from tests.simulation.driver import simulate
from tests.simulation.servers import FixedWindow, SlidingWindow, TokenBucket, changing, steady


def statuses(server, times):
    """How requests at these times are answered."""
    return [server.reply(at).status for at in times]


def test_a_run_can_be_repeated():
    """The same seed gives the same requests at the same times, to the last digit."""
    first, second, other = (
        simulate(TokenBucket(rate=steady(50.0)), ids=200, seed=seed) for seed in (7, 7, 8)
    )
    assert first.requests == second.requests
    assert first.requests != other.requests


def test_the_bucket_accepts_its_burst_and_one_more():
    """nginx: the first request has no excess, and an excess up to the burst is accepted."""
    bucket = TokenBucket(rate=steady(50.0), burst=10)
    assert statuses(bucket, [5.0] * 13) == [200] * 11 + [429] * 2
    assert statuses(bucket, [5.0201, 5.0202]) == [200, 429]


def test_the_bucket_follows_its_limit():
    """A limit that is lifted at a time accepts everything from then on."""
    bucket = TokenBucket(rate=changing(1.0, 10.0, math.inf), burst=0)
    assert statuses(bucket, [0.0, 0.5, 10.0, 10.0, 10.0]) == [200, 429, 200, 200, 200]


def test_the_fixed_window_announces_what_is_left():
    """Each answer has the rest of the quota and the whole seconds to the next window."""
    window = FixedWindow(quota=2, window=10.0)
    replies = [window.reply(at) for at in (3.2, 3.3, 3.4, 10.0)]
    assert [reply.status for reply in replies] == [200, 200, 429, 200]
    assert [dict(reply.headers)["RateLimit"] for reply in replies] == [
        '"fixed";r=1;t=7',
        '"fixed";r=0;t=7',
        '"fixed";r=0;t=7',
        '"fixed";r=1;t=10',
    ]
    assert dict(replies[2].headers)["Retry-After"] == "7"


def test_the_sliding_window_counts_what_it_refuses():
    """Whoever goes on asking while refused is refused; a pause as long as the window helps."""
    window = SlidingWindow(quota=2, window=1.0)
    assert statuses(window, [0.0, 0.1, 0.2, 1.05, 1.15, 1.25]) == [200, 200, 429, 429, 429, 429]
    assert statuses(window, [2.3]) == [200]
