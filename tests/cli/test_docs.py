"""The reference page is true: options, columns and exit codes are those of the program."""

from __future__ import annotations

import re

import click
import pytest

from calls_async.cli._app import app
from calls_async.cli._exits import Exit
from calls_async.journal.render import COLUMNS
from tests.cli.conftest import ROOT

PAGE = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
SECTIONS = {
    section.split("`")[1]: section
    for section in re.split(r"^## (?=`)", PAGE, flags=re.MULTILINE)[1:]
}


def section(command):
    """The part of the page that is about one command."""
    return next(text for title, text in SECTIONS.items() if title.split()[1:2] == command)


@pytest.mark.parametrize(
    ("name", "command"), [([], app), *(([n], c) for n, c in app.commands.items())]
)
def test_every_option_is_documented_and_no_other(name, command):
    """Each command's table has exactly its options, by the names that `--help` has."""
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section(name), flags=re.MULTILINE))
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert documented == {option.opts[0] for option in options}


def test_the_columns_are_documented():
    """The page lists the columns of a CSV file, in their order."""
    assert tuple(re.search(r"```text\n(.*?)\n```", PAGE, re.DOTALL)[1].splitlines()) == COLUMNS


@pytest.mark.parametrize("page", ["command-line.md", "exit-codes.md"])
def test_the_exit_codes_are_documented(page):
    """Both pages list every code, and no other."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)] == [*Exit]
