"""The limit of requests in flight: slow start, then one step up a limit's worth, one cut a wave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calls_async._concurrency import Concurrency

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "aimd_concurrency.json").read_text("utf-8")
)
DROPS = VECTORS["drops_in_a_row"]
QUICK = {"started": 0.0, "now": 0.0}
"""The time of an answer that did not queue."""


def after_a_cut(limit: int, *, maximum: int = 1024) -> Concurrency:
    """A concurrency cut down to `limit`, one of the published drops; slow start is over."""
    concurrency = Concurrency(maximum)
    for wave in range(1, DROPS.index(limit) + 1):
        concurrency.overloaded(started=wave, now=wave + 0.5)
    assert concurrency.limit == limit
    return concurrency


def succeed(concurrency: Concurrency, times: int) -> list[int]:
    """The limits after each of so many successes, with the limit fully used."""
    limits = []
    for _ in range(times):
        concurrency.succeeded(concurrency.limit, **QUICK)
        limits.append(concurrency.limit)
    return limits


@pytest.mark.parametrize(("maximum", "start"), [(1, 1), (19, 19), (20, 20), (64, VECTORS["start"])])
def test_the_limit_starts_at_twenty_or_at_a_lower_maximum(maximum, start):
    """The published start, unless the user allows less."""
    assert Concurrency(maximum).limit == start


def test_each_wave_of_overload_cuts_as_published():
    """A cut leaves nine tenths, rounded down, and never less than one."""
    concurrency = Concurrency(64)
    limits = [concurrency.limit]
    for wave in range(1, len(DROPS)):
        concurrency.overloaded(started=wave, now=wave + 0.5)
        limits.append(concurrency.limit)
    assert limits == DROPS
    assert limits[-1] == VECTORS["min"]


@pytest.mark.parametrize("limit", [18, 9, 2, 1])
def test_after_a_cut_as_many_successes_as_the_limit_raise_it_by_one(limit):
    """+1/limit on a success, exactly: the step comes with the last of `limit` successes."""
    concurrency = after_a_cut(limit)
    assert succeed(concurrency, limit) == [limit] * (limit - 1) + [limit + 1]
    assert succeed(concurrency, limit + 1) == [limit + 1] * limit + [limit + 2]


@pytest.mark.parametrize(("in_flight", "grown"), [(15, 18), (16, 19), (18, 19)])
def test_a_limit_that_is_not_used_is_not_raised(in_flight, grown):
    """Only while in flight >= floor(0.9 x 18) = 16 does a success count."""
    concurrency = after_a_cut(18)
    for _ in range(18):
        concurrency.succeeded(in_flight, **QUICK)
    assert concurrency.limit == grown


def test_until_the_first_cut_each_success_raises_the_limit():
    """Slow start: from 20 to 1,024 in 1,004 successes, and no further."""
    concurrency = Concurrency(1024)
    assert succeed(concurrency, 1004) == list(range(21, 1025))
    assert succeed(concurrency, 2000) == [1024] * 2000


def test_slow_start_does_not_raise_an_unused_limit_either():
    """A client that asks for one call at a time learns nothing about sixty-four."""
    concurrency = Concurrency(64)
    for _ in range(100):
        concurrency.succeeded(1, **QUICK)
    assert concurrency.limit == 20


def test_a_wave_that_fails_together_cuts_once():
    """Requests started before the last cut, or at the same time, do not cut again."""
    concurrency = Concurrency(64)
    for late in range(20):
        concurrency.overloaded(started=1.0, now=2.0 + late)
    assert concurrency.limit == 18
    concurrency.overloaded(started=2.0, now=30.0)
    assert concurrency.limit == 18
    concurrency.overloaded(started=2.1, now=31.0)
    assert concurrency.limit == 16


def test_a_cut_takes_back_the_steps_towards_the_next_rise():
    """The successes before a cut belong to a limit that has proved too high."""
    concurrency = after_a_cut(18)
    succeed(concurrency, 17)
    concurrency.overloaded(started=100.0, now=101.0)
    assert succeed(concurrency, 16) == [16] * 15 + [17]


def test_a_restart_is_a_slow_start_back_to_what_the_server_took():
    """After an outage: from one up to the last proven limit by one a success, then step by step."""
    concurrency = Concurrency(64)
    assert succeed(concurrency, 10)[-1] == 30
    concurrency.succeeded(30, **QUICK)  # at 30, which it proves
    for wave in range(1, 50):  # the outage's own cuts prove nothing
        concurrency.overloaded(started=wave, now=wave + 0.5)
    concurrency.restart()
    assert concurrency.limit == 1
    assert succeed(concurrency, 29) == list(range(2, 31))
    assert succeed(concurrency, 30) == [30] * 29 + [31]


def test_a_restart_after_an_outage_from_the_beginning_knows_no_lower_limit():
    """Where nothing ever succeeded, nothing speaks against the maximum."""
    concurrency = after_a_cut(1, maximum=64)
    concurrency.restart()
    assert succeed(concurrency, 70)[-1] == 64


def test_a_cut_ends_the_slow_start_of_a_restart():
    """Overload on the way back is overload."""
    concurrency = Concurrency(64)
    succeed(concurrency, 44)
    concurrency.restart()
    succeed(concurrency, 19)
    concurrency.overloaded(started=1.0, now=2.0)
    assert succeed(concurrency, 18) == [18] * 17 + [19]


def take(concurrency: Concurrency, *seconds: float, at: float = 100.0) -> None:
    """Answers that took so long, each after the one before, with the limit fully used."""
    for took in seconds:
        concurrency.succeeded(concurrency.limit, started=at, now=at + took)
        at += took


def test_answers_that_all_queue_cut_the_limit_in_proportion():
    """Where each of ten takes four times as long as usual, a quarter of twenty is left."""
    concurrency = Concurrency(20)
    take(concurrency, 0.1)
    take(concurrency, *[0.4] * 9)
    assert concurrency.limit == 20
    take(concurrency, 0.4, at=104.0)
    assert concurrency.limit == 5


def test_four_slow_answers_are_a_queue_at_least():
    """Half a limit's worth, rounded down, is what has to be slow; below eight it is four."""
    for maximum in (4, 9):
        concurrency = Concurrency(maximum)
        take(concurrency, 0.1, 0.4, 0.4, 0.4)
        assert concurrency.limit == maximum
        take(concurrency, 0.4, at=102.0)
        assert concurrency.limit < maximum


def test_after_a_cut_the_slow_answers_are_counted_anew():
    """The next queue has to show itself in as many answers as any, and by its own fastest one."""
    concurrency = Concurrency(20)
    take(concurrency, 0.1, *[0.2001] * 10)
    assert concurrency.limit == 9
    take(concurrency, *[0.4] * 3, at=200.0)
    assert concurrency.limit == 9
    take(concurrency, 0.4, at=210.0)
    assert concurrency.limit == 2


def test_one_fast_answer_shows_that_there_is_no_queue():
    """In a queue all have to wait: slow ids among fast ones cut nothing."""
    concurrency = Concurrency(20)
    take(concurrency, *[0.1, *[5.0] * 9] * 20)
    assert concurrency.limit == 20


def test_a_queue_of_a_moment_is_no_queue():
    """Up to 50 ms this process may be to blame itself, however fast the server is."""
    concurrency = Concurrency(20)
    take(concurrency, 0.001, *[0.049] * 100)
    assert concurrency.limit == 20


def test_what_queues_does_not_raise_the_limit():
    """Slow start ends by itself where answers begin to take longer."""
    concurrency = Concurrency(64)
    take(concurrency, 0.1)
    take(concurrency, *[0.3] * 5)
    assert concurrency.limit == 21


def test_a_queue_that_is_being_drained_cuts_once():
    """Answers to requests that were sent before the cut met the same queue."""
    concurrency = Concurrency(20)
    take(concurrency, 0.1)
    for late in range(60):
        started = 100.0 if late < 20 else 100.5
        concurrency.succeeded(20, started=started, now=100.5 + late / 20)
    assert concurrency.limit == 4


def test_a_pause_is_no_queue():
    """What was in flight when somebody paused is late, once; what is sent thereafter is not."""
    concurrency = Concurrency(20)
    for at in (101.0, 102.0, 103.0):
        take(concurrency, 0.1)
        for _ in range(20):
            concurrency.succeeded(20, started=at, now=at + 0.5)
    assert concurrency.limit == 20


def test_what_is_sent_when_the_first_slow_answer_comes_shows_a_queue():
    """It is enough that it is not sent before."""
    concurrency = Concurrency(20)
    take(concurrency, 0.1)
    for _ in range(10):
        concurrency.succeeded(20, started=100.0, now=100.4)
    assert concurrency.limit == 20
    concurrency.succeeded(20, started=100.4, now=100.8)
    assert concurrency.limit == 5


def busy(lag: float | None, maximum: int = 20) -> Concurrency:
    """A concurrency in a process whose event loop takes so long for a turn; `None`: no end yet."""
    concurrency = Concurrency(maximum, lambda: None if lag is None else concurrency.lagged(lag))
    take(concurrency, 0.1)
    return concurrency


@pytest.mark.parametrize(("lag", "left"), [(0.0, 5), (0.05, 6), (0.09, 9), (0.1, 20), (1.0, 20)])
def test_two_turns_of_a_busy_loop_are_no_queue(lag, left):
    """0.4 s, of which 0.2 or more were spent in this process, are 0.2 s or less at the server."""
    concurrency = busy(lag)
    take(concurrency, *[0.4] * 10)
    assert concurrency.limit == left


def test_while_it_is_not_known_how_busy_this_process_is_no_queue_is_drained():
    """The answer comes with the next turn of the loop, and then the queue has not gone away."""
    concurrency = busy(None)
    take(concurrency, *[0.4] * 30)
    assert concurrency.limit == 20
    concurrency.lagged(0.0)
    take(concurrency, 0.4, at=112.0)
    assert concurrency.limit == 5


def test_it_is_asked_once_for_each_suspicion_how_busy_this_process_is():
    """At the second slow answer in a row, so that slow ids among fast ones cost nothing."""
    asked = []
    concurrency = Concurrency(20, lambda: asked.append(concurrency._slow))
    take(concurrency, *[0.1, 0.4] * 9)
    assert asked == []
    take(concurrency, 0.1, 0.4, 0.4, 0.4, 0.1, 0.4, 0.4)
    assert asked == [2, 2]


def test_what_was_sent_at_the_time_of_the_cut_met_the_same_queue():
    """Only what is sent after the cut can tell whether it was enough."""
    concurrency = Concurrency(8)
    take(concurrency, 0.1)
    cut = 100.25
    for _ in range(3):
        concurrency.succeeded(8, started=99.75, now=100.0)
    concurrency.succeeded(8, started=100.0, now=cut)
    assert concurrency.limit == 3
    for _ in range(4):
        concurrency.succeeded(3, started=cut, now=cut + 1.0)
    assert concurrency.limit == 3


def test_timeouts_are_slow_answers():
    """When all attempts time out, the limit falls to what leaves no queue, and not by a tenth."""
    concurrency = Concurrency(20)
    take(concurrency, 0.1)
    for _ in range(20):
        concurrency.overloaded(started=200.0, now=210.0)
    assert concurrency.limit == 1


def test_one_timeout_is_a_cut_of_a_tenth():
    """A request that went astray is no queue."""
    concurrency = Concurrency(20)
    take(concurrency, *[0.1] * 20)
    concurrency.overloaded(started=200.0, now=210.0)
    assert concurrency.limit == 18
    take(concurrency, *[0.1] * 10, at=210.0)
    assert concurrency.limit == 18


def test_a_server_that_became_slower_is_taken_as_it_is():
    """The usual duration ages, the faster the lower the limit: at one it is soon forgotten."""
    concurrency = Concurrency(64)
    take(concurrency, 0.1)
    limits = []
    for at in range(1000):
        take(concurrency, 0.3, at=200.0 + at)
        limits.append(concurrency.limit)
    assert min(limits) == 1
    assert limits[-1] > 20


@pytest.mark.parametrize("limit", [20, 10])
def test_the_usual_duration_ages_by_the_limit(limit):
    """With each limit's worth of answers it grows by one percent, divided by the limit."""
    concurrency = Concurrency(limit)
    concurrency.succeeded(1, started=0.0, now=1.0)
    for _ in range(limit):
        concurrency.succeeded(1, started=0.0, now=1.5)
    assert concurrency._usual == pytest.approx(1.0 + 0.01 / limit, rel=1e-6)


def test_the_repr_tells_the_limit_and_the_maximum():
    """What a person wants to know at night."""
    assert repr(Concurrency(64)) == "Concurrency(limit=20, maximum=64)"


@pytest.mark.parametrize(("in_flight", "limit"), [(17, 20), (18, 21), (19, 21)])
def test_the_first_limit_is_raised_as_any_is(in_flight, limit):
    """While floor(0.9 x 20) = 18 are in flight, from the first answer on."""
    concurrency = Concurrency(64)
    concurrency.succeeded(in_flight, **QUICK)
    assert concurrency.limit == limit


@pytest.mark.parametrize(("usual", "took"), [(0.01, 0.05), (1.0, 1.5)], ids=["brief", "double"])
def test_what_is_slow_by_one_measure_alone_is_a_success(usual, took):
    """Neither what is twice as long and still brief, nor what is longer and not twice as long."""
    concurrency = Concurrency(64)
    take(concurrency, usual, took)
    assert concurrency.limit == 22


def test_failures_that_come_at_once_are_no_slow_answers():
    """However late they come: a refusal says nothing about how long the server takes."""
    concurrency = Concurrency(20)
    take(concurrency, 0.01)
    for _ in range(20):
        concurrency.overloaded(started=200.0, now=200.05)
    assert concurrency.limit == 18
