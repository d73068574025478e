"""Closing, the short form: a sample of the await points, and how the sweep can fail."""

from __future__ import annotations

import pytest

from calls_async._scope import Scope
from tests.proof import closings
from tests.proof.closings import Way, judge
from tests.proof.stages import STAGES
from tests.proof.suspensions import Moment
from tests.proof.tally import Tally
from tests.proof.theatre import Case
from tests.ways import is_usual


@pytest.mark.usefixtures("way")
async def test_whatever_is_in_flight_ends_with_the_client():
    """At a sample of all suspensions: an outcome or a `ClientClosedError`, and nothing stays."""
    tally = await closings.sweep(short=True)
    assert not tally.bad
    assert tally.cases > (120 if is_usual() else 30)
    assert {"ClientClosedError", "result"} <= set(tally.ends)


def test_a_request_that_is_not_ended_is_found(monkeypatch):
    """A client whose `close()` lets requests go on fails the sweep."""
    stop = Scope.stop
    monkeypatch.setattr(Scope, "stop", lambda self, error, **_: stop(self, error))
    tally = Tally("one")
    (stage,) = (stage for stage in STAGES if stage.name == "attempt timeout")
    virtual = True
    judge(tally, Case(stage, virtual, Way.ONCE, Moment.BEFORE, 2))
    assert tally.bad
