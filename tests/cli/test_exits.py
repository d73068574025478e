"""How commands end: the documented codes, one line, and no traceback unless it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

import calls_async
from calls_async import cli
from calls_async.cli import _app, _jobs
from calls_async.cli._exits import App, Exit
from calls_async.testing import Fault
from tests.cli.conftest import PATIENCE, ROOT, complaint, invoke, spawn

COMMANDS = tuple(_app.app.commands)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_has_an_example_and_every_code(command):
    """Whoever reads the help of any command can run it, and read its exit code."""
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    told = result.stdout.splitlines()
    assert told[told.index("  Example:") + 1].startswith("    ")
    codes = [line.split()[0] for line in told[told.index("  Exit codes:") + 1 :]]
    assert codes == [str(int(code)) for code in Exit]
    assert max(map(len, told)) <= 80


def test_no_option_takes_a_key():
    """A key among the arguments would be in the list of processes for everyone to read."""
    options = [p.name for command in _app.app.commands.values() for p in command.params]
    assert not [name for name in options if "key" in name]
    assert "CALLS_API_KEY" in invoke("--help").stdout


def test_version():
    """`--version` is the package's."""
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout == f"calls-async, version {calls_async.__version__}\n"


def test_without_a_command_there_is_help():
    """It is a mistake all the same, and standard output stays empty."""
    result = invoke()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: calls-async ")


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("--nonsense",),
        ("get",),
        ("get", "a", "b"),
        ("fetch", "ids.txt"),
        ("fetch", "ids.txt", "--out", "a.csv", "--concurrency", "0"),
        ("fetch", "ids.txt", "--out", "a.csv", "--max-rate", "0"),
        ("fetch", "ids.txt", "--out", "a.csv", "--max-rate", "nan"),
        ("fetch", "ids.txt", "--out", "a.csv", "--errors", "./a.csv"),
        ("sandbox", "--port", "65536"),
        ("sandbox", "--latency", "inf"),
        ("sandbox", "--fault-share", "1.1"),
        ("demo", "--svg", "no/folder.svg"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_misuse_is_one_line_and_2(args):
    """What is wrong with the arguments is told in a line that leads to the help or to the mend."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert complaint(result).startswith("calls-async: ")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"CALLS_API_KEY": None}, "calls-async: no API key: set CALLS_API_KEY"),
        ({"CALLS_API_KEY": "sk_test_a b"}, None),
        ({"CALLS_API_KEY": "Bearer sk_test_a"}, None),
        ({"CALLS_API_KEY": "sk_test_ä"}, None),
        ({"CALLS_API_KEY": "sk_test_a\n"}, None),
        (
            {"CALLS_BASE_URL": None},
            "calls-async: no base URL: use --base-url or set CALLS_BASE_URL",
        ),
        ({"CALLS_BASE_URL": "http://calls.example.com"}, None),
        ({"CALLS_BASE_URL": "https://calls.example.com/?a=b"}, None),
        ({"CALLS_BASE_URL": "https://user:secret@calls.example.com"}, None),
    ],
)
@pytest.mark.parametrize("command", ["get", "fetch"])
def test_a_wrong_configuration_is_one_line_and_3(folder, command, env, told):
    """It is told before anything is sent or written, and without showing the key."""
    (folder / "ids.txt").write_text("a\n")
    args = {"get": ["a"], "fetch": ["ids.txt", "--out", "a.jsonl"]}[command]
    result = invoke(command, *args, **env)
    assert result.exit_code == 3
    line = complaint(result)
    assert told in (None, line)
    assert "sk_test_" not in line
    assert "secret" not in line
    assert [path.name for path in folder.iterdir()] == ["ids.txt"]


def test_what_nobody_expected_is_one_line_too(monkeypatch):
    """A mistake of ours names its type; the traceback is there for who asks."""

    def broken(name, *_, **__):
        raise RuntimeError(f"no\n{name}")

    monkeypatch.setattr(_jobs, "source_of", broken)
    result = invoke("fetch", "ids.txt", "--out", "a.jsonl")
    assert result.exit_code == 1
    line = r"calls-async: unexpected RuntimeError: no\nids.txt (calls-async --debug shows where)"
    assert complaint(result) == line
    result = invoke("--debug", "fetch", "ids.txt", "--out", "a.jsonl")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith(f"{line}\n")
    assert complaint(invoke("fetch", "ids.txt", "--out", "a.jsonl")) == line


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_an_interrupt_is_130(interrupt):
    """Wherever Ctrl-C hits, there is no traceback."""

    @click.group(cls=App, invoke_without_command=True)
    def app():
        raise interrupt

    with pytest.raises(SystemExit) as caught:
        app.main([], prog_name="app")
    assert caught.value.code == 130


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE semantics to test")
@pytest.mark.parametrize("args", [["get", "a"], ["get", "a", "--json"], ["--help"]])
def test_a_broken_pipe_is_quiet(serve, args):
    """A reader that has seen enough is no error: `calls-async get ID | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn(*args, sandbox=serve(), stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")


def test_it_is_a_module_too():
    """`python -m calls_async.cli` is the same command."""
    process = spawn("--version")
    out, _ = process.communicate(timeout=PATIENCE)
    assert out.startswith("calls-async, version ")


def test_a_missing_extra_is_named(monkeypatch, capsys):
    """Without click there is one line, with what to install, and the code for configuration."""
    monkeypatch.delitem(sys.modules, "calls_async.cli._app")
    monkeypatch.setitem(sys.modules, "click", None)
    assert cli.main() == 3
    told = "calls-async: to use it, run: pip install 'calls_async[cli]'\n"
    assert capsys.readouterr() == ("", told)


def test_an_interrupt_while_it_starts_is_130(monkeypatch, capsys):
    """The imports take long enough for a Ctrl-C, which is no traceback even then."""

    class Interrupting:
        def find_spec(self, name, _path=None, _target=None):
            if name == "calls_async.cli._app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "calls_async.cli._app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert cli.main() == 130
    assert capsys.readouterr() == ("", "")


def test_another_missing_module_is_not_blamed_on_the_extra(monkeypatch):
    """Only click and rich are what the extra brings."""
    monkeypatch.delitem(sys.modules, "calls_async.cli._app")
    monkeypatch.setitem(sys.modules, "calls_async.cli._card", None)
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_importing_the_door_imports_no_extra():
    """`calls_async.cli` alone imports neither click nor rich."""
    code = "import sys, calls_async.cli; print({'click', 'rich'} & set(sys.modules))"
    done = subprocess.run(  # noqa: S603 (this file's own code)
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_server_that_is_not_there_is_one_line():
    """Nobody listens: the line says so, and where to look. It takes as long as its retries."""
    result = invoke("get", "a")
    assert result.exit_code == 1
    assert complaint(result).endswith(
        "Check CALLS_BASE_URL and that the server (or the proxy) is up."
    )


def test_faults_do_not_show(serve):
    """A call that came through after faults is a success like any other."""
    sandbox = serve(faults={"a": [Fault.reset, Fault.status(500)]})
    assert invoke("get", "a", sandbox=sandbox).exit_code == 0
