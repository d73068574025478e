"""Gate, pace and quota over random schedules: what no order of events and no late timer breaks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls_async._gate import RAMP, STAGGER, Gate
from calls_async._headers import Budget, Hint
from calls_async._pace import SLACK, SLOWEST, Pace
from calls_async._quota import SHARE, SHORTEST_WINDOW, Quota
from tests.simulation.servers import TokenBucket, steady

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


lessons = st.lists(
    st.tuples(
        st.sampled_from(["accepted", "throttled"]),
        lateness,  # of the start
        st.floats(0.0, 2.0),  # from the start to the answer
        st.floats(0.0, 5.0),  # of silence
        st.floats(0.0, 1.0),  # the dice
    ),
    max_size=60,
)


def taught(pace, history, now=0.0):
    """Run requests through a pace, one after the other, and yield each start."""
    for answer, late, took, silence, rnd in history:
        started = now = max(now, pace.next_start()) + late
        pace.started(started)
        now += took
        if answer == "accepted":
            pace.accepted(now, started=started)
        elif pace.throttled(now, started=started, silence=silence, rnd=rnd):
            assert pace.next_start() >= now + silence
        yield started


@given(rate=rates, history=lessons)
def test_nothing_that_is_learnt_exceeds_a_known_limit(rate, history):
    """Whatever answers come, any n starts span n - 1 of the limit's intervals, less the slack."""
    times = list(taught(Pace(rate), history))
    for first, begin in enumerate(times):
        for last in range(first + 1, len(times)):
            assert times[last] - begin >= (last - first) / rate - SLACK - GRAIN


@given(history=lessons)
def test_a_learnt_pace_is_never_much_slower_than_the_slowest(history):
    """A client always finds out within seconds that there is more for it."""
    pace = Pace(None)
    for _ in taught(pace, history):
        assert pace.learnt is None or pace.learnt >= SLOWEST


def until_refused(pace, server):
    """Ask a server as the pace allows until it refuses, which asks for a second of silence."""
    now = max(0.0, pace.next_start())
    while server.reply(now).status == 200:
        pace.started(now)
        pace.accepted(now, started=now)
        now = max(now, pace.next_start())
    pace.started(now)
    pace.throttled(now, started=now, silence=1.0, rnd=0.0)


@given(rate=st.floats(10.0, 100.0), share=st.floats(0.0, 0.5))
@settings(max_examples=25)
def test_a_buckets_limit_is_found_and_never_overestimated(rate, share):
    """Whatever a bucket saves up, up to half a second's worth, the cruise is below its limit."""
    pace, server = Pace(None), TokenBucket(rate=steady(rate), burst=int(share * rate))
    until_refused(pace, server)  # at full speed
    for least in (0.5, 0.65, 0.7):  # the search, and two probes
        until_refused(pace, server)
        assert least * rate <= pace.learnt <= rate


@given(history=lessons, pause=st.floats(SLACK * 1.01, 1e4))
def test_a_learnt_pace_saves_nothing_up(history, pause):
    """After any pause, and so after any silence, the next start is a whole interval away."""
    pace = Pace(None)
    now = max([0.0, *taught(pace, history)])
    resumed = max(now, pace.next_start()) + pause
    interval = pace.interval()
    pace.started(resumed)
    assert pace.next_start() == pytest.approx(resumed + interval)


# --- The quota -----------------------------------------------------------------------------------

windows = st.floats(SHORTEST_WINDOW, 3600.0)


@given(
    remaining=st.integers(0, 50),
    reset=windows,
    others=st.integers(0, 20),
    delays=st.lists(lateness, min_size=60, max_size=60),
)
def test_an_announced_budget_is_never_exceeded(remaining, reset, others, delays):
    """With those in flight, no more requests start within the window than it has left."""
    quota = Quota()
    budgets = (Budget(remaining=remaining, reset=reset),)
    quota.announced(0.0, started=0.0, others=others, budgets=budgets)
    times = run(quota, delays)
    within = sum(time < reset for time in times)
    assert within <= max(0, remaining - others)


@given(remaining=st.integers(2, 50), reset=windows)
def test_an_announced_budget_is_spent_whole_and_evenly(remaining, reset):
    """With punctual timers all of it is used, in the window's share, at one distance."""
    quota = Quota()
    budgets = (Budget(remaining=remaining, reset=reset),)
    quota.announced(0.0, started=0.0, others=0, budgets=budgets)
    times = run(quota, [0.0] * remaining)
    apart = SHARE * reset / (remaining - 1)
    assert times == pytest.approx([nth * apart for nth in range(remaining)])


@given(
    answers=st.lists(
        st.tuples(pauses, st.integers(0, 100), windows, st.integers(0, 20)), min_size=1
    )
)
def test_no_announcement_holds_longer_than_its_window(answers):
    """Whatever is announced in whatever order, the next start is not beyond the latest end."""
    quota, now, latest = Quota(), 0.0, 0.0
    for pause, remaining, reset, others in answers:
        now += pause
        budgets = (Budget(remaining=remaining, reset=reset),)
        quota.announced(now, started=now, others=others, budgets=budgets)
        latest = max(latest, now + reset)
        assert quota.next_start() <= latest


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


answered = st.tuples(
    pauses,
    st.sampled_from([200, 404, 429, 500, 503]),
    st.builds(
        Hint,
        wait=st.none() | silences,
        budgets=st.lists(
            st.builds(Budget, remaining=st.integers(0, 100), reset=st.none() | windows), max_size=2
        ).map(tuple),
    ),
    st.floats(0.0, 1.0),
)


@given(rate=st.none() | rates, answers=st.lists(answered, max_size=40))
def test_no_answer_opens_the_gate_early(rate, answers):
    """Throttling always closes it, nothing opens it, and news of a closing is of an open gate."""
    gate = Gate(max_rate=rate, max_cool_down=CAP)
    now = 0.0
    for pause, status, hint, rnd in answers:
        started = now = max(now, gate.next_start()) + min(pause, 1.0)
        gate.started(now)
        for late in (0.0, 0.01):  # two of one wave
            before, was_open = gate.not_before, gate.not_before <= now + late
            news = gate.answered(
                now + late, started=started, others=0, status=status, hint=hint, rnd=rnd
            )
            assert gate.not_before >= before
            assert news.closed == (was_open and gate.not_before > now + late)
            # A single 503 may be a stray one; a second in a row never is.
            refused = status == 429 or (status == 503 and late > 0.0)
            if refused and hint.wait is None:
                assert gate.not_before > now + late
