"""The outage: when nobody is at home, how a batch finds out, and how it knocks."""

from __future__ import annotations

from math import inf

import pytest

from calls_async import _outage
from calls_async._outage import Outage


def fail(
    outage: Outage, times: int, *, start: float, every: float, took: float = 0.0
) -> list[bool]:
    """So many failures in a row, the first at `start + took`; what each of them began."""
    return [
        outage.failed(started=start + nth * every, now=start + nth * every + took)
        for nth in range(times)
    ]


def held(now: float = 0.0) -> Outage:
    """An outage whose hold began at `now`."""
    outage = Outage()
    fail(outage, 19, start=now - 1.0, every=0.0)
    assert outage.failed(started=now, now=now)
    return outage


def test_nothing_is_held_at_first():
    """A new client sends."""
    outage = Outage()
    assert not outage.holding
    assert outage.since is None
    assert outage.next_probe == inf
    assert not outage.may_probe(1e9)


def test_twenty_failures_in_a_second_are_an_outage():
    """The twentieth failure begins the hold, once."""
    outage = Outage()
    assert fail(outage, 22, start=5.0, every=0.0625) == [False] * 19 + [True, False, False]
    assert outage.holding
    assert outage.since == 5.0


def test_a_burst_of_failures_is_none():
    """A limiter that turns a thousand requests away within a second is alive."""
    outage = Outage()
    assert not any(fail(outage, 1000, start=0.0, every=0.000999))
    assert outage.failed(started=1.0, now=1.0)


def test_one_answer_begins_the_count_anew():
    """Failures that an answer interrupts are no outage, however many there are."""
    outage = Outage()
    for second in range(100):
        assert not any(fail(outage, 19, start=second, every=0.05))
        assert outage.answered(second + 0.99) is False
    assert outage.since is None


@pytest.mark.parametrize(("every", "failures"), [(10.0, 3), (3.0, 3), (2.5, 3), (1.0, 6)])
def test_a_client_with_one_permit_needs_few_failures_but_more_time(every, failures):
    """Where requests go one by one, it takes three failures and five seconds without an answer."""
    outage = Outage()
    began = fail(outage, 10, start=0.0, every=every)
    assert began.index(True) + 1 == failures


def test_one_wave_of_timeouts_is_an_outage_at_once():
    """All permits hang for ten seconds and fail together: the next wave is not sent any more."""
    outage = Outage()
    outage.answered(100.0)
    assert fail(outage, 3, start=99.9, every=0.0, took=10.0) == [False, False, True]
    assert outage.since == 100.0


def test_an_idle_time_is_no_silence():
    """What counts is how long requests went unanswered, not how long there were none."""
    outage = Outage()
    outage.answered(0.0)
    assert not any(fail(outage, 19, start=3600.0, every=0.0))
    assert outage.since == 3600.0


def test_a_failure_that_began_before_the_last_answer_adds_no_silence():
    """A straggler's ten seconds are not ten seconds without an answer."""
    outage = Outage()
    outage.answered(9.9)
    assert not any(fail(outage, 30, start=0.0, every=0.0, took=10.0))
    assert outage.since == 9.9


def test_the_earliest_attempt_counts_though_it_fails_late():
    """Silence lasts from the first start that went unanswered, whichever fails first."""
    outage = Outage()
    outage.failed(started=6.0, now=6.0)
    outage.failed(started=6.0, now=6.1)
    assert outage.failed(started=0.0, now=6.2)
    assert outage.since == 0.0


def test_an_answer_ends_the_hold():
    """One success is enough, and only the one that ends the hold says so."""
    outage = held()
    assert outage.answered(60.0) is True
    assert outage.answered(60.1) is False
    assert not outage.holding
    assert outage.since is None
    assert outage.next_probe == inf
    assert not any(fail(outage, 19, start=61.0, every=0.1))


def test_failed_probes_keep_the_hold():
    """A probe that fails neither ends the hold nor begins another."""
    outage = held()
    outage.probe_started(1.0, 0.5)
    assert outage.failed(started=1.0, now=3.0) is False
    assert outage.holding
    assert outage.since == -1.0


@pytest.mark.parametrize(("rnd", "wait"), [(0.0, 2.0), (0.5, 3.0), (1.0, 4.0)])
def test_probes_are_one_to_four_seconds_apart(rnd, wait):
    """The first comes a second after the hold began, each other two to four seconds later."""
    outage = held(now=10.0)
    assert not outage.may_probe(10.999)
    assert outage.may_probe(11.0)
    outage.probe_started(11.0, rnd)
    assert outage.next_probe == 11.0 + wait
    assert not outage.may_probe(11.0 + wait - 0.001)
    assert outage.may_probe(11.0 + wait)


def test_two_probes_are_never_out_together():
    """A probe is given up before the next may start, and a lost one blocks nobody."""
    assert _outage.PROBE_TIMEOUT <= _outage.PROBE_INTERVAL


@pytest.mark.parametrize("answer_time", [0.01, 0.05, 2.0, 10.0])
def test_an_outage_of_a_minute_costs_few_requests(answer_time):
    """64 permits at a dead server: at most 60 requests after the first 2 s, and back within 4 s."""
    outage = Outage()
    outage.answered(0.0)
    now, sent, permits = 0.0, [0.0] * 64, 64
    while not outage.holding:
        started, now = now, now + answer_time
        for _ in range(permits):
            outage.failed(started=started, now=now)
        if not outage.holding:
            sent += [now] * permits
    while now < 60.0:
        now = outage.next_probe
        sent.append(now)
        outage.probe_started(now, rnd=0.0)
        outage.failed(started=now, now=now + min(answer_time, 2.0))
    assert sum(at > 2.0 for at in sent) <= 60
    assert now < 64.0
    assert outage.answered(now)


def test_the_repr_tells_whether_it_holds_and_since_when():
    """What a person wants to know at night."""
    assert repr(held()) == "Outage(holding=True, since=-1.0, failures=20)"
