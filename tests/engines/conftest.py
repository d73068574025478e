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


@pytest.fixture(scope="session")
def redis_of_the_session(redis_installed, tmp_path_factory):  # noqa: ARG001 (it skips)
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_of_the_session):
    """A Redis that is empty, and that the test may kill, freeze, and tell what it likes."""
    server = redis_of_the_session
    yield server
    server.thaw()
    # One that does not obey, because it was killed or wants a password, is replaced.
    if not server.command("FLUSHALL").startswith(b"+OK"):
        server.kill()
        server.start()
