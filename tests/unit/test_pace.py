"""The pace: even starts, whatever timers do, at a rate that throttled answers teach."""

from __future__ import annotations

import pytest

from calls_async._pace import (
    AGAIN,
    CAUTION,
    CRUISE,
    LONGEST_GAP,
    MOST_SAVED,
    PROBE,
    SAMPLE,
    SEARCH,
    SLACK,
    SLOWEST,
    UNUSED,
    Pace,
)

NOW = 1000.0


def accept(pace, rate, *, since, until):
    """Have requests accepted evenly at this rate, the last of them just before `until`."""
    for nth in range(round(rate * (until - since)), 0, -1):
        pace.accepted(until, started=until - nth / rate)


def throttle(pace, now, *, started=None, silence=0.0, rnd=0.0):
    """A throttled answer; whether it taught another pace."""
    begun = now if started is None else started
    return pace.throttled(now, started=begun, silence=silence, rnd=rnd)


def searching(rate, *, max_rate=None, silence=0.0):
    """A pace after its first lesson, at `NOW`: nothing was known before."""
    pace = Pace(max_rate)
    accept(pace, rate, since=NOW - SAMPLE, until=NOW)
    assert throttle(pace, NOW, silence=silence)
    return pace


def cruising(rate, *, silence=1.0):
    """A pace after a second lesson, at `NOW`: ten had been saved up, and the rate is this one."""
    begin = NOW - 5.0
    pace = Pace(None)
    accept(pace, 10.0, since=begin - SAMPLE, until=begin)
    throttle(pace, begin, silence=1.0)
    while pace.learnt <= rate:
        pace.started(pace.next_start())
    accept(pace, rate + 10 / 4.0, since=begin + 1.0, until=NOW)
    assert throttle(pace, NOW, silence=silence)
    return pace


def drive(pace, seconds, *, late=0.0):
    """Start a request whenever one is due, for so long from the first one; when that ended."""
    now = begin = pace.next_start()
    while now <= begin + seconds:
        pace.started(now)
        now = pace.next_start() + late
    return now


# --- Starts --------------------------------------------------------------------------------------


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


def test_a_lateness_of_just_the_slack_is_still_one():
    """The slack itself belongs to it: the next start is due as if this one had been in time."""
    pace = Pace(1.0)
    pace.started(-1.0)
    assert pace.next_start() == 0.0
    pace.started(SLACK)
    assert pace.next_start() == 1.0


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


@pytest.mark.parametrize("max_rate", [None, 5.0])
def test_free_is_who_has_neither_a_limit_nor_a_lesson(max_rate):
    """Nobody may go the straight way past a known limit, or past a pace that was learnt."""
    pace = Pace(max_rate)
    assert pace.is_free is (max_rate is None)
    throttle(pace, NOW)
    assert not pace.is_free


def test_repr_tells_the_interval():
    """A limiter's repr is truthful."""
    assert repr(Pace(4.0)) == "Pace(interval=0.25)"
    assert repr(Pace(None)) == "Pace(interval=0)"
    assert repr(searching(50.0)) == "Pace(interval=0.02)"


# --- What a throttled answer teaches -------------------------------------------------------------


def test_who_is_never_throttled_has_no_pace():
    """Accepted answers alone teach nothing, and hold nobody back."""
    pace = Pace(None)
    accept(pace, 500.0, since=NOW - 5.0, until=NOW)
    assert not pace.accepted(NOW, started=NOW)  # there was nothing to lift
    assert (pace.learnt, pace.interval()) == (None, 0.0)
    assert pace.next_start() < NOW


def test_the_first_estimate_is_what_was_accepted_just_before():
    """Fifty in the last second make fifty a second; what came earlier does not count."""
    pace = Pace(None)
    accept(pace, 200.0, since=NOW - 5.0, until=NOW - SAMPLE - 0.01)
    accept(pace, 50.0, since=NOW - SAMPLE, until=NOW)
    assert throttle(pace, NOW)
    assert pace.learnt == pytest.approx(50.0)
    assert pace.interval() == pytest.approx(0.02)


def test_a_short_burst_does_not_pass_for_a_rate():
    """A bucket that took ten within a millisecond does not take ten thousand a second."""
    pace = Pace(None)
    accept(pace, 10_000.0, since=NOW - 0.001, until=NOW)
    throttle(pace, NOW)
    assert pace.learnt == pytest.approx(10.0)


def test_a_long_silence_has_a_long_sample():
    """A server that asks for 4 s counts over 4 s: a burst of 40 was ten a second."""
    pace = Pace(None)
    accept(pace, 400.0, since=NOW - 0.1, until=NOW)
    throttle(pace, NOW, silence=4.0)
    assert pace.learnt == pytest.approx(10.0)


def test_answers_that_are_under_way_still_count():
    """What was in flight at the throttle is part of its sample; what started since then is not."""
    pace = searching(20.0)
    for started in (NOW - SAMPLE, NOW - 0.01, NOW):
        assert not pace.accepted(NOW + 0.1, started=started)
    assert pace.learnt == pytest.approx(23.0)
    for started in (NOW - SAMPLE - 0.001, NOW + 0.001):
        pace.accepted(NOW + 0.1, started=started)
    assert pace.learnt == pytest.approx(23.0)


def test_an_answer_that_is_under_way_counts_by_its_sample():
    """Where the sample is 4 s long, four more answers are one more a second."""
    pace = searching(20.0, silence=4.0)
    begun = pace.learnt
    for _ in range(4):
        pace.accepted(NOW + 0.1, started=NOW)
    assert pace.learnt == pytest.approx(begun + 1.0)


def test_what_is_under_way_belongs_to_the_first_burst_too():
    """Answers that arrive after the first throttled one make the savings larger, not the rate."""
    pace = searching(10.0, silence=1.0)
    for _ in range(10):
        pace.accepted(NOW + 0.1, started=NOW)
    drive(pace, 3 * SEARCH)
    accept(pace, 60.0, since=NOW + 1.0, until=NOW + 3.0)
    throttle(pace, NOW + 3.0)
    assert pace.learnt == pytest.approx(CAUTION * (120 - 20) / 2.0)


def test_memory_is_bounded():
    """At 10,000 a second the first estimate is what is remembered, and the search goes on."""
    pace = Pace(None)
    accept(pace, 10_000.0, since=NOW - 0.5, until=NOW)
    throttle(pace, NOW)
    assert pace.learnt == pytest.approx(2048)


def test_one_wave_is_one_signal():
    """Throttled answers to what was in flight at the lesson teach nothing more."""
    pace = searching(50.0)
    due = pace.next_start()
    for started in (NOW - 0.1, NOW):
        assert not throttle(pace, NOW + 0.1, started=started, silence=9.0)
    assert (pace.learnt, pace.next_start()) == (pytest.approx(50.0), due)
    assert throttle(pace, NOW + 0.1, started=NOW + 0.01)


@pytest.mark.parametrize("accepted", [0.0, 0.2])
def test_no_measurement_brings_the_pace_below_the_slowest(accepted):
    """Where nothing was accepted a start every two seconds still finds out when that changes."""
    pace = Pace(None)
    accept(pace, accepted, since=NOW - 5.0, until=NOW)
    throttle(pace, NOW)
    assert pace.learnt == 0.5
    assert pace.interval() == 2.0


# --- What a wave teaches -------------------------------------------------------------------------


def test_savings_are_no_rate():
    """What the first burst got through is taken off: 120 in 2 s, 10 of them saved, are 55/s."""
    pace = searching(10.0, silence=1.0)
    drive(pace, 3 * SEARCH)
    accept(pace, 60.0, since=NOW + 1.0, until=NOW + 3.0)
    throttle(pace, NOW + 3.0)
    assert pace.learnt == pytest.approx(CAUTION * (120 - 10) / 2.0)


def test_savings_cannot_exceed_what_the_silence_brought():
    """At most half of what the rate makes of the silence is saved, whatever came first."""
    pace = searching(100.0, silence=1.0)
    accept(pace, 30.0, since=NOW + 1.0, until=NOW + 3.0)
    throttle(pace, NOW + 3.0)
    assert pace.learnt == pytest.approx(CAUTION * 60 / (2.0 + 0.5))


def test_the_stretch_that_leaves_the_highest_rate_counts():
    """A limit that was raised shows in the probe; what was accepted while it cruised says less."""
    pace = searching(10.0, silence=1.0)
    drive(pace, 3 * SEARCH)
    accept(pace, 20.0, since=NOW + 1.0, until=NOW + 5.0)
    accept(pace, 60.0, since=NOW + 5.0, until=NOW + 7.0)
    throttle(pace, NOW + 7.0)
    assert pace.learnt == pytest.approx(CAUTION * (120 - 10) / 2.0)


def test_what_came_before_the_silence_is_another_wave():
    """A refusal right after a silence is not measured by what was accepted before it."""
    pace = searching(100.0, silence=1.0)
    accept(pace, 10.0, since=NOW + 1.0, until=NOW + 1.5)
    throttle(pace, NOW + 1.5)
    assert pace.learnt == pytest.approx(CAUTION * 5 / (0.5 + MOST_SAVED))


def test_a_request_as_young_as_the_refusal_measures_nothing():
    """What starts just when the refusal comes makes no stretch to divide by; it still counts."""
    pace = searching(100.0, silence=1.0)
    accept(pace, 10.0, since=NOW + 1.0, until=NOW + 1.5)
    pace.accepted(NOW + 1.5, started=NOW + 1.5)
    throttle(pace, NOW + 1.5)
    assert pace.learnt == pytest.approx(CAUTION * 6 / (0.5 + MOST_SAVED))


def test_the_pace_that_was_refused_is_the_most_that_is_learnt():
    """The limit is not above the pace at which it was reached, however bunched the starts were."""
    pace = searching(20.0, silence=1.0)
    accept(pace, 80.0, since=NOW + 1.0, until=NOW + 2.0)
    throttle(pace, NOW + 2.0)
    assert pace.learnt == pytest.approx(CAUTION * 20.0)


def test_a_refusal_in_the_cruise_means_larger_savings():
    """The cruise was too fast by what it took from them, so the next measurement takes off more."""
    pace = cruising(100.0)
    accept(pace, 98.0, since=NOW + 1.0, until=NOW + 5.0)
    throttle(pace, NOW + 5.0, silence=1.0)
    assert pace.learnt == pytest.approx(CAUTION * (392 - 10) / 4.0)
    drive(pace, CRUISE + 0.1)
    accept(pace, 90.0, since=NOW + 6.0, until=NOW + 10.0)
    throttle(pace, NOW + 10.0)
    saved = 1.25 * 10 + 1
    assert pace.learnt == pytest.approx(CAUTION * (360 - saved) / 4.0)


def test_a_second_refusal_in_a_row_in_the_cruise_costs_a_tenth():
    """Where measuring does not explain the refusals, the pace goes down all the same."""
    pace = cruising(100.0)
    begun = pace.learnt
    for until in (NOW + 5.0, NOW + 10.0):
        accept(pace, 200.0, since=until - 4.0, until=until)
        throttle(pace, until, silence=1.0)
    assert pace.learnt == pytest.approx(CAUTION**2 * AGAIN * begun)


# --- The curve -----------------------------------------------------------------------------------


@pytest.mark.parametrize("doublings", [1, 2, 3])
def test_after_the_first_lesson_it_searches(doublings):
    """Nothing is known to cruise on, so the pace doubles every half second at once."""
    pace = searching(100.0)
    drive(pace, doublings * 0.5)
    assert pace.learnt == pytest.approx(100.0 * 2**doublings, rel=0.03)


def test_from_the_second_lesson_on_it_cruises_and_then_probes():
    """It stays a little below what was measured for 8 s; then it grows ever more steeply."""
    pace = cruising(100.0)
    measured = pace.learnt
    assert measured == pytest.approx(CAUTION * 100.0)
    drive(pace, 8.0)
    assert pace.learnt == pytest.approx(measured, rel=0.001)
    drive(pace, 0.5)
    assert measured < pace.learnt < 1.05 * measured
    drive(pace, 2.0)
    assert pace.learnt == pytest.approx(2 * measured, rel=0.05)
    drive(pace, 2.5)
    assert pace.learnt == pytest.approx(16 * measured, rel=0.05)


def test_after_a_long_silence_it_cruises_longer():
    """Each probe costs a silence, so the longer those are the fewer there are."""
    pace = cruising(100.0, silence=5.0)
    measured = pace.learnt
    drive(pace, 4.9 * CRUISE)
    assert pace.learnt == measured
    drive(pace, 0.1 * CRUISE + PROBE)
    assert pace.learnt == pytest.approx(2 * measured, rel=0.1)


def test_where_nothing_is_accepted_it_searches():
    """There is nothing to cruise on, so that the end of the refusals is noticed soon."""
    pace = cruising(100.0)
    throttle(pace, NOW + 1.0)
    assert pace.learnt == SLOWEST
    pace.started(pace.next_start())
    assert pace.learnt == pytest.approx(2 * SLOWEST)
    drive(pace, 5.0 / SLOWEST)
    assert pace.learnt > 8 * SLOWEST


def test_one_start_does_not_more_than_double_a_slow_pace():
    """At one in two seconds, time alone would double the pace four times from start to start."""
    pace = searching(0.1)
    pace.started(pace.next_start())
    assert pace.learnt == pytest.approx(2 * SLOWEST)


def test_idle_time_teaches_nothing():
    """The curve moves with the starts: an hour later the pace is where it was."""
    pace = searching(50.0)
    drive(pace, SEARCH / 2)
    before = pace.learnt
    pace.started(NOW + 3600.0)
    assert pace.learnt == pytest.approx(before, rel=0.05)


# --- The silence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rnd", [0.0, 0.5, 1.0])
def test_after_the_silence_clients_start_out_of_step(rnd):
    """The first start comes up to an interval after the silence that the server asked for."""
    pace = Pace(None)
    accept(pace, 10.0, since=NOW - 3.0, until=NOW)
    throttle(pace, NOW, silence=3.0, rnd=rnd)
    assert pace.next_start() == pytest.approx(NOW + 3.0 + rnd * 0.1)


def test_a_silence_saves_up_no_starts():
    """Who parked for a minute starts as evenly as everybody else."""
    pace = searching(20.0, silence=60.0)
    interval = pace.interval()
    resumed = NOW + 90.0
    pace.started(resumed)
    assert pace.next_start() == pytest.approx(resumed + interval, rel=1e-6)


# --- Full speed again ----------------------------------------------------------------------------


def test_a_pace_that_holds_nobody_back_is_lifted():
    """Once it has grown past what is asked for, the next accepted answer ends it."""
    pace = searching(50.0)
    now = pace.next_start()
    gaps = 0.0
    while gaps < UNUSED - 0.01:
        pace.started(now)
        assert not pace.accepted(now, started=now)
        now = pace.next_start() + 0.04
        gaps += 0.04
    pace.started(now)
    assert pace.accepted(now, started=now)
    assert (pace.learnt, pace.interval()) == (None, 0.0)
    assert pace.is_free
    assert pace.next_start() <= now
    assert throttle(pace, now + 1.0)  # and it can be taught again


def test_a_new_lesson_forgets_what_went_unused():
    """What the last curve offered in vain is no evidence against the new one."""
    pace = searching(50.0)
    pace.started(NOW)
    for gap in range(1, round(UNUSED / LONGEST_GAP)):
        pace.started(NOW + gap)
    throttle(pace, NOW + 10.0)
    pace.started(NOW + 20.0)
    pace.started(NOW + 30.0)
    assert not pace.accepted(NOW + 30.0, started=NOW + 30.0)


def test_a_pace_that_is_used_is_not_lifted():
    """As long as every start comes when it is due, somebody may be held back by it."""
    pace = searching(50.0)
    now = drive(pace, 5.0)
    assert not pace.accepted(now, started=now)
    assert pace.learnt > 50.0


def test_late_starts_of_a_cruise_do_not_lift_it():
    """Below the measured rate nothing is offered that could go unused."""
    pace = cruising(50.0)
    now = drive(pace, CRUISE / 2, late=0.05)
    assert not pace.accepted(now, started=now)
    assert pace.learnt < 50.0


def test_a_pause_between_two_batches_is_no_evidence():
    """However long one gap is, it counts as a short one."""
    pace = searching(50.0)
    pace.started(pace.next_start())
    for hour in range(1, round(UNUSED / LONGEST_GAP)):
        now = NOW + 3600.0 * hour
        pace.started(now)
        assert not pace.accepted(now, started=now)
    pace.started(now + 3600.0)
    assert pace.accepted(now + 3600.0, started=now + 3600.0)


# --- A known limit -------------------------------------------------------------------------------


def test_a_known_limit_caps_what_is_learnt():
    """The pace may learn more; it starts no more."""
    pace = searching(50.0, max_rate=10.0)
    assert pace.learnt == pytest.approx(50.0)
    assert pace.interval() == 0.1
    pace.started(NOW)
    assert pace.next_start() == pytest.approx(NOW + 0.1)


def test_a_lesson_does_not_bring_the_next_start_forward():
    """An answer that asks for no silence leaves the distance to the last start as it was."""
    pace = Pace(1.0)
    pace.started(NOW)
    accept(pace, 50.0, since=NOW - 1.0, until=NOW)
    throttle(pace, NOW + 0.01)
    assert pace.next_start() == NOW + 1.0


def test_full_speed_is_still_the_known_limit():
    """A learnt pace that is faster than the limit goes unused and is lifted; the limit stays."""
    pace = searching(50.0, max_rate=10.0)
    drive(pace, 1.0)
    now = pace.next_start()
    pace.started(now)
    assert pace.accepted(now, started=now)
    assert pace.interval() == 0.1
    assert pace.next_start() == pytest.approx(now + 0.1)
