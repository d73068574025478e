"""Where ids come from; the rule: an id is text that stands there, and whatever else is refused.

Each source is an iterable of ids that reads anew each time and holds one piece of its file, however
long that is. Ids come in the order of the file, repeated ones included: a journal knows an id that
it has. What is empty (a blank line, an empty cell, null, an empty text) is no id and is skipped.
Whatever is no text, such as a number, is refused and not converted: `1` may have been `"01"`, and
`123456789012345678` may have been read as a float by whoever wrote the file.

The digest of a source tells whether it would give the same ids again, without giving them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
import sys
from codecs import BOM_UTF8
from contextlib import closing, contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import attrs

from calls_async.errors import ConfigurationError, SourceError
from calls_async.journal import _parquet
from calls_async.journal._place import as_path

if TYPE_CHECKING:
    from _csv import Reader
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from os import PathLike
    from pathlib import Path

__all__ = [
    "STANDARD_INPUT",
    "CsvColumn",
    "JsonlField",
    "ParquetColumn",
    "Source",
    "SqliteQuery",
    "TextFile",
]

STANDARD_INPUT: Final = "-"
"""The path that means standard input, which can be read once and has no digest."""

_LONGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes. A file without line ends is no list of ids, and is not to be read into memory whole."""

_PIECE: Final = 256 * 1024
"""Bytes of a file that its digest takes at one time."""

_BLANKS: Final = " \t\r\n"


class Source(Protocol):
    """Something that gives ids and can tell whether it has changed."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def __iter__(self) -> Iterator[str]:
        """The ids, from the first on.

        Raises:
            SourceError: It cannot be read, or something in it is no id.
        """
        ...

    def digest(self) -> str | None:
        """Changes whenever the ids do; `None` where that cannot be known.

        Raises:
            SourceError: It cannot be read.
        """
        ...


# --- Files ---------------------------------------------------------------------------------------


def _as_path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None or path == STANDARD_INPUT else as_path(path)


@attrs.frozen
class _File:
    """A file, or standard input.

    Attributes:
        path: Where it is; `None` is standard input.
    """

    path: Path | None = attrs.field(converter=_as_path)

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.path is None else str(self.path)

    @contextmanager
    def _opened(self) -> Generator[IO[bytes]]:
        try:
            if self.path is None:
                yield sys.stdin.buffer
            else:
                with self.path.open("rb") as file:
                    yield file
        except OSError as exc:
            raise SourceError(f"cannot read {self.name}: {exc.strerror}", source=self.name) from exc

    def _lines(self) -> Iterator[str]:
        # Bytes end lines at "\n" alone. `str.splitlines` also does at characters that ids may have.
        with self._opened() as file:
            lines = iter(partial(file.readline, _LONGEST_LINE), b"")
            for number, line in enumerate(lines, 1):
                if len(line) == _LONGEST_LINE:
                    raise self._wrong(number, "too long to be one; is it the right file?")
                try:
                    yield (line.removeprefix(BOM_UTF8) if number == 1 else line).decode()
                except UnicodeDecodeError as exc:
                    raise self._wrong(number, "not UTF-8; save the file as UTF-8") from exc

    def _wrong(self, line: int, problem: str) -> SourceError:
        return SourceError(f"{self.name}, line {line}: {problem}", source=self.name, line=line)

    def digest(self) -> str | None:
        """SHA-256 of the file's bytes and of what is read from it; `None` for standard input.

        Raises:
            SourceError: The file cannot be read.
        """
        if self.path is None:
            return None
        digest = hashlib.sha256(_identity(self))
        with self._opened() as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()


def _refuse_other_than_text(option: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{option} must be a str, not {type(value).__name__}")


def _identity(source: Any) -> bytes:
    """What is read, apart from the file's name: another column of the same file is another list."""
    options = attrs.asdict(source, filter=lambda field, _: field.name != "path")
    return json.dumps([type(source).__name__, options]).encode()


@attrs.frozen
class TextFile(_File):
    """A text file with one id on each line, in UTF-8.

    White space around an id (a Windows line end is some) and a byte order mark are no part of it.

    Attributes:
        path: The file; `STANDARD_INPUT` or `None` for standard input.
    """

    def __iter__(self) -> Iterator[str]:
        for line in self._lines():
            if call_id := line.strip(_BLANKS):
                yield call_id


# --- CSV -----------------------------------------------------------------------------------------

_DELIMITERS: Final = (",", ";", "\t", "|")


@attrs.frozen
class CsvColumn(_File):
    """One column of a CSV file (RFC 4180, in UTF-8). White space around an id is no part of it.

    The delimiter, if it is not given, is the one of comma, semicolon, tab and bar at which the
    header has the column. Nothing is guessed from the rows. Every row must have as many cells as
    the first: where one has not, a quote or the delimiter is wrong, and so may be the column.

    Attributes:
        path: The file; `STANDARD_INPUT` or `None` for standard input.
        column: The header of the column, or its position from 0.
        header: Whether the first row has names; if not, the column is a position.
        delimiter: The character between cells; `None` to find it, which for a position is a comma.

    Raises:
        ConfigurationError: A column is named where there is no header, the position is negative, or
            the delimiter is no single character.
    """

    column: str | int
    header: bool = attrs.field(default=True, kw_only=True)
    delimiter: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.column, int):
            _refuse_other_than_text("column", self.column)
        if isinstance(self.column, str) and not self.header:
            raise ConfigurationError(
                f"without a header there is no column {self.column!r}: give its position, from 0"
            )
        if isinstance(self.column, int) and self.column < 0:
            raise ConfigurationError("the position of a column counts from 0")
        if self.delimiter is not None:
            _refuse_other_than_text("delimiter", self.delimiter)
            if len(self.delimiter) != 1 or self.delimiter in ' "\r\n':
                raise ConfigurationError("the delimiter must be one character, such as ';'")

    def __iter__(self) -> Iterator[str]:
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            return
        try:
            delimiter = self._delimiter(first)
        except csv.Error as exc:  # a first line that is no header, and longer than any cell may be
            raise self._wrong(1, f"no valid CSV: {exc}") from exc
        reader = csv.reader(_chained(first, lines), delimiter=delimiter, strict=True)
        try:
            yield from self._ids(reader)
        except csv.Error as exc:
            raise self._wrong(reader.line_num, f"no valid CSV: {exc}") from exc

    def _delimiter(self, first: str) -> str:
        if self.delimiter is not None:
            return self.delimiter
        for delimiter in _DELIMITERS:
            if self.column in _names(next(csv.reader([first], delimiter=delimiter))):
                return delimiter
        return _DELIMITERS[0]

    def _ids(self, rows: Reader) -> Iterator[str]:
        first = next((row for row in rows if row), list[str]())
        position = self._position(first)
        if not self.header:
            yield from self._cell(first, position)
        for row in rows:
            if len(row) == len(first):
                yield from self._cell(row, position)
            elif row:  # a blank line is no row
                raise self._wrong(
                    rows.line_num, f"{len(row)} cells where the first row has {len(first)}"
                )

    def _position(self, first: Sequence[str]) -> int:
        if isinstance(self.column, int):
            if self.column >= len(first):
                raise self._wrong(1, f"no column {self.column}: there are {len(first)}, from 0")
            return self.column
        names = _names(first)
        if names.count(self.column) != 1:
            told = "two columns" if self.column in names else "no column"
            raise self._wrong(1, f"{told} {self.column!r}; the header is {', '.join(names)[:200]}")
        return names.index(self.column)

    def _cell(self, row: Sequence[str], position: int) -> Iterator[str]:
        if call_id := row[position].strip(_BLANKS):
            yield call_id


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _names(header: Iterable[str]) -> list[str]:
    return [name.strip(_BLANKS) for name in header]


# --- JSON lines ----------------------------------------------------------------------------------


@attrs.frozen
class JsonlField(_File):
    """One member of each line of a JSON lines file. Blank lines are skipped.

    Attributes:
        path: The file; `STANDARD_INPUT` or `None` for standard input.
        field: The member's name, with dots between the names of nested objects: `call.id`.
    """

    field: str

    def __attrs_post_init__(self) -> None:
        _refuse_other_than_text("field", self.field)

    def __iter__(self) -> Iterator[str]:
        names = self.field.split(".")
        for number, line in enumerate(self._lines(), 1):
            if line.strip(_BLANKS) and (call_id := self._id(number, line, names)):
                yield call_id

    def _id(self, number: int, line: str, names: Sequence[str]) -> str | None:
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise self._wrong(number, "no JSON; one document stands on each line") from exc
        for name in names:
            if value is None:
                return None
            try:
                value = value[name]
            except (KeyError, TypeError) as exc:
                raise self._wrong(number, f"there is no {self.field}") from exc
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(number, f"{self.field} is {_KINDS[type(value)]}, not text")


_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "an array",
    bytes: "a blob",
}
"""What JSON and SQLite have beside text and null."""


# --- Parquet -------------------------------------------------------------------------------------


@attrs.frozen
class ParquetColumn(_File):
    """One column of text of a Parquet file; it needs the extra `parquet`.

    Attributes:
        path: The file. Standard input is refused, because the end of the file is read first.
        column: The column's name; it stands on the top level.

    Raises:
        ConfigurationError: The path is standard input.
    """

    column: str

    def __attrs_post_init__(self) -> None:
        _refuse_other_than_text("column", self.column)
        _refuse_standard_input(self)

    def __iter__(self) -> Iterator[str]:
        with self._opened() as file:
            for call_id in _parquet.texts(file, self.column, name=self.name):
                if call_id:
                    yield call_id


# --- SQLite --------------------------------------------------------------------------------------


@attrs.frozen
class SqliteQuery(_File):
    """The first column of what a query over a SQLite file gives. The file is only read.

    While its ids are taken, the query sees the file as it was when it began.

    Attributes:
        path: The file. Standard input is refused.
        query: One SELECT.

    Raises:
        ConfigurationError: The path is standard input.
    """

    query: str

    def __attrs_post_init__(self) -> None:
        _refuse_other_than_text("query", self.query)
        _refuse_standard_input(self)

    def __iter__(self) -> Iterator[str]:
        with self._opened():  # the system says more clearly than SQLite why it cannot be read
            pass
        try:
            with closing(self._connected()) as connection:
                yield from self._ids(connection.execute(self.query))
        except (sqlite3.Error, sqlite3.Warning) as exc:
            raise SourceError(f"cannot query {self.name}: {exc}", source=self.name) from exc

    def _connected(self) -> sqlite3.Connection:
        assert self.path is not None  # noqa: S101 (for type checkers; it was refused)
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        # Who takes the ids may do so in several threads, one after the other.
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        # "mode=ro" speaks of this file alone: ATTACH and VACUUM INTO could still make others.
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        # The file may be a stranger's: its views may not call what could touch anything else.
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection

    def _ids(self, rows: sqlite3.Cursor) -> Iterator[str]:
        if rows.description is None:
            raise SourceError(
                f"cannot query {self.name}: the query gives no rows; it must be a SELECT",
                source=self.name,
            )
        for number, (value, *_) in enumerate(rows, 1):
            if isinstance(value, str):
                if value:
                    yield value
            elif value is not None:
                told = f"{rows.description[0][0]} is {_KINDS[type(value)]}, not text"
                raise SourceError(
                    f"{self.name}, row {number} of the query: {told}",
                    source=self.name,
                    line=number,
                )

    def digest(self) -> str:
        """SHA-256 of the ids that the query gives.

        The file's bytes would not do: a query may ask for today's calls, and a change may still be
        in the file's write-ahead log.

        Raises:
            SourceError: The file cannot be queried.
        """
        digest = hashlib.sha256()
        for call_id in self:
            # With its length before it, so that no two lists of ids look the same.
            text = call_id.encode(errors="surrogatepass")
            digest.update(b"%d:%b" % (len(text), text))
        return digest.hexdigest()


def _refuse_standard_input(source: ParquetColumn | SqliteQuery) -> None:
    if source.path is None:
        raise ConfigurationError(f"a {type(source).__name__} is read from a file, not from a pipe")
