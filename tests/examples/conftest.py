"""A Redis of its own for these tests, started as the page says, or the reason why there is none."""

from __future__ import annotations

import pytest

from tests.engines.redisserver import MISSING, PROGRAM, running

KEEPING = ("--appendonly", "yes")
"""Jobs are worth keeping."""


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    """A real Redis on a free port."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with running(tmp_path_factory.mktemp("redis"), *KEEPING) as server:
        yield server.url
