"""The harness itself: what it starts ends, and what others left over is in nobody's way."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from calls_async import CallsClient
from tests.peers.cases import KEY
from tests.peers.nginx import running

pytestmark = pytest.mark.peer


def lives(process):
    """Whether there is a process of this id."""
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


async def test_a_stopped_server_is_gone(nginx):
    """Neither the master nor a worker outlives it."""
    async with CallsClient(KEY, base_url=nginx.url("plain")) as client:
        await client.get_call("call-1")
    master = nginx._master
    nginx.stop()
    (line,) = nginx.log()
    assert not lives(master)
    assert not lives(line.worker)


async def test_a_server_that_a_killed_run_left_over(nginx, tmp_path_factory):
    """The next run has ports and files of its own."""
    with running(tmp_path_factory.mktemp("next")) as next_one:
        async with CallsClient(KEY, base_url=next_one.url("plain")) as client:
            await client.get_call("call-1")
        next_one.stop()
        assert len(next_one.log()) == 1
    assert nginx.log() == []
