"""What the client's controls keep to, whatever the server does: one test for each law."""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async._budget import CAPACITY, COST_TRANSIENT, GRANT_INTERVAL, RetryBudget
from calls_async._concurrency import AGING, SLOWER, TOLERATED, Concurrency
from calls_async._gate import Gate
from calls_async._outage import Outage

times = st.floats(0.0, 1000.0)
steps = st.floats(0.0, 30.0)
draws = st.floats(0.0, 1.0)
throttles = st.booleans()


# --- Concurrency ---------------------------------------------------------------------------------

signals = st.one_of(
    st.tuples(st.just("succeeded"), st.tuples(st.integers(0, 2000), times, steps)),
    st.tuples(st.just("overloaded"), st.tuples(times, steps)),
    st.tuples(st.just("restart"), st.none()),
)


def tell(concurrency: Concurrency, signal: str, about) -> None:
    """Pass one generated signal on."""
    match signal:
        case "succeeded":
            in_flight, started, took = about
            concurrency.succeeded(in_flight, started=started, now=started + took)
        case "overloaded":
            started, took = about
            concurrency.overloaded(started=started, now=started + took)
        case _:
            concurrency.restart()


@given(maximum=st.integers(1, 2000), history=st.lists(signals, max_size=60))
def test_the_limit_stays_between_one_and_the_maximum(maximum, history):
    """Whatever came before, 1 <= limit <= maximum, and a success raises it by one at most."""
    concurrency = Concurrency(maximum)
    for signal, about in history:
        before = concurrency.limit
        tell(concurrency, signal, about)
        assert 1 <= concurrency.limit <= maximum
        assert concurrency.limit <= before + (signal == "succeeded")


@given(
    history=st.lists(signals, max_size=30),
    wave=st.lists(st.floats(0.0, TOLERATED), min_size=1, max_size=64),
)
def test_one_wave_cuts_the_limit_once(history, wave):
    """Requests in flight together that are refused cut to nine tenths, however many they are.

    Refusals are quick. When many fail after a long time, that shows a queue as well.
    """
    concurrency = Concurrency(1024)
    for signal, about in history:
        tell(concurrency, signal, about)
    before, started = concurrency.limit, 2000.0
    for took in sorted(wave):
        concurrency.overloaded(started=started, now=started + took)
    assert concurrency.limit == max(1, before * 9 // 10)


class PlainConcurrency(Concurrency):
    """A success as the rule has it, with nothing remembered and nothing left out."""

    def succeeded(self, in_flight, started, now):
        took = now - started
        self._usual = min(took, self._usual * (1.0 + AGING / self.limit**2))
        if took > self._usual + TOLERATED and took > SLOWER * self._usual:
            self._queued(started, now)
            return
        self._slow = 0
        if in_flight < self.limit * 9 // 10:
            return
        self._proven = self.limit
        self._successes += 1
        if self.limit < self._slow_start_to or self._successes >= self.limit:
            self.limit = min(self.limit + 1, self._maximum)
            self._successes = 0


@given(maximum=st.integers(1, 100), history=st.lists(signals, max_size=200))
def test_what_is_remembered_changes_no_decision(maximum, history):
    """After each signal of any history the limit is what it is without any shortcut."""
    quick, plain = Concurrency(maximum), PlainConcurrency(maximum)
    for signal, about in history:
        tell(quick, signal, about)
        tell(plain, signal, about)
        assert quick.limit == plain.limit
        assert quick._usual == plain._usual


# --- Retry budget --------------------------------------------------------------------------------


class Books:
    """Calls of 4 attempts over one budget: what is asked for and what goes over the wire."""

    def __init__(self) -> None:
        self.budget = RetryBudget()
        self.asked = self.sent = self.first_time = self.failed_retries = 0

    def call(self, answers: list[bool]) -> None:
        """One call, whose attempts fail and succeed as told, until one succeeds or none may be."""
        self.asked += 1
        paid = None
        for attempt, ok in enumerate(answers):
            if attempt > 0 and (paid := self.budget.take(throttled=False)) is None:
                return
            self.sent += 1
            if ok:
                self.first_time += attempt == 0
                self.budget.refund(paid)
                return
            self.failed_retries += attempt > 0


four_answers = st.lists(st.booleans(), min_size=4, max_size=4)


@given(calls=st.lists(four_answers, max_size=200))
def test_failed_retries_are_paid_for_by_first_tries_that_succeeded(calls):
    """14 x failed retries <= 500 + first-try successes, for any sequence of answers."""
    books = Books()
    for answers in calls:
        books.call(answers)
    assert COST_TRANSIENT * books.failed_retries <= CAPACITY + books.first_time


@given(calls=st.integers(0, 2000))
def test_a_server_that_fails_everything_sees_thirty_five_retries(calls):
    """Offered load <= asked + 500 / 14, and then no retry more."""
    books = Books()
    for _ in range(calls):
        books.call([False] * 4)
    assert books.sent <= books.asked + CAPACITY // COST_TRANSIENT


@pytest.mark.parametrize(
    ("share", "most"),
    [(0.05, 1.06), (0.1, 1.12), (0.2, 1.27), (0.21, 1.28), (0.22, 1.28), (0.3, 1.2), (0.7, 1.05)],
)
def test_a_sick_server_sees_about_a_quarter_more_load(share, most):
    """Single calls in the long run: the load peaks at 21% failures and falls beyond."""
    rng = random.Random(share)
    books = Books()
    for _ in range(10_000):
        books.call([rng.random() >= share for _ in range(4)])
    # The bucket's first filling, as far as retries that succeed do not hand it back.
    once = CAPACITY / COST_TRANSIENT / share
    assert books.sent <= most * books.asked + once


@given(history=st.lists(st.tuples(st.sampled_from(["take", "grant", "refund"]), throttles, steps)))
def test_the_budget_stays_between_nothing_and_its_capacity(history):
    """Whatever is taken, granted and refunded, 0 <= level <= capacity."""
    budget = RetryBudget(capacity=50)
    now = 0.0
    owed: list[int | None] = []
    for what, throttled, step in history:
        now += step
        match what:
            case "take":
                owed.append(budget.take(throttled=throttled))
            case "grant":
                owed.append(budget.grant(now, throttled=throttled))
            case _:
                budget.refund(owed.pop() if owed else None)
        assert 0 <= budget.level <= 50


@given(
    waits=st.lists(st.tuples(st.floats(0.0, 3.0), throttles), max_size=100),
    level=st.integers(0, 4),
)
def test_an_empty_budget_grants_at_most_one_retry_a_second_and_at_least_one(waits, level):
    """Two grants are never closer than a second, and who asks when the turn has come gets it."""
    budget = RetryBudget(capacity=level)
    now, granted = 0.0, []
    for wait, throttled in waits:
        now += wait
        due = budget.next_grant
        got = budget.grant(now, throttled=throttled)
        assert (got is not None) == (now >= due)
        if got is not None:
            granted.append(now)
    for earlier, later in pairwise(granted):
        assert later >= earlier + GRANT_INTERVAL


# --- Gate ----------------------------------------------------------------------------------------


@given(hints=st.lists(st.tuples(times, st.floats(0.0, 500.0)), max_size=50))
def test_not_before_only_ever_moves_later(hints):
    """Answers in any order, asking for any silence, never open the gate earlier."""
    gate = Gate(max_rate=None, max_cool_down=120.0)
    for now, seconds in hints:
        before = gate.not_before
        gate.cool_down(now, seconds)
        assert gate.not_before >= before


# --- Outage --------------------------------------------------------------------------------------


@given(
    began=times,
    draws=st.lists(draws, min_size=40, max_size=40),
    lateness=st.lists(st.floats(0.0, 0.01), min_size=40, max_size=40),
)
def test_probes_come_every_one_to_four_seconds(began, draws, lateness):
    """From the hold on the next probe is always 1 to 4 s away, so a minute has 31 at most."""
    outage = Outage()
    for _ in range(20):
        outage.failed(started=began - 1.0, now=began)
    last, probes = began, []
    for rnd, late in zip(draws, lateness, strict=True):
        assert last + 1.0 <= outage.next_probe <= last + 4.0
        last = outage.next_probe + late
        assert outage.may_probe(last)
        outage.probe_started(last, rnd)
        assert not outage.may_probe(last)
        probes.append(last)
    assert sum(at < began + 60.0 for at in probes) <= 31


class PlainOutage(Outage):
    """An answer as the rule has it: whatever was, is forgotten."""

    def answered(self, now):
        ended = self.holding
        self.holding, self.since, self.next_probe = False, None, inf
        self._failures, self._last_answer = 0, now
        return ended


outage_signals = st.tuples(st.sampled_from(["answer", "failure", "last", "probe"]), steps, steps)


@given(history=st.lists(outage_signals, max_size=80))
def test_an_answer_where_all_is_well_changes_nothing_else(history):
    """After each signal of any history the state is what it is without any shortcut."""
    quick, plain = Outage(), PlainOutage()
    now = 100.0
    for signal, wait, took in history:
        now += wait
        for outage in (quick, plain):
            if signal == "answer":
                outage.answered(now)
            elif signal != "probe":
                outage.failed(started=now - took, now=now, lasting=signal == "last")
            elif outage.holding:
                outage.probe_started(now, 0.5)
        assert vars(quick) == vars(plain)


@given(
    attempts=st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0), st.floats(0.0, 20.0))),
)
def test_there_is_no_hold_without_failures_and_a_second_of_silence(attempts):
    """A hold means: the last three attempts at least failed, over at least a second."""
    outage = Outage()
    now, last_answer, failures = 100.0, 0.0, 0
    for ok, wait, took in attempts:
        now += wait
        if ok:
            outage.answered(now)
            last_answer, failures = now, 0
        else:
            outage.failed(started=now - took, now=now)
            failures += 1
        if outage.holding:
            assert failures >= 3
            assert now - last_answer >= 1.0
