"""The pages' code: each Python block is run as it stands there, in the order of its page.

What a block takes for granted (a client, some ids, a function of the reader's) is given to it by
name. A page whose code needs more than a sandbox has a test module of its own, which names it.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import click
import pytest
import tenacity

import calls_async
from calls_async import CallsClient, StatusError, structure_call
from calls_async.cli._app import app
from calls_async.journal import Journal
from calls_async.testing import Fault, make_record
from tests.cli.conftest import invoke, serve  # noqa: F401 (a fixture)
from tests.examples.pages import blocks, run, until
from tests.kit import ROOT, call_ids

pytest_plugins = ["pytester"]

PUBLIC = {name: getattr(calls_async, name) for name in calls_async.__all__}
PAGES = [
    "README.md",
    *sorted(
        page.relative_to(ROOT).as_posix()
        for page in (ROOT / "docs").rglob("*.md")
        if "_build" not in page.parts
    ),
]


async def read(page, *, which=slice(None), **names):
    """Run blocks of a page, one after the other, in one namespace; gives what they left in it."""
    names = PUBLIC | names
    for block in blocks(page)[which]:
        if re.search(r"^(asyncio|uvloop)\.run\(", block, re.MULTILINE):  # has a loop of its own
            await asyncio.to_thread(exec, compile(block, page, "exec"), names)
        else:
            await run_in(names, block)
    return names


async def run_in(names, block):
    names.update(await run(block, **names))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ids(folder):
    """Some ids, and a file of them."""
    (folder / "ids.txt").write_text("".join(f"{call_id}\n" for call_id in call_ids(20)))
    return call_ids(20)


@pytest.fixture
def api(calls_sandbox, monkeypatch, ids):  # noqa: ARG001 (where there is an API, there are ids)
    """A sandbox that the environment names."""
    monkeypatch.setenv("CALLS_BASE_URL", calls_sandbox.base_url)
    monkeypatch.setenv("CALLS_API_KEY", calls_sandbox.api_key)
    return calls_sandbox


class Told(list):
    """A coroutine function of the reader's, that keeps what it was told."""

    async def __call__(self, *args, **kwargs):
        self.append((*args, *kwargs.values()))


# --- Every page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_no_page_is_left_out(page):
    """A page that shows Python is named by what tests it, which runs it."""
    name = re.escape(page.rpartition("/")[2])
    named = re.compile(
        rf'"{re.escape(page)}"' + ("" if page.endswith("index.md") else rf'|"{name}"')
    )
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")]
    assert any(map(named.search, sources))


def typed(page):
    """What a page says to type in, in whatever kind of block."""
    lines = [
        line
        for language in ("console", "sh")
        for block in blocks(page, language)
        for line in block.replace("\\\n", "").splitlines()
    ]
    return [line.removeprefix("$ ") for line in lines]


COMMANDS = [
    (page, command)
    for page in PAGES
    for line in typed(page)
    for part in re.split(r" \| | \|\| | && |\$\(|\)", line)
    if (command := part.partition(" #")[0].strip("\"' ")).startswith(("calls-async ",))
]


@pytest.mark.parametrize("line", sorted({line for _, line in COMMANDS}))
def test_commands_are_those_of_the_program(line):
    """Each `calls-async` on any page has a command and options that there are."""
    _, name, *args = shlex.split(line)
    if name.startswith("--"):
        return
    command = app.commands[name]
    command.make_parser(click.Context(command)).parse_args(args)


def test_commands_are_found():
    """The rule above looks at the pages that show most of them."""
    assert {"README.md", "docs/tutorial/index.md", "docs/how-to/command-line.md"} <= {
        page for page, _ in COMMANDS
    }


# --- Where one begins ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
@pytest.mark.usefixtures("api")
async def test_the_first_pages(page, ids, capsys):
    """What they promise in code is so."""
    names = await read(page, ids=ids)
    first, *_ = capsys.readouterr().out.splitlines()
    call = structure_call(make_record("123e4567-e89b-12d3-a456-426614174000"))
    assert first == f"{call.contact.first_name} {call.started_at} {call.call_type}"
    assert [call.id for call in names.get("calls", ())] == (ids if page == "README.md" else [])


def test_the_tutorial(serve, folder, monkeypatch):  # noqa: F811 (the fixture)
    """Who types in what "docs/tutorial/index.md" says has 500 calls, twice."""
    page = "docs/tutorial/index.md"
    sandbox = serve()
    monkeypatch.setenv("CALLS_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("CALLS_API_KEY", sandbox.api_key)
    (make_ids,) = (line for line in typed(page) if line.startswith("python -c"))
    command, _, file = make_ids.rpartition(" > ")
    (folder / file).write_text(python(*shlex.split(command)[1:]))
    for line in typed(page):
        if line.startswith(
            ("calls-async fetch", "calls-async get", "calls-async export", "calls-async status")
        ):
            done = invoke(*shlex.split(line)[1:], sandbox=sandbox)
            assert done.exit_code == 0, done.output
    assert len((folder / "calls.jsonl").read_text().splitlines()) == 500
    assert (folder / "calls.csv").exists()

    whole, stream = blocks(page)
    (folder / "fetch.py").write_text(whole)
    assert python("fetch.py").endswith("500 calls\n")
    imports, _, rest = whole.partition("from calls_async import CallsClient\n")
    ending = rest[rest.index("asyncio.run(") :]
    sandbox.faults = {"call-7": Fault.status(404)}
    (folder / "fetch.py").write_text(f"{imports}{stream}\n\n{ending}")
    lines = python("fetch.py").splitlines()
    assert len(lines) == 500
    assert f"export CALLS_API_KEY={sandbox.api_key}" in typed(page)
    (failed,) = (line for line in lines if "failed" in line)
    assert failed.startswith("call-7 failed: ")


def python(*args):
    """The output of Python, started where we are."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(  # noqa: S603 (the page's own)
        [sys.executable, *args], env=environ, capture_output=True, text=True, check=True
    ).stdout


# --- How-to --------------------------------------------------------------------------------------


async def test_bulk(api, ids):
    """docs/how-to/bulk.md: lists, streams, speed and statistics."""
    api.faults = {"call-3": Fault.status(404)}
    store, note = Told(), Told()

    async def main():
        store.append("uvloop")

    pytest.importorskip("uvloop")
    async with CallsClient() as client:
        page = "docs/how-to/bulk.md"
        with pytest.raises(calls_async.NotFoundError):
            await read(page, which=slice(1), ids=ids)
        api.faults = {}
        names = await read(page, which=slice(2), ids=ids)
        assert [call.id for call in names["calls"]] == ids
        api.faults = {"call-3": Fault.status(404)}
        await read(
            page, which=slice(2, None), client=client, ids=ids, store=store, note=note, main=main
        )
    assert (len(store), len(note)) == (20, 1)
    assert store[-1] == "uvloop"


async def test_rate_limits(api, ids, capsys):
    """docs/how-to/rate-limits.md: a known limit, one call that is to wait, what is known."""
    schedule = Told()
    api.faults = {"call-x": Fault.status(429, headers={"Retry-After": "600"})}
    page = "docs/how-to/rate-limits.md"
    names = await read(page, which=slice(1), ids=ids)
    assert [call.id for call in names["calls"]] == ids
    async with CallsClient() as client:
        given = {"client": client, "call_id": "call-x", "schedule": schedule}
        await read(page, which=slice(1, 3), **given)
    await read(page, which=slice(3, None))
    ((call_id, at),) = schedule
    assert call_id == "call-x"
    assert at is not None
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("silent for another ")
    assert said[1] == "1 answers asked for fewer requests"
    assert said[2].startswith("50 ")


async def test_errors(api, ids):
    """docs/how-to/errors.md: one call, many, a broken record, other policies."""
    api.faults = {
        "call-1": Fault.status(501),
        "broken": Fault.bad_record,
    }
    log, store = SimpleNamespace(warning=lambda *_: None), Told()
    page = "docs/how-to/errors.md"
    async with CallsClient() as client:
        scheduled = []
        given = {"log": log, "schedule": lambda *args, **_: scheduled.append(args), "store": store}
        await read(page, which=slice(1), client=client, call_id="call-1", **given)
        assert scheduled == []
        names = await read(page, which=slice(1, 2), client=client, ids=ids[:2], **given)
        assert [outcome.id for outcome in names["failed"]] == ["call-1"]
        assert names["again"] == []
        names = await read(
            page, which=slice(2, None), client=client, call_id="broken", Path=Path, **given
        )
    assert names["violation"].path == "$.createdAt"
    assert await asyncio.to_thread(Path("broken.json").exists)
    assert names["patient"] is not None


async def test_journal(api, ids):
    """docs/how-to/journal.md: run, go on, digest, retry, stop, look, use."""
    page = "docs/how-to/journal.md"
    names = await read(page, which=slice(1), ids=ids)
    assert len(api.ledger) == 20
    with Journal.open("calls.journal") as journal:
        async with CallsClient() as client:
            names |= {"client": client, "journal": journal}
            names = await read(page, which=slice(1, 5), **names)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    names = await read(page, which=slice(5, 6), **names)
    assert names["status"].fetched == 20
    with Journal.open("calls.journal", read_only=True) as journal:
        names = await read(page, which=slice(6, None), **names | {"journal": journal})
    assert names["call"].id == ids[-1]
    assert len(api.ledger) == 20


@pytest.mark.usefixtures("api")
async def test_export(folder):
    """docs/how-to/export.md: sources, files and the report."""
    pytest.importorskip("pyarrow", reason="installed by `nox -s readers`")
    (folder / "crm.csv").write_text("Call ID,day\ncall-1,1\ncall-2,2\n")
    await read("docs/how-to/export.md")
    made = {path.name for path in folder.iterdir()}
    assert made >= {"calls.parquet", "again.csv", "retried.jsonl", "report.html"}


async def test_notebooks(api, monkeypatch):
    """docs/how-to/notebooks.md: cells, one after the other, in the loop that runs already."""
    pytest.importorskip("pandas", reason="installed by `nox -s readers`")
    monkeypatch.setattr(getpass, "getpass", lambda _: api.api_key)
    page = "docs/how-to/notebooks.md"
    names = dict(PUBLIC)
    for block in blocks(page):
        await run_in(names, block.replace("https://api.example.com", api.base_url))
        await until(Path("calls.journal").exists if "task = " in block else lambda: True)
    assert list(names["frame"]["id"]) == ["call-1", "call-2", "call-3"]
    assert names["status"].fetched == 3
    gathered = await asyncio.to_thread(names["fetch_all"], ["call-9"])
    assert gathered[0].id == "call-9"


async def test_own_session(api, monkeypatch):
    """docs/how-to/own-session.md: each way to connect makes a client."""
    import ssl  # noqa: PLC0415 (the page's)

    vault = SimpleNamespace(read=lambda _: asyncio.sleep(0, api.api_key))
    monkeypatch.setattr(
        ssl, "create_default_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    page = "docs/how-to/own-session.md"
    given = {"token": "t", "call_id": "call-1", "vault": vault}
    names = await read(page, which=slice(3, None), **given)
    assert names["call"].id == "call-1"
    async with names["client"] as client:
        assert (await client.get_call("call-2")).id == "call-2"
    monkeypatch.setenv("CALLS_BASE_URL", "https://calls.example.com")
    await read(page, which=slice(3), **given)


def test_testing(pytester, monkeypatch):
    """docs/how-to/testing.md: its tests pass, as somebody's who copied them."""
    first, second, ledger, environment, plain, virtual = blocks("docs/how-to/testing.md")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    report = textwrap.dedent(
        """
        from types import SimpleNamespace

        async def make_report(client, ids):
            mixed = await client.gather_calls(ids, return_exceptions=True)
            missing = [o.call_id for o in mixed if isinstance(o, Exception)]
            return SimpleNamespace(calls=len(mixed) - len(missing), missing=missing)
        """
    )
    pytester.makeconftest(f"import pytest\n{environment}")
    pytester.makepyfile(
        test_first=report + first,
        test_second=report + second + textwrap.indent(ledger, "    "),
        test_fixture="import pytest\nfrom calls_async import gather_calls\n\n"
        "@pytest.mark.asyncio\n@pytest.mark.usefixtures('calls_environment')\n"
        "async def test_it():\n    assert len(await gather_calls(['a', 'b'])) == 2\n",
        test_plain="import pytest\n\n@pytest.mark.asyncio\nasync def test_it():\n"
        + textwrap.indent(plain, "    "),
        test_virtual=virtual,
    )
    pytester.makeini("[pytest]")
    result = pytester.runpytest_subprocess(
        "-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function",
        "-p", "calls_async.testing.pytest_plugin", "--strict-markers", "-W", "error",
    )  # fmt: skip
    result.assert_outcomes(passed=6)


# --- The move from aiohttp and tenacity ----------------------------------------------------------

MIGRATION = "docs/how-to/migrate.md"


@pytest.fixture
async def both(api):  # noqa: ARG001 (it is asked)
    """The page's two modules: by hand, and with this package."""
    return [(await read(MIGRATION, which=slice(at, at + 1)))["get_calls"] for at in (0, 1)]


async def test_both_modules_fetch(both, ids):
    """The same records, in the same order."""
    by_hand, ours = [await get_calls(ids) for get_calls in both]
    assert [structure_call(document) for document in by_hand] == ours


def test_the_defaults_are_what_the_page_says():
    """The values of the page are the defaults, and of the module by hand."""
    code = blocks(MIGRATION)[1]
    policies = {**PUBLIC}
    for policy in ("RetryPolicy", "Timeouts", "Limits"):
        (shown,) = re.findall(rf"{policy}\(.*?\)", code)
        assert eval(shown, policies) == PUBLIC[policy]()  # noqa: S307 (our own page)


async def test_what_is_different(both, api):
    """What the page says of both modules: a 404, another id's record, an id with dots, the key."""
    by_hand, ours = both
    for get_calls, requests in ((by_hand, 4), (ours, 1)):
        api.faults = {"gone": Fault.status(404)}
        before = len(api.ledger)
        with pytest.raises((aiohttp.ClientResponseError, StatusError)) as raised:
            await get_calls(["gone"])
        assert len(api.ledger) - before == requests
        assert (api.api_key in repr(raised.value)) is (get_calls is by_hand)
    api.faults = {"mixed": [Fault.wrong_id]}
    assert (await by_hand(["mixed"]))[0]["id"] != "mixed"
    api.faults = {"mixed": [Fault.wrong_id]}
    assert (await ours(["mixed"]))[0].id == "mixed"
    before = len(api.ledger)
    with pytest.raises(aiohttp.ClientResponseError):
        await by_hand(["../users/7"])
    assert {entry.call_id for entry in api.ledger.entries[before:]} == {None}
    assert (await ours(["../users/7"]))[0].id == "../users/7"


async def test_the_steps(api, ids):
    """The steps between: a session of one's own, strategies of tenacity's."""
    names = await read(MIGRATION, which=slice(1, None))
    async with aiohttp.ClientSession(api.base_url) as session:
        assert [call.id for call in await names["get_calls"](ids, session)] == ids
    assert isinstance(names["retry"].stop, tenacity.stop_after_attempt)
