"""The sweep of statuses in its short form, and what it covers."""

from __future__ import annotations

from tests.proof import statuses
from tests.proof.wire import READERS


async def test_only_a_200_gives_a_record():
    """Whatever the status and the body, it is a record after a 200, and else its family's error."""
    tally = await statuses.sweep(short=True)
    assert not tally.bad
    assert tally.cases > 800 * len(READERS)


def test_every_status_is_given():
    """Each status with each body, once, with a second try and cut; interim ones; and nonsense."""
    cases = list(statuses.cases("python", 0, 1))
    plain = 500 * len(statuses.BODIES) * 2 + len(statuses.BODIES)
    plain += 500 * sum(map(bool, statuses.BODIES.values()))
    interim = 99 * 2 + 1
    odd = len(statuses.NONSENSE) + len(statuses.ODD_LINES)
    assert len(cases) == plain + interim + odd
    assert len({case.name for case in cases}) == len(cases)
    assert {"2OO", "0", "99", "600", "999", "abc", "-200", ""} <= set(statuses.NONSENSE)
