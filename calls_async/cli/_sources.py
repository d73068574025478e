"""Where the ids come from; the rule: the file's name says what it is, unless `--from` does.

Only the reading off the event loop is done here: how ids are read is the journal's `sources`.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import click

from calls_async.cli._exits import CommandError, Exit
from calls_async.journal.sources import (
    CsvColumn,
    JsonlField,
    ParquetColumn,
    SqliteQuery,
    TextFile,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from calls_async.journal.sources import Source

KINDS: Final = ("text", "csv", "jsonl", "parquet", "sqlite")

_BY_SUFFIX: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
_COLUMNS: Final[dict[str, Callable[[str, str], Source]]] = {
    "csv": CsvColumn,
    "jsonl": JsonlField,
    "parquet": ParquetColumn,
}

_AHEAD: Final = 10_000
"""Ids that are read ahead of who takes them."""


def source_of(name: str, kind: str | None, *, column: str | None, query: str | None) -> Source:
    """The ids that the arguments mean.

    Args:
        name: A file, or `-` for standard input.
        kind: One of `KINDS`; `None`: as the name says.
        column: Which column or member has the ids.
        query: Which query gives the ids.

    Raises:
        UsageError: Something is missing, or means nothing here.
    """
    kind = kind or _BY_SUFFIX.get(PurePath(name).suffix.lower(), "text")
    if query is not None and kind != "sqlite":
        raise click.UsageError(f"--query is for SQLite files: for {name}, add --from sqlite.")
    if kind == "sqlite":
        if query is None:
            raise click.UsageError(f"{name} is an SQLite file: give its ids with --query SELECT.")
        if column is not None:
            raise click.UsageError("--column and --query do not go together.")
        return SqliteQuery(name, query)
    if kind == "text":
        if column is not None:
            raise click.UsageError(f"--column: say what {name} is, with --from csv, for example.")
        return TextFile(name)
    if column is None:
        raise click.UsageError(
            f"{name} has columns: say which one has the ids with --column NAME "
            "(or --from text if each line is an id)."
        )
    return _COLUMNS[kind](name, column)


def begun(source: Source) -> Iterator[str]:
    """The ids, the first of which is read: so that what is wrong with the file shows at once.

    Raises:
        CommandError: There is no id.
        SourceError: It cannot be read.
    """
    ids = iter(source)
    first = next(ids, None)
    if first is None:
        hint = ": put one on each line" if isinstance(source, TextFile) else ""
        raise CommandError(f"{source.name} has no ids{hint}", Exit.USAGE)
    return chain([first], ids)


class ReadAhead:
    """Ids, read in a thread of their own: a file or a pipe that is slow holds up no request.

    Args:
        ids: The ids. They are iterated once.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = ids
        self._ready: list[str] = []
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._ended = False
        self._left = False
        self._error: Exception | None = None
        self.reading = False
        """Whether it has begun and more may come."""

    async def __aiter__(self) -> AsyncIterator[str]:
        self._loop = asyncio.get_running_loop()
        self.reading = True
        # A daemon: nothing can wake a thread that waits for a pipe, and the process has to end.
        threading.Thread(target=self._read, name="calls-async-ids", daemon=True).start()
        try:
            while True:
                self._news.clear()
                taken, ended = self._take()
                for call_id in taken:
                    yield call_id
                if ended:
                    break
                if not taken:
                    await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.reading = False
            with self._changed:
                self._left = True
                self._changed.notify()

    def _take(self) -> tuple[list[str], bool]:
        with self._changed:
            taken, self._ready = self._ready, []
            self._changed.notify()
            return taken, self._ended

    def _read(self) -> None:
        try:
            for call_id in self._ids:
                with self._changed:
                    self._changed.wait_for(lambda: self._left or len(self._ready) < _AHEAD)
                    if self._left:
                        return
                    self._ready.append(call_id)
                    is_first = len(self._ready) == 1
                if is_first:
                    self._tell()
        except Exception as exc:  # noqa: BLE001 (it is raised where the ids are taken)
            self._error = exc
        with self._changed:
            self._ended = True
        self._tell()

    def _tell(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._news.set)
