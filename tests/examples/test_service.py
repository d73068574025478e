"""A plain asyncio service, as docs/how-to/services.md has it: a real process and real signals."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sqlite3
import sys

import pytest

from calls_async.testing import Fault, record_body
from tests.examples.pages import EXAMPLES, blocks, commands, run, until
from tests.kit import ROOT, call_ids

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

PAGE = blocks("services.md")
SERVICE = ("-m", "examples.service")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The table of ids, made as the page makes it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "calls.db"

    class Table:
        async def add(self, ids):
            await run(PAGE[1], ids=ids)

        def read(self, what):
            with sqlite3.connect(path) as db:
                found = dict(db.execute(f"SELECT id, {what} FROM calls WHERE {what} NOTNULL"))  # noqa: S608
            db.close()
            return found

    return Table()


@pytest.fixture
async def start_service(calls_sandbox, tmp_path):
    """Start the service in the folder of the table; what a test leaves over is killed."""
    services = []

    async def start(**variables):
        services.append(
            await asyncio.create_subprocess_exec(
                sys.executable, *SERVICE,
                cwd=tmp_path,
                env=os.environ | {
                    "CALLS_BASE_URL": calls_sandbox.base_url,
                    "CALLS_API_KEY": calls_sandbox.api_key,
                    "PYTHONPATH": str(ROOT),
                } | variables,
                stderr=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip
        return services[-1]

    yield start
    for service in services:
        if service.returncode is None:
            service.kill()
        await service.communicate()


def requests(sandbox, ids):
    """How many requests each id cost."""
    return {call_id: number for call_id in ids if (number := sandbox.ledger.requests_of(call_id))}


def test_the_page_shows_what_is_tested():
    """The service on the page is the example, to the letter; the other block fills the table."""
    assert PAGE[0] == (EXAMPLES / "service.py").read_text("utf-8")
    assert [block.split("\n")[0] for block in PAGE[1:]] == ["# add"]
    assert shlex.join(["python", *SERVICE]) in commands("services.md")


async def test_ids_are_fetched_as_they_come(table, start_service, calls_sandbox):
    """Each id has its record or its reason, those that are added later too; and it is told."""
    calls_sandbox.missing = {"call-3"}
    await table.add(call_ids(5))
    service = await start_service()
    await until(lambda: len(calls_sandbox.ledger) == 5)
    await table.add(["later"])
    await until(lambda: "later" in table.read("raw"))
    service.send_signal(signal.SIGINT)
    _, err = await service.communicate()
    told = err.decode()
    assert service.returncode == 0, told
    assert "fetched 0, failed 0" in told
    assert told.rstrip().endswith("stopped")
    assert set(table.read("raw")) == {"call-0", "call-1", "call-2", "call-4", "later"}
    assert all(raw == record_body(call_id) for call_id, raw in table.read("raw").items())
    assert table.read("error")["call-3"].startswith("NotFoundError: ")


async def test_a_stop_loses_nothing(table, start_service, calls_sandbox):
    """SIGTERM: what is in flight is written down; the next run does the rest, and nothing twice."""
    calls_sandbox.latency = 0.05
    ids = call_ids(300)
    await table.add(ids)
    service = await start_service()
    await until(lambda: len(calls_sandbox.ledger) > 20)
    service.send_signal(signal.SIGTERM)
    _, err = await service.communicate()
    assert service.returncode == 0, err.decode()
    begun = requests(calls_sandbox, ids)
    assert begun.keys() == set(table.read("raw"))
    assert len(begun) < len(ids)
    calls_sandbox.latency = 0.0
    await start_service()
    await until(lambda: len(calls_sandbox.ledger) == len(ids))
    await until(lambda: len(table.read("raw")) == len(ids))
    assert requests(calls_sandbox, ids) == dict.fromkeys(ids, 1)


async def test_a_second_signal_ends_it_at_once(table, start_service, calls_sandbox):
    """Whoever does not want to wait for the grace need not; the id is left to the next run."""
    calls_sandbox.faults = {"stuck": Fault.stall}
    await table.add(["stuck"])
    service = await start_service(CALLS_GRACE="600")
    await until(lambda: calls_sandbox.ledger.in_flight == 1)
    service.send_signal(signal.SIGTERM)
    while b"stopping" not in await service.stderr.readline():
        pass
    service.send_signal(signal.SIGTERM)
    await service.communicate()
    assert service.returncode == -signal.SIGTERM
    assert (table.read("raw"), table.read("error")) == ({}, {})


async def test_a_refused_key_ends_the_service(table, start_service):
    """It says why, its exit code tells the supervisor, and the ids keep their place."""
    await table.add(call_ids(5))
    service = await start_service(CALLS_API_KEY="sk_test_unknown")
    _, err = await service.communicate()
    assert service.returncode == 1
    assert b"AuthenticationError" in err
    assert b"sk_test_unknown" not in err
    assert (table.read("raw"), table.read("error")) == ({}, {})
