"""Gate and pace over random schedules: what no order of events and no late timer can break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async._gate import RAMP, STAGGER, Gate
from calls_async._pace import SLACK, Pace

CAP = 60.0
GRAIN = 1e-6  # what sums of floats may be off by

rates = st.floats(0.5, 5_000.0)
pauses = st.floats(0.0, 100.0)
silences = st.floats(0.0, 1e9)
# Most timers are punctual, some are a little late, and now and then the whole machine stalls.
small_lateness = st.just(0.0) | st.floats(0.0, SLACK * 0.99)
lateness = small_lateness | st.floats(0.0, 1.0)
schedules = st.lists(st.tuples(pauses, silences), min_size=1, max_size=30)


def run(subject, delays, *, begin=0.0):
    """When requests start, each so much later than it could: late timers, and pauses."""
    now, times = begin, []
    for delay in delays:
        now = max(now, subject.next_start()) + delay
        subject.started(now)
        times.append(now)
    return times


def most_within(times, seconds):
    """The most starts in any stretch of this length, its end excluded."""
    return max(
        sum(begin <= time < begin + seconds - GRAIN for time in times[index:])
        for index, begin in enumerate(times)
    )


# --- The pace ------------------------------------------------------------------------------------


@given(rate=rates, delays=st.lists(lateness, min_size=2, max_size=40))
def test_starts_keep_their_distance_but_for_the_slack(rate, delays):
    """Any n starts span n - 1 intervals, less the slack, however late the timers were."""
    times = run(Pace(rate), delays)
    for first, begin in enumerate(times):
        for last in range(first + 1, len(times)):
            assert times[last] - begin >= (last - first) / rate - SLACK - GRAIN


@given(rate=st.floats(0.5, 0.99 / SLACK), delays=st.lists(lateness, min_size=2, max_size=40))
def test_an_interval_shortened_by_the_slack_never_has_two_starts(rate, delays):
    """Where the interval is longer than the slack, two starts never fall together."""
    assert most_within(run(Pace(rate), delays), 1 / rate - SLACK) == 1


@given(rate=rates, delays=st.lists(small_lateness, min_size=2, max_size=40))
def test_the_rate_is_kept_when_timers_are_late(rate, delays):
    """Lateness within the slack does not add up: the last start is late by the slack at most."""
    pace = Pace(rate)
    now = 0.0
    pace.started(now)
    for delay in delays:
        if pace.next_start() > now:  # else it is due already, and no timer is needed
            now = pace.next_start() + delay
        pace.started(now)
    assert now <= len(delays) / rate + SLACK + GRAIN


@given(rate=rates, delays=st.lists(lateness, max_size=20), pause=st.floats(SLACK * 1.01, 1e4))
def test_unused_time_buys_no_burst(rate, delays, pause):
    """Whatever happened before, after a pause the next start is due a whole interval later."""
    pace = Pace(rate)
    run(pace, delays)
    resumed = max(0.0, pace.next_start()) + pause
    pace.started(resumed)
    assert pace.next_start() == pytest.approx(resumed + 1 / rate)


@given(gaps=st.lists(lateness, max_size=20))
def test_no_rate_never_holds_anybody_back(gaps):
    """Without a limit, the next start is due at once after each."""
    pace, now = Pace(None), 0.0
    for gap in gaps:
        now += gap
        pace.started(now)
        assert pace.next_start() <= now


# --- The gate ------------------------------------------------------------------------------------


@given(schedule=schedules)
def test_not_before_only_ever_moves_later(schedule):
    """No answer, early or late, opens the gate sooner; `cool_down` tells whether it was open."""
    gate = Gate(max_rate=None, max_cool_down=CAP)
    now = 0.0
    for pause, silence in schedule:
        now += pause
        before = gate.not_before
        closed = gate.cool_down(now, silence)
        assert gate.not_before >= before
        assert closed == (before <= now < gate.not_before)


@given(schedule=schedules)
def test_nothing_starts_within_a_silence_that_was_asked_for(schedule):
    """Each wish holds up to the cap, whatever other wishes came before or after."""
    gate = Gate(max_rate=None, max_cool_down=CAP)
    now, asked = 0.0, []
    for pause, silence in schedule:
        now += pause
        gate.cool_down(now, silence)
        asked.append(now + min(silence, CAP))
    assert max(now, gate.next_start()) >= max(asked)


@given(schedule=schedules)
def test_no_silence_outlasts_the_cap(schedule):
    """At any moment, the gate opens within the longest silence."""
    gate = Gate(max_rate=None, max_cool_down=CAP)
    now = 0.0
    for pause, silence in schedule:
        now += pause
        gate.cool_down(now, silence)
        assert gate.not_before <= now + CAP


@given(wishes=st.lists(silences, min_size=1, max_size=10), data=st.data())
def test_the_order_of_answers_does_not_matter(wishes, data):
    """Answers of the same moment close the gate for the same time in whichever order they come."""
    one, other = (Gate(max_rate=None, max_cool_down=CAP) for _ in range(2))
    for silence in wishes:
        one.cool_down(7.0, silence)
    for silence in data.draw(st.permutations(wishes)):
        other.cool_down(7.0, silence)
    assert one.not_before == other.not_before


@given(
    silence=st.floats(0.001, CAP),
    before=st.lists(lateness, max_size=5),
    delays=st.lists(lateness, min_size=5, max_size=150),
)
def test_those_who_waited_never_start_as_a_herd(silence, before, delays):
    """While the gate has just opened, starts keep the stagger's distance but for the slack."""
    gate = Gate(max_rate=None, max_cool_down=CAP)
    now = max([0.0, *run(gate, before)])
    gate.cool_down(now, silence)
    opening = gate.not_before
    ramp = min(RAMP, silence)
    times = [time for time in run(gate, delays, begin=now) if time < opening + ramp]
    for first, begin in enumerate(times):
        assert begin >= opening
        for last in range(first + 1, len(times)):
            assert times[last] - begin >= (last - first) * STAGGER - SLACK - GRAIN


@given(rate=rates, schedule=schedules)
def test_a_known_limit_holds_whatever_the_server_asks_for(rate, schedule):
    """Cool-downs come on top of the pace: they never make up for the starts that they cost."""
    gate = Gate(max_rate=rate, max_cool_down=CAP)
    now, times = 0.0, []
    for pause, silence in schedule:
        now = max(now + pause, gate.next_start())
        gate.started(now)
        times.append(now)
        gate.cool_down(now, silence)
        now = max(now, gate.next_start())
        gate.started(now)
        times.append(now)
    for first, begin in enumerate(times):
        for last in range(first + 1, len(times)):
            assert times[last] - begin >= (last - first) / rate - SLACK - GRAIN
