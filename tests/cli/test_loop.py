"""Which event loop a command runs on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from calls_async.cli._loop import loop_factory, run
from tests.cli.conftest import spawn

needs_uvloop = pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from calls_async.cli import main; sys.exit(main())"
)


async def kind_of_loop():
    return type(asyncio.get_running_loop()).__module__


@needs_uvloop
def test_a_command_runs_on_uvloop_where_it_is_installed():
    """The extra `speed` is all that is needed."""
    assert run(kind_of_loop()).startswith("uvloop")


def test_without_uvloop_a_command_runs_on_asyncios_own(monkeypatch):
    """The extra is not needed."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None
    assert run(kind_of_loop()).startswith("asyncio")


@needs_uvloop
@pytest.mark.parametrize("prelude", [None, ("-c", WITHOUT_UVLOOP)], ids=["uvloop", "asyncio"])
def test_a_job_ends_alike_on_both(serve, folder, prelude):
    """The same calls are fetched, and the same is said."""
    sandbox = serve()
    (folder / "ids.txt").write_text("".join(f"call-{number}\n" for number in range(50)))
    process = spawn("fetch", "ids.txt", "--out", "calls.jsonl", sandbox=sandbox, prelude=prelude)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert len((folder / "calls.jsonl").read_text().splitlines()) == 50
