"""The retry budget: the published quota, and what a batch may have when it is empty."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from calls_async import _budget
from calls_async._budget import RetryBudget

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "aws_standard_retry.json").read_text("utf-8")
)
RULES = VECTORS["rules"]


def test_the_numbers_are_the_published_ones():
    """Capacity, costs and the refund of a first try are those of the source."""
    assert RULES["quota"] == _budget.CAPACITY
    assert RULES["cost_transient"] == _budget.COST_TRANSIENT
    assert RULES["cost_throttle"] == _budget.COST_THROTTLED
    assert RULES["first_try_success_refund"] == _budget.FIRST_TRY_EARNS


def play(budget: RetryBudget, steps: list[list]) -> None:
    """One call: each answer, and the quota that must be left after what it leads to."""
    paid = None
    for answer, then, quota in steps:
        if then == "ok":
            budget.refund(paid)
        elif then == "quota":
            assert budget.take(throttled=answer == "429") is None
        elif isinstance(then, float):
            paid = budget.take(throttled=answer == "429")
            assert paid is not None
        assert budget.level == quota


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_every_published_case_leaves_the_quota_that_it_says(case):
    """A retry takes its cost or is refused; its success brings back what the last one cost."""
    budget = RetryBudget()
    budget.level = case.get("quota", RULES["quota"])
    play(budget, case["steps"])
    play(budget, case.get("next_call", []))


def test_a_first_try_that_succeeds_earns_one_token_up_to_the_capacity():
    """Fourteen successes pay for a retry, and a full bucket stays full."""
    budget = RetryBudget()
    budget.refund(None)
    assert budget.level == 500
    budget.level = 0
    for _ in range(13):
        budget.refund(None)
    assert budget.take(throttled=False) is None
    budget.refund(None)
    assert budget.take(throttled=False) == 14


@pytest.mark.parametrize(("throttled", "cost"), [(False, 14), (True, 5)])
def test_a_batch_pays_while_the_budget_can(throttled, cost):
    """A batch's retry costs the same as a single call's; its success earns twice that."""
    budget = RetryBudget()
    assert budget.grant(0.0, throttled=throttled) == 2 * cost
    assert budget.level == 500 - cost


def test_an_empty_budget_grants_a_batch_one_retry_a_second():
    """A batch cannot starve: its turn comes every second, and not sooner."""
    budget = RetryBudget()
    budget.level = 13
    at = [0.0, 0.5, 0.999, 1.0, 1.5, 7.0, 7.5, 8.0]
    granted = [budget.grant(now, throttled=False) for now in at]
    assert granted == [28, None, None, 28, None, 28, None, 28]
    assert budget.level == 13
    assert budget.next_grant == 9.0


def test_a_single_call_gets_nothing_from_an_empty_budget():
    """It fails with its last error, even where a batch's retry would have its turn."""
    budget = RetryBudget(capacity=0)
    assert budget.take(throttled=True) is None
    assert budget.grant(0.0, throttled=True) is not None


def test_a_retry_that_can_be_paid_does_not_use_up_the_turn():
    """The grant is for an empty budget only."""
    budget = RetryBudget(capacity=14)
    assert budget.grant(0.0, throttled=False) is not None
    assert budget.grant(0.0, throttled=False) is not None
    assert budget.grant(0.0, throttled=False) is None


@pytest.mark.parametrize("throttled", [False, True])
def test_a_retry_is_ready_when_it_can_be_paid_or_has_its_turn(throttled):
    """At once while the budget can pay, and else at the next turn, not before it."""
    budget = RetryBudget()
    assert budget.ready_at(throttled=throttled) == -math.inf
    budget.level = 0
    budget.grant(5.0, throttled=throttled)
    assert budget.ready_at(throttled=throttled) == 6.0
    assert budget.grant(6.0, throttled=throttled) is not None


def brown_out(share: float, calls: int) -> float:
    """Seconds in which a batch gets its last `calls` ids, all waiting for a retry, at 100 a second.

    Every nth retry fails, so that a share of them does, and an empty budget is where it starts.
    """
    budget = RetryBudget()
    budget.level = 0
    now, failures, left = 0.0, 0.0, calls
    while left:
        refund = budget.grant(now, throttled=False)
        if refund is None:
            now = budget.next_grant
            continue
        now += 0.01
        failures += share
        if failures >= 1.0:
            failures -= 1.0
        else:
            budget.refund(refund)
            left -= 1
    return now


def test_a_server_that_answers_more_than_half_soon_has_all_retries_again():
    """A thousand waiting retries at 30% failures take 14 s at 100 a second, and hardly longer."""
    assert brown_out(0.3, 1000) < 20.0


def test_a_server_that_answers_fewer_than_half_keeps_its_peace():
    """At 70% failures a batch goes on by its grants: it loses nothing, and it does not press."""
    assert brown_out(0.7, 100) > 100.0


def test_what_the_budget_can_pay_is_ready_at_once():
    """Only a retry that it cannot pay waits for the next grant."""
    budget = RetryBudget(5)
    assert budget.grant(100.0, throttled=False) is not None  # its turn; 14 cannot be paid
    assert budget.ready_at(throttled=True) == -math.inf
    assert budget.ready_at(throttled=False) == 101.0


def test_the_repr_tells_what_is_left():
    """What a person wants to know at night."""
    assert repr(RetryBudget()) == "RetryBudget(level=500, capacity=500)"
