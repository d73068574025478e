"""The pytest plugin, in pytest runs of its own, as its users have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs the tests of one file with the plugin, in an interpreter of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Plugins by name alone: so it makes no difference whether the package is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_tests(source, *options):
        pytester.makepyfile(source)
        pytester.makeini("[pytest]")  # its own, wherever the temporary folder is
        return pytester.runpytest_subprocess(
            *options, "-p", "calls_async.testing.pytest_plugin", "--strict-markers", "-W", "error"
        )

    return run_tests


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixtures_give_a_running_sandbox_and_its_client(run, mode):
    """In both modes of pytest-asyncio; options by mark, the closest wins, or by parametrization."""
    result = run(
        """
        import pytest
        from calls_async.testing import Fault, Sandbox

        pytestmark = [pytest.mark.asyncio, pytest.mark.calls_sandbox(seed=7, burst=3)]

        async def test_client(calls_sandbox, calls_client):
            assert (await calls_client.get_call("call-1")).id == "call-1"
            assert calls_sandbox.ledger.by_status == {200: 1}

        @pytest.mark.calls_sandbox(burst=5, prefix="/gateway")
        async def test_mark(calls_sandbox):
            assert isinstance(calls_sandbox, Sandbox)
            assert (calls_sandbox.seed, calls_sandbox.burst) == (7, 5)
            assert calls_sandbox.base_url.endswith("/gateway")

        @pytest.mark.parametrize("calls_sandbox", [{"seed": 1}, {"seed": 2}], indirect=True)
        async def test_parameter(calls_sandbox):
            assert calls_sandbox.seed in (1, 2)
            assert calls_sandbox.burst == 3
        """,
        *ASYNCIO,
        f"--asyncio-mode={mode}",
    )
    result.assert_outcomes(passed=4)


def test_a_mark_with_positional_arguments_is_refused(run):
    """The sandbox's options have names, and a mark that is wrong says so in one line."""
    result = run(
        """
        import pytest

        @pytest.mark.asyncio
        @pytest.mark.calls_sandbox(50)
        async def test_it(calls_sandbox):
            pass
        """,
        *ASYNCIO,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*calls_sandbox takes keyword arguments only*"])


def test_without_pytest_asyncio_the_fixtures_say_what_to_install(run, pytester, monkeypatch):
    """Only tests that use the fixtures fail, with one line."""
    pytester.mkpydir("shadow").joinpath("pytest_asyncio.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "shadow"), str(ROOT)]))
    result = run(
        """
        def test_sandbox(calls_sandbox):
            pass

        def test_client(calls_client):
            pass

        def test_other():
            pass
        """
    )
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "calls_sandbox needs pytest-asyncio: pip install pytest-asyncio",
            "calls_client needs pytest-asyncio: pip install pytest-asyncio",
        ]
    )


def test_importing_the_plugin_does_not_import_the_server():
    """A run that does not use the fixtures does not pay for aiohttp's server."""
    code = (
        "import sys, calls_async.testing.pytest_plugin as plugin; "
        "sys.exit('aiohttp.web' in sys.modules or 'calls_async.testing.sandbox' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)  # noqa: S603 (our own code)


def test_the_test_kit_does_not_import_pytest():
    """The sandbox is for demos and benchmarks too, where there is no pytest."""
    code = (
        "import sys; from calls_async.testing import *; "
        "sys.exit(bool({'pytest', 'pytest_asyncio'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)  # noqa: S603 (our own code)
