"""A Redis of its own for these tests, or the reason why there is none."""

from __future__ import annotations

import shutil

import pytest

from tests.peers.process import free_ports, serving


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    """A real Redis on a free port, which keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("redis")
    port = free_ports("redis")["redis"]
    command = (program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
    with serving(*command, "--save", "", port=port, output=folder / "redis.log"):
        yield f"redis://127.0.0.1:{port}"
