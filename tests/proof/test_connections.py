"""The short form of the sweep over connections."""

from __future__ import annotations

import pytest

from tests.proof.connections import CALLS, FAULTS, SERVERS, sweep


@pytest.mark.usefixtures("way")
async def test_no_connection_makes_a_wrong_answer():
    """Whatever happens to connections: the own record or a true error, counted as it was seen."""
    tally = await sweep(short=True)
    assert not tally.bad
    # In turn each id is asked for once, at once twice; the servers see both, the faults one.
    assert tally.cases == 3 * CALLS * (len(FAULTS) // 2 + len(SERVERS)) + CALLS * (len(FAULTS) % 2)
