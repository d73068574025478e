"""nginx's limits in their short form; what is exact is asserted, what takes time is printed."""

from __future__ import annotations

import pytest

from tests.peers.cases import CASES

pytestmark = pytest.mark.peer


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_id_is_fetched_and_every_request_counted(case):
    """No id is lost, each has its own record, and the client counts what nginx's log counts."""
    measured = case.measure(case.short)
    print(f"{case.name}; {case.short} ids: {measured}")  # noqa: T201 (the figures are for the reader)
    assert measured.inexact == ()
