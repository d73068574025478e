"""Chaos, the short form: the same road with fewer ids, and how the sweep can fail."""

from __future__ import annotations

import pytest

from calls_async import Call
from calls_async.testing import Fault
from calls_async.testing.plan import Break
from tests.proof import chaos
from tests.proof.chaos import SHORT_EXPORT, SHORT_IDS, gathered, streamed, virtual
from tests.proof.road import FAILING, PERMANENT, REFUSING, TWICE, lay
from tests.proof.tally import Tally
from tests.ways import is_usual


@pytest.mark.usefixtures("way")
async def test_nothing_is_lost_swapped_or_duplicated():
    """Whatever lies in the way, each occurrence has its own record or its own error."""
    tally = await chaos.sweep(short=True)
    assert not tally.bad
    in_virtual_time = 2 * round((1 + TWICE) * SHORT_IDS) if is_usual() else 0
    assert tally.cases == in_virtual_time + SHORT_EXPORT
    if is_usual():
        assert {"record", *(error.__name__ for error in PERMANENT.values())} == set(tally.ends)


def test_every_kind_of_fault_lies_in_the_way():
    """However the dice fall, the road has all kinds: the broken, the refused, the lasting ones."""
    scripts = lay(SHORT_IDS, seed=1).faults.values()
    passing = {fault for script in scripts if not isinstance(script, Fault) for fault in script}
    lasting = {script for script in scripts if isinstance(script, Fault)}
    assert passing >= {*FAILING, *REFUSING}
    assert lasting == set(PERMANENT)
    assert {fault.breaks for fault in passing} == {None, *Break}


async def lost(client, road):
    """One result never comes."""
    return (await streamed(client, road))[1:]


async def doubled(client, road):
    """One result comes twice."""
    came = await streamed(client, road)
    return [*came, came[0]]


async def swapped(client, road):
    """Two records change places."""
    came = dict(await gathered(client, road))
    one, other = [place for place, result in came.items() if isinstance(result, Call)][:2]
    came[one], came[other] = came[other], came[one]
    return list(came.items())


async def asked_three_times(client, road):
    """The right results, and two thirds of the requests for nothing."""
    for _ in range(2):
        await gathered(client, road)
    return await gathered(client, road)


@pytest.mark.parametrize("way", [lost, doubled, swapped, asked_three_times])
def test_a_client_that_breaks_a_law_is_found(way):
    """A lost, doubled or swapped result, or too many requests, fails the sweep."""
    tally = Tally("one")
    virtual(way, lay(100, seed=1), "one", tally)
    assert tally.bad
