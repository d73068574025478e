"""`fetch --dask`: what it makes, how it ends, and what does not go with it."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec

import pytest

from calls_async.cli import _fleet
from calls_async.cli._fleet import _Seen, fleet_picture
from calls_async.engines.dask import DaskProgress
from calls_async.testing import Fault
from tests.cli.conftest import complaint, environment, invoke

needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None,
    reason="distributed is not installed: pip install 'calls_async[dask]'",
)


@pytest.fixture
def ids(folder):
    (folder / "ids.txt").write_text("".join(f"call-{n}\n" for n in range(40)))


@pytest.fixture
def here(monkeypatch):
    """`local` is a cluster in this process, which is there at once."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    start = distributed.LocalCluster

    def quick(**options):
        options |= {"processes": False, "n_workers": 1, "host": None}
        return start(**options)

    monkeypatch.setattr(distributed, "LocalCluster", quick)


@needs_dask
@pytest.mark.usefixtures("ids", "here")
def test_a_dataset_is_made(folder, serve, monkeypatch):
    """The parts are where `--out` says; the exit code and the end tell what became of the ids."""
    sandbox = serve()
    fetch = ("fetch", "ids.txt", "--dask", "local", "--out", "out", "--chunk-size", "10")
    for name, value in environment(sandbox).items():
        monkeypatch.setenv(name, value)  # the workers are in this process, and stay
    sandbox.faults = {"call-3": Fault.status(404)}
    done = invoke(*fetch, "--log-format", "json", sandbox=sandbox)
    assert done.exit_code == 1, done.stderr
    *_, end = map(json.loads, done.stderr.splitlines())
    assert (end["event"], end["fetched"], end["failed"], end["parts"]) == ("end", 39, 1, 4)
    assert end["failedBy"] == {"NotFoundError": 1}
    assert len(list((folder / "out" / "calls").iterdir())) == 4
    sandbox.faults = {}
    (part,) = (folder / "out" / "calls").glob("part-00000000-*")
    part.unlink()
    again = invoke(*fetch, "--max-rate", "1000", sandbox=sandbox)
    assert again.exit_code == 0, again.stderr
    assert "40 of 40 fetched" in again.stderr
    assert len(sandbox.ledger) == 50


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--dask", "local"], "--dask: give --out"),
        (["--dask", "local", "--out", "x", "--errors", "e.csv"], "--errors and --dask"),
        (["--dask", "local", "--out", "x", "--journal", "j"], "--journal and --dask"),
        (["--dask", "local", "--out", "x", "--dry-run"], "--dry-run and --dask"),
        (["--dask", "local", "--out", "x", "--force"], "--force and --dask"),
        (["--dask", "local", "--out", "x", "--fail-fast"], "--fail-fast and --dask"),
        (["--out", "x.csv", "--chunk-size", "5"], "go with --dask"),
        (["--out", "x.csv", "--retry-failed"], "go with --dask"),
    ],
)
def test_what_does_not_go_together(args, told):
    """An option that would mean nothing is refused."""
    done = invoke("fetch", "ids.txt", *args)
    assert done.exit_code == 2
    assert told in complaint(done)


@needs_dask
@pytest.mark.usefixtures("ids")
def test_a_scheduler_that_is_not_there(monkeypatch):
    """It is one line, which names the address."""
    monkeypatch.setattr(_fleet, "_PATIENCE", "0.2s")
    done = invoke("fetch", "ids.txt", "--dask", "tcp://127.0.0.1:9", "--out", "x")
    assert done.exit_code == 1
    assert "no scheduler answers at tcp://127.0.0.1:9" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("ids")
def test_dask_that_is_not_installed(monkeypatch):
    """It is one line that says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    done = invoke("fetch", "ids.txt", "--dask", "local", "--out", "x")
    assert done.exit_code == 3
    assert "pip install 'calls_async[dask]'" in complaint(done)


def progress(**changes):
    numbers = dict.fromkeys(("asked", "fetched", "failed", "parts", "parts_before", "under_way"), 0)
    rest = {"reading": True, "failed_by": {}, "workers": 0, "elapsed": 0.0}
    return DaskProgress(**numbers | rest | changes)


def test_the_picture():
    """It says how far the job is, how quick, and what the cluster does."""
    from rich.console import Console  # noqa: PLC0415

    def drawn(seen):
        console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
        console.print(fleet_picture(seen))
        console.file.close()
        return console.export_text()

    seen = _Seen()
    assert "nothing yet" in drawn(seen)
    seen.take(progress(), stopping=False)
    assert "waiting for workers" in drawn(seen)
    for at in range(30):
        numbers = {"asked": 50_000, "fetched": 500 * at, "under_way": 8, "workers": 4}
        seen.take(progress(elapsed=float(at), **numbers), stopping=at == 29)
    text = drawn(seen)
    assert "14,500 of 50,000 so far done, 0 failed, 500/s" in text
    assert "4 workers · 8 chunks under way" in text
    assert "Ctrl-C again" in text
