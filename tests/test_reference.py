"""The reference is whole: every public name, error and variable, and nothing that there is not."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import calls_async
from calls_async import CallsError
from tests.kit import ROOT

REFERENCE = ROOT / "docs" / "reference"
PAGES = {page.name: page.read_text("utf-8") for page in sorted(REFERENCE.glob("*.md"))}
MODULES = ("calls_async", "calls_async.journal", "calls_async.journal.sources")
MODULES += ("calls_async.journal.render", "calls_async.journal.report", "calls_async.testing")
MODULES += ("calls_async.engines.dask", "calls_async.engines.redis", "calls_async.telemetry")
OTHERWISE = {"__version__"}
"""Public, and nothing that a page could say more of than its name does."""

DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)(?:\(.*\))?\n((?:   :.*\n)*)", re.MULTILINE)


def found(path):
    """The object that a directive names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def documented():
    """The names that the directives of the reference document, each with its object."""
    for page in PAGES.values():
        for kind, path, options in DIRECTIVE.findall(page):
            if kind != "module":
                yield path.rpartition(".")[2], found(path)
                continue
            module = importlib.import_module(path)
            (members,) = re.findall(r":members:(.*)", options)
            left_out = re.findall(r":exclude-members: (.*)", options)
            names = re.split(r", ?", members.strip()) if members.strip() else module.__all__
            for name in set(names) - set(*left_out):
                yield name, getattr(module, name)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module):
    """What `__all__` names has its entry, as the same object."""
    entries = list(documented())
    imported = importlib.import_module(module)
    missing = {
        name
        for name in set(imported.__all__) - OTHERWISE
        if not any(name == entry and getattr(imported, name) is thing for entry, thing in entries)
    }
    assert missing == set()


def test_no_entry_is_twice():
    """Each name has one place, so that a reference to it leads there."""
    names = [name for name, _ in documented()]
    assert sorted(names) == sorted(set(names))


ERRORS = [
    error
    for error in vars(calls_async).values()
    if inspect.isclass(error) and issubclass(error, CallsError)
]


def rows(page, of):
    """The rows of the tables of a page whose first cell names something of a kind."""
    return {
        cells[0].split("`")[1]: cells[1:]
        for line in PAGES[page].splitlines()
        if re.match(of, line)
        for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
    }


def test_every_error_has_its_cause_and_remedy():
    """The table has each error, with what its docstring and its `remedy` say."""
    told = rows("errors.md", r"\| \[?`\w+Error`")
    assert told == {
        error.__name__: [error.__doc__.split("\n\n")[0].replace("\n    ", " "), error.remedy]
        for error in ERRORS
    }


def test_every_variable_is_in_the_reference():
    """The page of the environment has each variable that the package reads, and no other."""
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("calls_async/**/*.py"))
    read = set(re.findall(r'"(CALLS_[A-Z_]+)"', sources))
    assert read >= {"CALLS_API_KEY", "CALLS_BASE_URL", "CALLS_SHARED_PACE_URL"}
    assert set(re.findall(r"^`(CALLS_\w+)`$", PAGES["environment.md"], re.MULTILINE)) == read
