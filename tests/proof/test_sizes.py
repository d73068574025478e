"""The short form of the sweep over sizes."""

from __future__ import annotations

import attrs
import pytest

from tests.proof import sizes
from tests.proof.apart import Measured
from tests.proof.sizes import BOMBS, VALUES, at_best, sweep
from tests.proof.tally import Tally


@pytest.mark.usefixtures("way")
async def test_whatever_is_too_large_is_left():
    """Every size ends as it should, and all of them together cost less memory than the limit."""
    tally = await sweep(short=True)
    assert not tally.bad
    assert tally.cases > 3 * len(BOMBS) + 2 * len(VALUES)
    assert {"AnswerTooLargeError", "ProtocolError", "DecodeError", "record"} <= set(tally.ends)


@pytest.mark.parametrize(("grown", "short", "bad"), [(65, True, 1), (63, True, 0), (65, False, 1)])
def test_too_much_memory_counts_as_a_leak(grown, short, bad):
    """It does in both forms: how much memory is taken does not depend on how busy a machine is."""
    tally = Tally("sizes")
    Measured(end=b"", grown=grown, blocked=0.0).judge(tally, "case", short=short)
    assert len(tally.leaks) == len(tally.bad) == bad


@pytest.mark.parametrize(("blocked", "short", "bad"), [(0.2, True, 0), (0.2, False, 1)])
def test_a_blocked_loop_counts_in_full_only(blocked, short, bad):
    """A test must not fail because of the machine that it runs on."""
    tally = Tally("sizes")
    Measured(end=b"", grown=0.0, blocked=blocked).judge(tally, "case", short=short)
    assert len(tally.hangs) == len(tally.bad) == bad


@pytest.mark.parametrize(
    ("turns", "least"), [([0.05, 0.01], 0.05), ([0.2, 0.3, 0.07], 0.07), ([0.2] * 9, 0.2)]
)
async def test_a_loop_that_was_blocked_is_measured_again(monkeypatch, turns, least):
    """A busy machine is no excuse and no failure: what counts is the best of some measurements."""
    first, *others = (Measured(end=b"", grown=9.0, blocked=seconds) for seconds in turns)
    left = iter(others)

    async def fetched_apart(*_, **__):
        return [attrs.evolve(next(left), grown=1.0)]

    monkeypatch.setattr(sizes, "fetched_apart", fetched_apart)
    assert await at_best("", "case", first) == attrs.evolve(first, blocked=least)
