"""The quota: what a server announces is spent evenly, and an old plan binds nobody for long."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from calls_async._headers import Budget
from calls_async._quota import ROUNDING, SHARE, SHORTEST_WINDOW, Quota

NOW = 1000.0


def announce(quota, remaining, reset, *, now=NOW, started=None, others=0):
    """Pass on an answer with one budget; whether that made a new plan."""
    budgets = (Budget(remaining=remaining, reset=reset),)
    begun = now if started is None else started
    return quota.announced(now, started=begun, others=others, budgets=budgets)


def announce_nothing(quota, *, now):
    return quota.announced(now, started=now, others=0, budgets=())


def planned(remaining, reset, **about):
    quota = Quota()
    assert announce(quota, remaining, reset, **about)
    return quota


def starts(quota, *, begin, end):
    """When requests start if there are always some that wait, and timers are punctual."""
    now, times = begin, []
    while (now := max(now, quota.next_start())) < end and len(times) < 1000:
        quota.started(now)
        times.append(now)
    return times


def gaps(times):
    """The time from each start to the next."""
    return [later - earlier for earlier, later in pairwise(times)]


# --- Within a window -----------------------------------------------------------------------------


def test_without_an_announcement_nobody_waits():
    """A server that says nothing costs nothing, however much is sent."""
    quota = Quota()
    assert (quota.next_start(), quota.interval(NOW)) == (-math.inf, 0.0)
    assert len(starts(quota, begin=NOW, end=NOW + 1.0)) == 1000
    assert quota.is_free


def test_a_budget_is_spent_evenly_over_the_share_of_its_window():
    """100 starts in 10 s: the first goes at once, the last after 7.5 s, all equally far apart."""
    times = starts(planned(100, 10.0), begin=NOW, end=NOW + 9.99)
    assert (times[0], times[-1]) == pytest.approx((NOW, NOW + SHARE * 10.0))
    assert gaps(times) == pytest.approx([SHARE * 10.0 / 99] * 99)


def test_what_is_spent_holds_until_the_window_ends():
    """The start after the last one of the budget waits for the next window."""
    quota = planned(3, 10.0)
    assert len(starts(quota, begin=NOW, end=NOW + 9.99)) == 3
    assert quota.next_start() == NOW + 10.0


def test_nothing_left_holds_from_the_answer_on():
    """A remaining of 0 lets nobody start before the window's end."""
    assert planned(0, 10.0).next_start() == NOW + 10.0


@pytest.mark.parametrize(("others", "left"), [(0, 5), (4, 1), (5, 0), (6, 0)])
def test_requests_in_flight_are_counted_off(others, left):
    """The answer does not know of them yet, so what it announces is theirs first."""
    assert len(starts(planned(5, 10.0, others=others), begin=NOW, end=NOW + 9.99)) == left


def test_late_starts_are_made_up_for():
    """The interval follows from what is left and from how long it may take: it shortens."""
    quota = planned(4, 10.0)
    assert quota.interval(NOW) == SHARE * 10.0 / 4
    assert quota.interval(NOW + 5.5) == pytest.approx(2.0 / 4)


def test_at_the_end_of_a_window_what_is_left_is_free():
    """A batch's last requests do not wait for a window that is nearly over."""
    quota = planned(50, 10.0)
    late = NOW + SHARE * 10.0
    assert quota.interval(late) == 0.0
    assert starts(quota, begin=late, end=late + 0.1) == [late] * 50


def test_a_further_answer_corrects_what_is_left_and_is_no_new_plan():
    """Others who share the quota spend of it too; the plan's end stays."""
    quota = planned(100, 10.0)
    assert not announce(quota, 10, 8.0, now=NOW + 2.0)
    assert quota.interval(NOW + 2.0) == pytest.approx((SHARE * 10.0 - 2.0) / 10)
    assert len(starts(quota, begin=NOW + 2.0, end=NOW + 9.99)) == 10


def test_more_than_there_seemed_to_be_brings_the_next_start_forward():
    """All but one of an hour's quota seemed spent; once it is not so, nobody waits 45 minutes."""
    quota = planned(64, 3600.0, others=62)
    quota.started(NOW)
    assert quota.next_start() >= NOW + SHARE * 3600.0 / 2
    assert not announce(quota, 64, 3599.0, now=NOW + 1.0, others=1)
    assert quota.next_start() == pytest.approx(NOW + 1.0 + (SHARE * 3600.0 - 1.0) / 63)


def test_a_correction_never_pushes_the_next_start_back():
    """What is due soon stays due soon: only the starts after it are further apart."""
    quota = planned(100, 10.0)
    quota.started(NOW)
    due = quota.next_start()
    announce(quota, 2, 10.0, now=NOW + 0.01)
    assert quota.next_start() == due


# --- Which window --------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-ROUNDING, -0.5, 0.0, 0.5, ROUNDING])
def test_ends_that_differ_by_rounding_are_one_window(off):
    """Whole seconds make one end look like several; the earliest that was announced is kept."""
    quota = planned(5, 10.0)
    assert not announce(quota, 0, 8.0 + off, now=NOW + 2.0)
    assert quota.next_start() == NOW + 10.0 + min(0.0, off)


@pytest.mark.parametrize("off", [-2.0, 2.0, 50.0])
def test_an_end_that_differs_by_more_is_another_window(off):
    """It is planned for anew, from the answer on."""
    quota = planned(5, 10.0)
    assert announce(quota, 4, 9.0 + off, now=NOW + 1.0)
    assert quota.interval(NOW + 1.0) == pytest.approx(SHARE * (9.0 + off) / 4)


def test_an_answer_from_before_the_plan_does_not_overturn_it():
    """What was asked in the last window and arrives in this one speaks of the last."""
    quota = planned(5, 10.0)
    assert not announce(quota, 0, 60.0, now=NOW + 0.5, started=NOW - 0.1)
    assert quota.next_start() < NOW + 10.0
    assert announce(quota, 0, 60.0, now=NOW + 0.5, started=NOW)
    assert quota.next_start() == NOW + 60.5


def test_until_the_next_window_s_first_answer_the_last_average_goes_on():
    """Nobody knows the next budget, so it is not assumed to be larger than the last one."""
    quota = planned(3, 12.0)
    starts(quota, begin=NOW, end=NOW + 11.99)
    times = starts(quota, begin=NOW + 12.0, end=NOW + 20.0)
    assert times == pytest.approx([NOW + 12.0, NOW + 15.0, NOW + 18.0])


@pytest.mark.parametrize(("remaining", "interval"), [(1, 9.0), (10, 0.9)])
def test_a_window_is_over_at_its_end(remaining, interval):
    """From the very end on the average goes on, whatever was left."""
    assert planned(remaining, 12.0).interval(NOW + 12.0) == pytest.approx(interval)


def test_what_was_not_used_of_a_window_is_not_saved_for_the_next():
    """Eight of ten are left over, and still the next window begins at the plan's average."""
    quota = planned(10, 12.0)
    quota.started(NOW)
    quota.started(NOW + 1.0)
    times = starts(quota, begin=NOW + 13.0, end=NOW + 15.0)
    assert times == pytest.approx([NOW + 13.0, NOW + 13.9, NOW + 14.8])


def test_a_window_s_first_answer_renews_the_budget():
    """The new plan is for what the new window has."""
    quota = planned(3, 12.0)
    starts(quota, begin=NOW, end=NOW + 12.01)
    assert announce(quota, 99, 12.0, now=NOW + 12.1)
    assert len(starts(quota, begin=NOW + 12.1, end=NOW + 24.0)) == 99


def test_a_client_that_came_when_nothing_was_left_does_not_wait_twice():
    """Its first start in the new window is spaced by an empty budget, and the answer frees it."""
    quota = planned(0, 3600.0)
    renewed = quota.next_start()
    quota.started(renewed)
    assert quota.next_start() > renewed + 600.0
    assert announce(quota, 999, 3600.0, now=renewed + 0.1)
    assert quota.next_start() == pytest.approx(renewed + 0.1 + SHARE * 3600.0 / 999)


# --- Which budget --------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [None, 0.0, SHORTEST_WINDOW - 0.1])
def test_a_window_that_cannot_be_planned_by_is_none(reset):
    """Without an end there is no plan, and announced in whole seconds a short one is too coarse."""
    quota = Quota()
    assert not announce(quota, 1, reset)
    assert quota.next_start() == -math.inf


def test_the_shortest_window_is_planned_by():
    """Two seconds are enough."""
    quota = planned(1, 2.0)
    assert quota.interval(NOW) == SHARE * 2.0
    assert not quota.is_free


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_budgets_the_scarcest_is_planned_for(order):
    """Ten a second and a hundred a minute: the minute binds, in whichever order they come."""
    budgets = [
        Budget(remaining=100, reset=60.0),
        Budget(remaining=30, reset=3.0),
        Budget(remaining=0, reset=None),
        Budget(remaining=9, reset=1.0),
    ][::order]
    quota = Quota()
    assert quota.announced(NOW, started=NOW, others=0, budgets=budgets)
    assert quota.interval(NOW) == SHARE * 60.0 / 100


# --- The end of it -------------------------------------------------------------------------------


def test_a_quota_that_is_not_announced_any_more_is_forgotten():
    """Once the window is over, an answer without a budget means that there is none."""
    quota = planned(2, 10.0)
    starts(quota, begin=NOW, end=NOW + 10.01)
    assert announce_nothing(quota, now=NOW + 10.0)
    assert (quota.next_start(), quota.interval(NOW + 10.1)) == (-math.inf, 0.0)
    assert not announce_nothing(quota, now=NOW + 10.2)


def test_within_the_window_an_answer_without_a_budget_changes_nothing():
    """A proxy's page among the server's answers is no reason to spend more."""
    quota = planned(0, 10.0)
    assert not announce_nothing(quota, now=NOW + 9.9)
    assert quota.next_start() == NOW + 10.0


def test_repr_is_truthful():
    """What is left, and when the window ends, to the millisecond."""
    quota = planned(3, 10.25, now=1_234_567.5)
    quota.started(1_234_567.5)
    assert repr(quota) == "Quota(left=2, ends=1234577.750)"
    assert repr(Quota()) == "Quota(left=0, ends=-inf)"
