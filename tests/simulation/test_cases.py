"""The table of docs/explanation/pace.md, with fewer seeds; virtual time is the same every time."""

from __future__ import annotations

import pytest

from tests.simulation.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_client_reaches_what_is_promised(case):
    """Against each server model the client is as fast, and as seldom refused, as the table says."""
    reached = case.measure(None, 1)
    assert reached.enough, reached.text
