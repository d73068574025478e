"""The gate: what one answer says holds for all, and the end of a silence is no stampede."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from calls_async._gate import NO_NEWS, QUIET, RAMP, STAGGER, STRAY, Gate, News
from calls_async._headers import NO_HINT, Budget, Hint

NOW = 1000.0


def gate(*, max_rate=None, max_cool_down=60.0):
    return Gate(max_rate=max_rate, max_cool_down=max_cool_down)


def answered(subject, status, *, at=NOW, started=None, others=0, hint=NO_HINT, rnd=0.0):
    """Tell the gate of an answer, and return what that changed."""
    begun = at if started is None else started
    return subject.answered(at, started=begun, others=others, status=status, hint=hint, rnd=rnd)


def budget(remaining, reset):
    """What an answer that announces a quota says; a wait if nothing is left."""
    wait = reset if remaining == 0 else None
    return Hint(wait=wait, budgets=(Budget(remaining=remaining, reset=reset),))


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


def test_in_a_fleet_nobody_is_free():
    """Each start takes a slot there, so there is none that need not be asked for."""
    subject = Gate(max_rate=None, max_cool_down=60.0, in_fleet=True)
    assert not subject.is_free
    answered(subject, 200)
    assert not subject.is_free
    assert subject.next_start() == -math.inf


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


def test_the_ramp_ends_with_its_second():
    """A start one second after the opening keeps nobody at a distance any more."""
    subject = gate()
    subject.cool_down(NOW, 5.0)
    subject.started(NOW + 6.0)
    assert subject.next_start() <= NOW + 6.0


# --- The straight way ----------------------------------------------------------------------------


@pytest.mark.parametrize("max_rate", [None, 5.0])
def test_a_new_gate_is_free_unless_there_is_a_known_limit(max_rate):
    """Where nothing was ever said, nobody needs to ask when to start."""
    subject = gate(max_rate=max_rate)
    assert subject.is_free is (max_rate is None)
    answered(subject, 200)
    assert subject.is_free is (max_rate is None)


def test_a_silence_ends_the_straight_way_until_its_ramp_is_over():
    """Who may start at once would join the herd at the opening, so all have to ask."""
    subject = gate()
    answered(subject, 200, hint=Hint(wait=5.0))
    assert subject.is_free is False
    for at, free in [(NOW + 4.0, False), (NOW + 5.5, False), (NOW + 6.0, True)]:
        answered(subject, 200, at=at)
        assert subject.is_free is free
    subject.cool_down(NOW + 7.0, 1.0)
    assert subject.is_free is False


@pytest.mark.parametrize(("status", "hint"), [(429, Hint(wait=1.0)), (200, budget(100, 10.0))])
def test_a_gate_that_spaces_starts_is_not_free(status, hint):
    """A learnt pace and an announced quota go on when the silence is over."""
    subject = gate()
    answered(subject, status, hint=hint)
    assert subject.is_free is False
    answered(subject, 200, at=NOW + 5.0)
    assert subject.is_free is False


# --- Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "hint", "silence"),
    [
        (429, NO_HINT, 1.0),
        (429, Hint(wait=7.0), 7.0),
        (503, Hint(wait=7.0), 7.0),
        (429, Hint(wait=0.2), 0.2),
        (429, Hint(wait=1e9), 60.0),
        (429, budget(0, 9.0), 9.0),
        (200, Hint(wait=7.0), 7.0),
        (200, budget(0, 9.0), 9.0),
        (404, budget(0, 9.0), 9.0),
        (500, budget(0, 9.0), 9.0),
    ],
)
def test_answers_that_speak_of_all_requests_close_the_gate(status, hint, silence):
    """Throttling, even without a time; a wait on a record; a spent budget on whatever comes."""
    subject = gate()
    assert answered(subject, status, hint=hint).closed
    assert subject.not_before == NOW + silence
    assert subject.next_start() >= NOW + silence


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (200, NO_HINT),
        (200, Hint(wait=0.0)),
        (404, NO_HINT),
        (500, NO_HINT),
        (500, Hint(wait=7.0)),
        (400, Hint(wait=7.0)),
        (404, Hint(wait=7.0)),
        (429, Hint(wait=0.0)),
    ],
)
def test_other_answers_leave_the_gate_open(status, hint):
    """Another failure's `Retry-After` is about its own request, and a wait of nothing is none."""
    subject = gate()
    assert not answered(subject, status, hint=hint).closed
    assert subject.not_before == -math.inf


def test_an_answer_that_says_nothing_is_no_news():
    """Nothing is made for it, since most answers are like that."""
    subject = gate()
    assert answered(subject, 200) is NO_NEWS is answered(subject, 500)
    assert News() == NO_NEWS


def test_a_closed_gate_that_opens_later_is_no_news():
    """One silence is told once, and one wave of throttled answers teaches one pace."""
    subject = gate()
    hint = Hint(wait=5.0)
    assert answered(subject, 429, hint=hint) == News(closed=True, paced=True)
    assert answered(subject, 429, at=NOW + 1.0, started=NOW - 1.0, hint=hint) is NO_NEWS
    assert subject.not_before == NOW + 6.0
    assert answered(subject, 429, at=NOW + 6.0, started=NOW + 6.0, hint=hint).closed


# --- Pace and quota ------------------------------------------------------------------------------


def throttled(subject, *, accepted, silence=5.0):
    """So many requests were accepted within the last `silence` seconds, and then one was not."""
    for nth in range(accepted, 0, -1):
        at = NOW - nth * silence / accepted
        subject.started(at)
        answered(subject, 200, at=at)
    assert answered(subject, 429, hint=Hint(wait=silence)).paced


def test_a_throttled_answer_teaches_a_pace():
    """What was accepted before, 20/s, is how fast it goes on after the silence."""
    subject = gate()
    assert subject.rate(NOW) is None
    throttled(subject, accepted=100)
    assert subject.rate(NOW) == pytest.approx(20.0)
    first, second = starts(subject, begin=NOW, end=NOW + 5.06)
    assert (first, second) == pytest.approx((NOW + 5.0, NOW + 5.05))


def test_a_learnt_pace_needs_no_stagger():
    """It spreads those who waited by itself, also where it is faster."""
    subject = gate()
    throttled(subject, accepted=2000)
    times = starts(subject, begin=NOW, end=NOW + 5.02)
    assert max(gaps(times)) < STAGGER / 2


def test_the_first_start_comes_when_a_short_silence_is_over():
    """The pace that a refusal teaches does not make its silence longer than the server asked."""
    subject = gate()
    answered(subject, 429, hint=Hint(wait=0.7))
    assert subject.next_start() == NOW + 0.7


def test_a_lifted_pace_is_news():
    """When nobody is held back any more, the rate is that of full speed again."""
    subject = gate()
    throttled(subject, accepted=100)
    now, news = NOW, NO_NEWS
    for _ in range(100):
        now = max(now, subject.next_start()) + 0.05
        subject.started(now)
        news = answered(subject, 200, at=now)
        if news.paced:
            break
    assert news == News(paced=True)
    assert subject.rate(now) is None


def test_what_a_free_gate_was_told_counts_as_accepted():
    """The straight way's answers make a first estimate and a stray refusal, like any others."""
    subject = gate()
    answered(subject, 503)
    for nth in range(40):
        subject.accepted(NOW + 2.0, started=NOW + nth * 0.05)
    assert answered(subject, 503, at=NOW + 2.0) == NO_NEWS
    answered(subject, 503, at=NOW + 2.0)
    assert subject.rate(NOW + 2.0) == pytest.approx(20.0)


def test_an_announced_budget_spreads_the_starts():
    """100 in 10 s is about 13/s; an answer that changes the plan is news, and another is not."""
    subject = gate()
    assert answered(subject, 200, hint=budget(100, 10.0)) == News(paced=True)
    assert answered(subject, 200, at=NOW + 0.1, hint=budget(99, 9.9)) is NO_NEWS
    assert subject.rate(NOW + 0.1) == pytest.approx(99 / 7.4)
    assert len(starts(subject, begin=NOW + 0.1, end=NOW + 9.8)) == 99
    assert subject.next_start() == NOW + 10.0


def test_requests_in_flight_are_counted_off_the_budget():
    """What is under way will be taken from it as well."""
    subject = gate()
    answered(subject, 200, others=60, hint=budget(100, 10.0))
    assert len(starts(subject, begin=NOW, end=NOW + 9.9)) == 40


def test_the_slower_of_pace_and_budget_binds():
    """A known limit of 5/s is kept, whatever the server would allow; the rate says so."""
    subject = gate(max_rate=5.0)
    answered(subject, 200, hint=budget(100, 10.0))
    assert subject.rate(NOW) == 5.0
    assert gaps(starts(subject, begin=NOW, end=NOW + 2.0)) == pytest.approx([0.2] * 9, abs=1e-6)
    answered(subject, 200, at=NOW + 2.0, hint=budget(4, 8.0))
    assert subject.rate(NOW + 2.0) == pytest.approx(4 / 5.5)


def accepted(subject, times):
    for _ in range(times):
        answered(subject, 200)


def test_a_stray_503_is_no_news():
    """One bare 503 among many records holds nobody back: servers send it for other reasons too."""
    subject = gate()
    accepted(subject, STRAY)
    assert answered(subject, 503) == NO_NEWS
    assert subject.not_before == -math.inf
    assert subject.rate(NOW) is None


def test_a_second_503_in_a_row_is_heard():
    """A server that really refuses does so again, and then everybody keeps silent."""
    subject = gate()
    accepted(subject, STRAY)
    answered(subject, 503)
    assert answered(subject, 503, at=NOW + 0.1).closed
    assert subject.not_before == NOW + 0.1 + QUIET


@pytest.mark.parametrize("status", [429, 503])
def test_a_stray_refusal_that_asks_for_a_moment_gets_it_and_teaches_no_pace(status):
    """A brief silence is kept like any other, but a batch is not slowed down for it."""
    subject = gate()
    accepted(subject, STRAY)
    news = answered(subject, status, hint=Hint(wait=0.4))
    assert news == News(closed=True)
    assert subject.not_before == NOW + 0.4
    assert subject.rate(NOW) is None
    assert answered(subject, status, at=NOW + 1.0, hint=Hint(wait=0.4)).paced


@pytest.mark.parametrize(
    ("status", "hint", "before"),
    [
        (503, Hint(wait=2.0), STRAY),
        (429, NO_HINT, STRAY),
        (429, Hint(wait=0.5), STRAY),
    ],
    ids=["with a hint", "a 429", "a 429 with a hint"],
)
def test_what_is_no_stray_503_is_heard_at_once(status, hint, before):
    """A silence that is not brief, or a bare 429: then it counts."""
    subject = gate()
    accepted(subject, before)
    assert answered(subject, status, hint=hint) == News(closed=True, paced=True)


def test_after_few_records_a_503_is_no_stray_one():
    """Every fifth request refused is a server that refuses; only the very first one is excused."""
    subject = gate()
    assert answered(subject, 503) == NO_NEWS
    accepted(subject, 4)
    assert answered(subject, 503).closed


def test_after_five_records_a_503_may_be_a_stray_one_again():
    """Every sixth request refused is a proxy with reasons of its own."""
    subject = gate()
    assert answered(subject, 503) == NO_NEWS
    accepted(subject, 5)
    assert answered(subject, 503) == NO_NEWS


def test_the_straight_way_counts_each_record_once():
    """Four records make no refusal a stray one, however they were told."""
    subject = gate()
    answered(subject, 503)
    for _ in range(4):
        subject.accepted(NOW, started=NOW)
    assert answered(subject, 503).closed


def test_a_stray_503_may_still_announce_a_quota():
    """What it says of what is left is planned for like any other answer's."""
    subject = gate()
    accepted(subject, STRAY)
    assert answered(subject, 503, hint=budget(10, 20.0)).paced
