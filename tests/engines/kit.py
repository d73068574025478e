"""What the tests of the Dask engine share: servers, clusters, and a look at what was made."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from calls_async import structure_call
from calls_async.testing import SANDBOX_KEY, Sandbox, make_record
from tests.kit import ROOT

PATIENCE = 60
"""Seconds after which what should have ended long ago fails its test."""
REASON = "distributed is not installed: pip install 'calls_async[dask]'"


def guide():
    """The guide, as it is written."""
    return (ROOT / "docs" / "how-to" / "dask.md").read_text("utf-8")


# --- Servers -------------------------------------------------------------------------------------


@contextmanager
def serving(**options):
    """A sandbox in a thread, whose ledger is at hand."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sandbox = Sandbox(**options)
    try:
        asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result(PATIENCE)
        yield sandbox
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


class Server:
    """A sandbox in a process of its own: what keeps the test busy does not keep it waiting."""

    def __init__(self, **options):
        command = [sys.executable, str(Path(__file__).with_name("server.py")), json.dumps(options)]
        self._process = subprocess.Popen(  # noqa: S603 (it is ours)
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.base_url = self._process.stdout.readline().strip()

    def ledger(self):
        """All requests so far: when each arrived, which id it asked for, how it was answered."""
        self._process.stdin.write("ledger\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()  # the end of its input is its end


# --- What was made -------------------------------------------------------------------------------


def rows_of(folder, kind="calls"):
    """All rows of a dataset's records or errors, part by part."""
    parquet = __import__("pyarrow.parquet").parquet
    parts = sorted((folder / kind).glob("*.parquet"))
    return [row for part in parts for row in parquet.read_table(part).to_pylist()]


def ids_of(folder, kind="calls"):
    return [row["id"] for row in rows_of(folder, kind)]


def check_records(rows):
    """Every row is the record that the sandbox has for its id."""
    for row in rows:
        call = structure_call(make_record(row["id"]))
        assert (row["status"], row["createdAt"]) == (call.status, call.created_at)
        assert (row["contact"] or {}).get("firstName") == call.contact.first_name
        assert row["notes"] == call.notes


def busiest(times, seconds):
    """The most of these moments that lie within so many seconds."""
    times = sorted(times)
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


KEY = SANDBOX_KEY
