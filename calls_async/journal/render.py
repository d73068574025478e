"""A journal as files; the rule: the same journal gives the same file, whole or not at all.

The name of a file chooses its format:

- `.jsonl`: each record as the server sent it, one on each line. Nothing is added or normalised.
- `.csv`: for spreadsheets. A column for each documented member, and no cell is a formula.
- `.parquet`: typed, for data frames and databases. It needs the extra `parquet`.

Records stream through; memory does not grow with their number.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from calls_async import _codec
from calls_async.errors import ConfigurationError
from calls_async.journal import _csv, _jsonl, _parquet
from calls_async.journal._csv import COLUMNS
from calls_async.journal._jsonl import FAILURE_COLUMNS
from calls_async.journal._wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from typing import TypeAlias

    from calls_async import Call
    from calls_async.journal._records import FailureRecord, FetchedRecord

__all__ = ["COLUMNS", "FAILURE_COLUMNS", "render", "render_failures"]

T = TypeVar("T")

if TYPE_CHECKING:
    Writer: TypeAlias = Callable[[Iterable[T], IO[bytes]], None]


def render(
    records: Iterable[FetchedRecord], out: str | PathLike[str], *, overwrite: bool = False
) -> int:
    """Write records to a file, such as all that `Journal.fetched` gives.

    Args:
        records: The records, in the order of the file.
        out: The file. Its name ends in `.jsonl`, `.csv` or `.parquet`.
        overwrite: Whether a file of that name is replaced.

    Returns:
        How many records were written.

    Raises:
        ConfigurationError: The name tells no format, or pyarrow is not installed.
        OutputError: The file is there already, or cannot be written.
        DecodeError: A record breaks the contract of this version: the journal is of another one.
            JSON lines can be written nevertheless.
    """
    return _render(_RECORDS, records, out, overwrite=overwrite)


def render_failures(
    failures: Iterable[FailureRecord], out: str | PathLike[str], *, overwrite: bool = False
) -> int:
    """Write failures to a file, such as all that `Journal.failed` gives.

    Args:
        failures: The failures, in the order of the file.
        out: The file. Its name ends in `.jsonl` or `.csv`.
        overwrite: Whether a file of that name is replaced.

    Returns:
        How many failures were written. The file is also there if it is none.

    Raises:
        ConfigurationError: The name tells no format.
        OutputError: The file is there already, or cannot be written.
    """
    return _render(_FAILURES, failures, out, overwrite=overwrite)


def _render(
    writers: Mapping[str, Writer[T]],
    items: Iterable[T],
    out: str | PathLike[str],
    *,
    overwrite: bool,
) -> int:
    write = writers.get(PurePath(out).suffix.lower())
    if write is None:
        *others, last = writers
        raise ConfigurationError(f"{out}: the name must end in {', '.join(others)} or {last}")
    counted = _Counted(iter(items))
    with whole_file(out, overwrite=overwrite) as file:
        write(counted, file)
    return counted.number


@attrs.define
class _Counted(Generic[T]):
    """An iterator that knows how many items were taken from it."""

    items: Iterator[T]
    number: int = 0

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = next(self.items)
        self.number += 1
        return item


# --- Writers -------------------------------------------------------------------------------------


def _lines(line: Callable[[T], bytes], head: bytes = b"") -> Writer[T]:
    def write(items: Iterable[T], file: IO[bytes]) -> None:
        file.write(head)
        file.writelines(map(line, items))

    return write


def _call(record: FetchedRecord) -> Call:
    return _codec.decode_call(record.raw)


def _write_parquet(records: Iterable[FetchedRecord], file: IO[bytes]) -> None:
    _parquet.write(map(_call, records), file)


_RECORDS: Final[Mapping[str, Writer[FetchedRecord]]] = {
    ".jsonl": _lines(lambda record: _jsonl.document_line(record.raw)),
    ".csv": _lines(lambda record: _csv.call_row(_call(record)), _csv.HEAD),
    ".parquet": _write_parquet,
}
_FAILURES: Final[Mapping[str, Writer[FailureRecord]]] = {
    ".jsonl": _lines(_jsonl.failure_line),
    ".csv": _lines(_csv.failure_row, _csv.FAILURE_HEAD),
}
