"""`--shared-pace`: what it needs, what it refuses, and that the slots come from Redis."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.conftest import complaint, invoke
from tests.kit import call_ids

pytestmark = pytest.mark.usefixtures("folder")

FETCH = ("fetch", "ids.txt", "--out", "calls.jsonl")
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _ids(folder):
    (folder / "ids.txt").write_text("\n".join(call_ids(30)), encoding="utf-8")


@pytest.mark.parametrize("where", ["option", "environment"])
def test_the_slots_come_from_redis(where, serve, redis_server):
    """By option or by environment, all requests take a slot of the fleet's."""
    redis_server.command("HSET", "{calls_async}:line", "next", f"{time.time() * 1e6:.0f}")
    option = ("--shared-pace", redis_server.url) if where == "option" else ()
    env = {} if where == "option" else {"CALLS_SHARED_PACE_URL": redis_server.url}
    sandbox = serve()
    result = invoke(*FETCH, "--max-rate", "200", *option, sandbox=sandbox, **env)
    assert result.exit_code == 0, result.stderr
    assert len(sandbox.ledger) == 30
    assert redis_server.command("EXISTS", "{calls_async}:line") == b":1\r\n"
    assert redis_server.command("ZCARD", "{calls_async}:workers") == b":0\r\n"


def test_it_needs_a_rate():
    """A pace that is shared has to be known."""
    result = invoke(*FETCH, "--shared-pace", NOWHERE)
    assert result.exit_code == 2
    assert "needs --max-rate N" in result.stderr


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@host", "redis://host?password=hunter2", "redis://:hunter2@[::1"]
)
def test_a_password_is_no_argument(url):
    """It is refused on the command line, without being repeated, and taken from the environment."""
    result = invoke(*FETCH, "--max-rate", "5", "--shared-pace", url)
    assert result.exit_code == 2
    assert "CALLS_SHARED_PACE_URL" in complaint(result)
    assert "hunter2" not in result.stderr
    result = invoke(*FETCH, "--max-rate", "5", "--dry-run", CALLS_SHARED_PACE_URL=url)
    assert result.exit_code == 0


def test_a_wrong_url():
    """One line, and nothing is begun."""
    result = invoke(*FETCH, "--max-rate", "5", "--shared-pace", "http://host")
    assert result.exit_code == 3
    assert "must look like redis://host:6379/0" in complaint(result)
    assert not Path("calls.jsonl.journal").exists()


def test_a_redis_that_is_away_ends_the_job_with_patience(serve):
    """Nothing was sent, everything is left, and the reason is told."""
    sandbox = serve()
    options = ("--max-rate", "5", "--shared-pace", NOWHERE, "--patience", "0.3")
    result = invoke(*FETCH, *options, sandbox=sandbox)
    assert result.exit_code == 1
    assert "Redis at 127.0.0.1:1 is away" in result.stderr
    assert "30 left" in result.stderr
    assert len(sandbox.ledger) == 0
