"""The files that a command writes; the rule: one that cannot be written is found before the work.

They are written at the end, whole, by the journal's `render`. A file that exists is replaced with
`--force`, or if it was made from this very journal before. The names tell: `calls.jsonl` is made
from `calls.jsonl.journal`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

import attrs
import click

from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._words import count
from calls_async.journal.render import render, render_failures

if TYPE_CHECKING:
    from calls_async.cli._talk import Talk
    from calls_async.journal import Journal

JOURNAL_SUFFIX: Final = ".journal"
_RECORDS: Final = (".jsonl", ".csv", ".parquet")
_FAILURES: Final = (".jsonl", ".csv")


@attrs.frozen(kw_only=True)
class Files:
    """What is made from a journal.

    Attributes:
        out: Where the records go; `None`: nowhere.
        errors: Where the failures go; `None`: nowhere.
        replace: Whether files of these names may be replaced.
    """

    out: str | None
    errors: str | None
    replace: bool

    def check(self) -> None:
        """Make sure that they can be written, as far as that can be known.

        Raises:
            CommandError: One cannot.
            UsageError: Both are the same.
        """
        if self.out is not None and self.errors is not None and _same(self.out, self.errors):
            raise click.UsageError("--errors and --out must be two files.")
        for option, name, suffixes in (
            ("--out", self.out, _RECORDS),
            ("--errors", self.errors, _FAILURES),
        ):
            if name is not None:
                _check_format(option, name, suffixes)
                check_place(name, replace=self.replace)

    def write(self, journal: Journal, talk: Talk) -> None:
        """Make them from what is in the journal, and say so.

        Raises:
            OutputError: One cannot be written; the journal has everything nevertheless.
        """
        if self.out is not None:
            number = render(journal.fetched(), self.out, overwrite=self.replace)
            talk.tell(
                "file", f"{count(number, 'record')}: {self.out}", file=self.out, records=number
            )
        if self.errors is not None:
            number = render_failures(journal.failed(), self.errors, overwrite=self.replace)
            talk.tell(
                "file",
                f"{count(number, 'failed id')}: {self.errors}",
                file=self.errors,
                failures=number,
            )


def journal_of(out: str) -> str:
    """Where the journal of a job is that makes this file, unless it is said."""
    return f"{out}{JOURNAL_SUFFIX}"


def is_own(out: str | None, journal: str) -> bool:
    """Whether a file of that name was made from this journal, if both are there."""
    return out is not None and Path(journal).exists() and _same(journal_of(out), journal)


def check_place(name: str, *, replace: bool) -> None:
    """Make sure that a file can be written there, as far as that can be known.

    Raises:
        CommandError: It cannot.
    """
    try:
        path = Path(name).resolve()
        problem = _problem(path, name, replace=replace)
    except OSError as exc:  # a name that is too long, for example
        problem = f"cannot write {name}: {exc.strerror}"
    if problem is not None:
        raise CommandError(problem, Exit.USAGE)


def _problem(path: Path, name: str, *, replace: bool) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}: make it, or choose another"
    if not os.access(path.parent, os.W_OK):
        return f"cannot write {name}: no right to write to {path.parent}; choose another folder"
    if not path.exists():
        return None
    if not path.is_file():
        return f"{name} is no regular file: choose another name"
    return (
        None
        if replace
        else (f"{name} exists already: choose another name, or --force to replace it")
    )


def _check_format(option: str, name: str, suffixes: tuple[str, ...]) -> None:
    suffix = PurePath(name).suffix.lower()
    if suffix not in suffixes:
        *others, last = suffixes
        raise CommandError(
            f"{option} {name}: the name must end in {', '.join(others)} or {last}", Exit.USAGE
        )
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise CommandError(
            f"{option} {name}: Parquet needs pyarrow: pip install 'calls_async[parquet]'",
            Exit.CONFIGURATION,
        )


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
