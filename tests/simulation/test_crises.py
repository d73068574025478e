"""The second table of docs/explanation/simulation.md, smaller and with one seed."""

from __future__ import annotations

import pytest

from calls_async import Limits
from tests.simulation.ailing import REFUSED, Away, BrownOut, Collapsing
from tests.simulation.crises import CRISES
from tests.simulation.driver import arrive, simulate
from tests.simulation.servers import Unlimited

HEAVY = {"200 clients", "20 clients", "1 client after", "5 minutes", "502"}
"""Seconds each: the table has them, and the suite runs their smaller kin."""


@pytest.mark.parametrize(
    "crisis",
    [crisis for crisis in CRISES if not any(heavy in crisis.name for heavy in HEAVY)],
    ids=lambda crisis: crisis.name,
)
def test_the_client_comes_through(crisis):
    """In each crisis the client does what the table says, in a run of a tenth of the size."""
    reached = crisis.measure(None, 1, 0.1)
    assert reached.enough, reached.text


def test_patience_ends_a_batch_that_nobody_answers():
    """When patience is over, what is left fails unsent, and every id has its outcome."""
    server = Away(server=Unlimited(), since=0.0, until=300.0)
    run = simulate(server, ids=300, limits=Limits(max_concurrency=20, patience=60.0))
    assert run.fetched == 0
    assert len(run.lost) == 300
    assert {error.stopped_by for error in run.lost} == {"patience"}
    assert run.duration < 70.0


def test_a_server_that_collapses_does_so_without_a_limit():
    """The model is no straw man and no friend: what does not back off loses goodput."""
    server = Collapsing(workers=2, service=0.1, knee=8)
    replies = [server.reply(0.0).after for _ in range(32)]
    assert max(replies) > 2 * 32 * 0.1 / 2  # twice as long as the same work takes one by one


def test_the_room_of_a_server_is_limited():
    """What finds no room is refused at once, and there is room again when work is done."""
    server = Collapsing(workers=1, service=1.0, knee=10, room=2)
    assert [server.reply(0.0).status for _ in range(3)] == [200, 200, 503]
    assert server.reply(5.0).status == 200


def test_an_outage_begins_and_ends():
    """Nothing is served in between, and the end is not part of it."""
    server = Away(server=Unlimited(), since=1.0, until=2.0)
    assert [server.reply(at) == REFUSED for at in (0.9, 1.0, 1.9, 2.0)] == [
        False,
        True,
        True,
        False,
    ]


def test_calls_arrive_whether_or_not_they_are_answered():
    """The open loop asks for as many calls as it is told, of a server that is away as well."""
    run = arrive(Away(server=Unlimited(), since=0.0, until=99.0), rate=20.0, seconds=10.0)
    assert 150 <= len(run.asked) <= 250
    assert len(run.lost) == len(run.asked)
    assert arrive(BrownOut(server=Unlimited()), rate=20.0, seconds=10.0).fetched > 150
