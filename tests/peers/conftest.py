"""What the tests against servers of others share; the rule: a server that is not there is named."""

from __future__ import annotations

import pytest

from tests.peers.nginx import MISSING, PROGRAM, running


@pytest.fixture
def installed():
    """Skip where there is no nginx."""
    if PROGRAM is None:
        pytest.skip(MISSING)


@pytest.fixture
def nginx(installed, tmp_path):  # noqa: ARG001 (it skips)
    """An nginx of the test's own, so that its log holds the test's requests alone."""
    with running(tmp_path) as server:
        yield server
