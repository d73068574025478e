"""What the tests of engines share; the rule: what is not installed is named."""

from __future__ import annotations

import pytest

from tests.engines.redisserver import MISSING, PROGRAM, running


@pytest.fixture(scope="session")
def redis_installed():
    """Skip where there is no Redis, or no redis for Python."""
    pytest.importorskip("redis", reason="the extra redis is not installed")
    if PROGRAM is None:
        pytest.skip(MISSING)


@pytest.fixture
def redis_server(redis_installed, tmp_path):  # noqa: ARG001 (it skips)
    """A Redis of the test's own."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def shared_server(redis_installed, tmp_path_factory):  # noqa: ARG001 (it skips)
    """A Redis for tests that neither kill it nor look at all of it."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server
