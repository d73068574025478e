"""The house rules that no tool checks: names, docstrings, imports, the version, the drawing."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import calls_async

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# The command line is a program and not an API; pytest finds the plugin by its entry point.
NO_API = {"calls_async.cli", "calls_async.testing.pytest_plugin"}
PUBLIC_MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(calls_async.__path__, "calls_async.")
    if not any(part.startswith("_") for part in module.name.split("."))
    and not any(module.name == name or module.name.startswith(f"{name}.") for name in NO_API)
    and module.name != "calls_async.engines"  # a folder, which imports nothing
)
BESIDE = (
    "calls_async.testing",
    "calls_async.journal",
    "calls_async.engines",
    "calls_async.telemetry",
)  # imported by their own names
CORE_MODULES = [name for name in PUBLIC_MODULES if not name.startswith(BESIDE)]
PUBLIC_NAMES = sorted(
    (module, name)
    for module in (
        "calls_async",
        "calls_async.engines.dask",
        "calls_async.engines.redis",
        "calls_async.journal",
        "calls_async.telemetry",
        "calls_async.testing",
    )
    for name in importlib.import_module(module).__all__
    if not name.startswith("__")
)


def python(code, *, cwd=ROOT):
    """Run `code` in an interpreter of its own."""
    return subprocess.run(  # noqa: S603 (the code is this file's)
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def in_house_order(name):
    """Constants, then classes, then the rest: the order of ruff's RUF022."""
    return (not name.isupper(), not name[0].isupper(), name)


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["calls_async", *PUBLIC_MODULES])
def test_all_is_sorted(module):
    """`__all__` is there, sorted, without duplicates, and names only what exists."""
    names = importlib.import_module(module).__all__
    assert names == sorted(set(names), key=in_house_order)
    for name in names:
        assert hasattr(importlib.import_module(module), name)


def test_the_package_names_what_a_type_checker_sees():
    """`calls_async/__init__.py` imports exactly what `__all__` exports, statically."""
    tree = ast.parse((ROOT / "calls_async" / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert imported == set(calls_async.__all__)


def test_the_package_exports_every_public_name_of_its_modules():
    """What a core module declares public is importable from `calls_async`, as the same object."""
    for name in CORE_MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            assert getattr(calls_async, public, None) is getattr(module, public), (name, public)


# --- Docstrings ----------------------------------------------------------------------------------


def members(cls):
    """What a class itself defines for its users: methods, properties and nested classes."""
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        bare = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(bare) or inspect.isclass(bare) or isinstance(bare, property):
            yield f"{cls.__name__}.{name}", bare


@pytest.mark.parametrize(("module", "name"), PUBLIC_NAMES)
def test_what_is_public_has_a_docstring(module, name):
    """Every public class, function, method and property says what it is."""
    subject = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(subject) or inspect.isfunction(subject)):
        return  # a constant or an alias: its docstring is in the source, for tools alone
    subjects = [(name, subject), *(members(subject) if inspect.isclass(subject) else ())]
    assert [where for where, part in subjects if not (part.__doc__ or "").strip()] == []


# --- Imports -------------------------------------------------------------------------------------


def requirement_names(requirements):
    """The distributions that requirements ask for, as they are imported."""
    names = {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in requirements}
    return {name.replace("-", "_") for name in names} - {"calls_async"}


def test_import_pulls_in_no_extra():
    """`import calls_async` imports nothing that only an extra installs."""
    extras = requirement_names(
        requirement
        for requirements in PYPROJECT["project"]["optional-dependencies"].values()
        for requirement in requirements
    )
    assert {"click", "rich", "pytest"} <= extras
    done = python("import sys, calls_async; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert extras & set(done.stdout.split()) == set()


def test_telemetry_imports_nothing_before_it_must():
    """OpenTelemetry comes with the first hook for it, and not with the package or with its room."""
    done = python("import sys, calls_async, calls_async.telemetry; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not {name for name in done.stdout.split() if name.startswith("opentelemetry")}
    modules = python("import sys, calls_async; print(*sys.modules)").stdout.split()
    assert not {name for name in modules if name.startswith("calls_async.telemetry")}


WITHOUT_OTEL_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from calls_async.telemetry import LoggingHook, OpenTelemetryHook
LoggingHook()
OpenTelemetryHook()
"""


def test_without_opentelemetry_its_hook_says_what_to_install():
    """In one line; the other hook needs nothing."""
    done = python(WITHOUT_OTEL_EXTRA)
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert "pip install 'calls_async[otel]'" in done.stderr


WITHOUT_CLI_EXTRA = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("click", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["calls-async", "demo"]
from calls_async.cli import main
sys.exit(main())
"""


def test_a_missing_extra_is_one_line():
    """`calls-async` without its extra says in one line what to install, and fails."""
    done = python(WITHOUT_CLI_EXTRA)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "pip install 'calls_async[cli]'" in line


# --- One truth -----------------------------------------------------------------------------------


def test_the_version_is_one():
    """The package, the installed distribution and the changelog agree on the version."""
    assert calls_async.__version__ == importlib.metadata.version("calls_async")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(Unreleased|\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] in ("Unreleased", calls_async.__version__)


def test_the_drawing_shows_every_room():
    """The architecture's drawing names exactly the modules that the import contract names."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = {room for row in rows for room in re.split(r" [|:] ", row)}
    drawing = (ROOT / "docs" / "_static" / "rows.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">(\w+)(?:\.py|/)</text>", drawing))
    assert drawn == rooms


def test_mutation_judges_every_pure_module():
    """Each module of rows 0 and 1 has the tests by which `nox -s mutation` judges it."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    pure = next(contract for contract in contracts if contract["type"] == "forbidden")
    modules = {name.removeprefix("calls_async.") for name in pure["source_modules"]}
    code = ast.parse((ROOT / "tests" / "mutation" / "__main__.py").read_text(encoding="utf-8"))
    (tests,) = (
        node.value
        for node in code.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TESTS"
    )
    judged = ast.literal_eval(tests)
    assert set(judged) == modules
    assert all((ROOT / "tests" / file).is_file() for files in judged.values() for file in files)


def test_the_license_is_shipped():
    """Who installs the package gets its licence with it."""
    files = importlib.metadata.files("calls_async") or []
    assert any(file.match("*.dist-info/licenses/LICENSE") for file in files)


def test_the_workflows_run_what_there_is():
    """The workflows name sessions of noxfile.py, and test each Python of the classifiers."""
    nox = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in nox.body if isinstance(node, ast.FunctionDef)}
    pythons = [
        classifier.rpartition(" ")[2]
        for classifier in PYPROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
    ]
    workflows = {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
    }
    (matrix,) = re.findall(r"^ +python: (\[.*\])$", workflows["test.yml"], re.MULTILINE)
    assert ast.literal_eval(matrix) == pythons
    (listed,) = re.findall(r"^ +session: \[(.*)\]$", workflows["test.yml"], re.MULTILINE)
    named = set(listed.split(", "))
    for text in workflows.values():
        for line in re.findall(r"nox -s (.*)$", text, re.MULTILINE):
            words = re.sub(r" -- .*|\$\{\{.*?\}\}", "", line).split()
            named |= {re.sub(r"-(3\.\d+)?$", "", word) for word in words}
    assert named <= sessions
