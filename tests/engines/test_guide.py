"""The guide's examples run as they are written, on a cluster within this process."""

from __future__ import annotations

import inspect
import re

import pytest

from calls_async.engines.dask import DaskSummary
from tests.engines.kit import KEY, REASON, guide, ids_of, serving

distributed = pytest.importorskip("distributed", reason=REASON)
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

BLOCKS = {
    block.splitlines()[0].removeprefix("# "): block
    for block in re.findall(r"^```python\n(.*?)^```", guide(), re.DOTALL | re.MULTILINE)
}


class HereClient(distributed.Client):
    """A client that takes any address for a cluster of its own."""

    def __init__(self, _):
        super().__init__(processes=False, n_workers=1, dashboard_address="127.0.0.1:0")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an example of the guide; gives what it has defined."""
    monkeypatch.setattr(distributed, "Client", HereClient)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("call-1\ncall-2\ncall-3\n")
    with serving() as sandbox:
        monkeypatch.setenv("CALLS_API_KEY", KEY)
        monkeypatch.setenv("CALLS_BASE_URL", sandbox.base_url)

        def run(title, redis=""):
            names = {}
            block = BLOCKS.pop(title).replace("redis://127.0.0.1:6379/0", redis)
            exec(compile(block, title, "exec"), names)  # noqa: S102 (our own page)
            return names

        yield run


def test_the_examples(run, tmp_path, capsys):
    """Each does what the page says of it, one after the other."""
    run("connect")
    assert "3 of 3, {}" in capsys.readouterr().out
    assert ids_of(tmp_path / "calls") == ["call-1", "call-2", "call-3"]
    run("read")
    assert capsys.readouterr().out == "3 ['id', 'callType', 'status']\n"
    assert run("again")["summary"].fetched_now == 0
    run("watch")
    assert "2 of 2, 1 parts, 1 workers" in capsys.readouterr().out
    job = run("from asyncio")["job"]
    assert inspect.iscoroutinefunction(job)
    assert isinstance(__import__("asyncio").run(job(["call-1", "call-2", "call-3"])), DaskSummary)
    assert set(BLOCKS) <= {"pace"}  # none is left out


def test_the_example_with_a_shared_pace(run, redis_server, tmp_path):
    """Its starts are on the line of a Redis."""
    run("pace", redis_server.url)
    assert ids_of(tmp_path / "paced") == ["call-1", "call-2"]
    assert redis_server.command("EXISTS", "{calls_async}:line").startswith(b":1")
