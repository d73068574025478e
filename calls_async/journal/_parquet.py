"""The only door to pyarrow; the rule: a Parquet file has the types of the contract.

The schema is derived from `models`, so it changes when the contract does and never with the data:
times are timestamps of microseconds in UTC, nested objects are structs, all names are those of the
wire. An object without members is null. Members that the page does not name are in the column
`extra`, as one JSON object with each of them in its place.
"""

from __future__ import annotations

import json
from datetime import datetime
from importlib import import_module
from io import BytesIO
from itertools import islice
from types import NoneType
from typing import IO, TYPE_CHECKING, Any, Final, get_args, get_type_hints

import attrs

from calls_async import Call
from calls_async.errors import ConfigurationError, OutputError, SourceError
from calls_async.models import wire_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from calls_async.journal._records import FailureRecord

ROW_GROUP: Final = 32_768
"""Rows. Readers skip and share out work by row groups; the writer holds one in memory."""

_BATCH: Final = 2_048
"""Rows that are Python objects at one time; in Arrow's form they take a fraction of that."""

_BUFFER: Final = 1024 * 1024
"""Bytes of a column that are read at one time, however large its row groups are."""

_EXTRA: Final = "extra"


def _pyarrow() -> tuple[Any, Any]:
    """The two modules, as `Any`: pyarrow has no types of its own in all versions that we allow."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as exc:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'calls_async[parquet]'"
        ) from exc


def check_installed() -> None:
    """Make sure that pyarrow is there.

    Raises:
        ConfigurationError: It is not.
    """
    _pyarrow()


# --- Reading -------------------------------------------------------------------------------------


def texts(file: IO[bytes], column: str, *, name: str) -> Iterator[str | None]:
    """The values of a column of text.

    Args:
        file: The Parquet file.
        column: The name of a column on the top level.
        name: What messages call the file.

    Raises:
        ConfigurationError: pyarrow is not installed.
        SourceError: It is no Parquet file, or has no such column of text.
    """
    pa, parquet = _pyarrow()
    try:
        # Not `pre_buffer`: it would read the column of a whole row group at once.
        source = parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        _check(pa, source.schema_arrow, column, name)
        for batch in source.iter_batches(_BATCH, columns=[column]):
            yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        told = str(exc).partition("\n")[0].rstrip(".")
        raise SourceError(f"{name}: no valid Parquet: {told}", source=name) from exc


def _check(pa: Any, schema: Any, column: str, name: str) -> None:
    if schema.names.count(column) != 1:
        told = "two columns" if column in schema.names else "no column"
        listed = ", ".join(schema.names)[:200]
        raise SourceError(f"{name}: {told} {column!r}; there are {listed}", source=name)
    kind = schema.field(column).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain)):
        raise SourceError(f"{name}: column {column!r} is {kind}, not text", source=name)


# --- Writing -------------------------------------------------------------------------------------


def write(calls: Iterable[Call], file: IO[bytes]) -> None:
    """Write a Parquet file, compressed with Zstandard.

    The same calls and the same version of pyarrow give the same bytes.

    Raises:
        ConfigurationError: pyarrow is not installed.
        OutputError: `extra` of a call is nested too deeply to be written.
        OSError: The file cannot be written.
    """
    pa, parquet = _pyarrow()
    schema = _schema(pa)
    rows = map(row_of, calls)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while batches := list(islice(_batches(pa, rows, schema), ROW_GROUP // _BATCH)):
            writer.write_table(pa.Table.from_batches(batches), ROW_GROUP)


def _batches(pa: Any, rows: Iterator[dict[str, Any]], schema: Any) -> Iterator[Any]:
    while batch := list(islice(rows, _BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema=schema)


def _schema(pa: Any) -> Any:
    return pa.schema([*_fields(pa, Call), pa.field(_EXTRA, pa.string())])


def _fields(pa: Any, cls: type[attrs.AttrsInstance]) -> list[Any]:
    kinds = get_type_hints(cls)
    return [
        pa.field(member, _type(pa, kinds[name]), nullable=_is_nullable(kinds[name]))
        for name, member in wire_names(cls).items()
    ]


def _is_nullable(kind: Any) -> bool:
    return attrs.has(kind) or NoneType in get_args(kind)


def _type(pa: Any, kind: Any) -> Any:
    if attrs.has(kind):
        return pa.struct(_fields(pa, kind))
    types = {kind, *get_args(kind)}
    if datetime in types:
        return pa.timestamp("us", tz="UTC")
    return pa.bool_() if bool in types else pa.string()


# --- Tables, for who writes many files -----------------------------------------------------------


def calls_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows of `row_of` as a table of Arrow's, with the schema of every file of calls.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    pa, _ = _pyarrow()
    return pa.Table.from_pylist(rows, schema=_schema(pa))


def failures_table(failures: Iterable[FailureRecord]) -> Any:
    """Failures as a table; its columns are the members that `failure_members` has, with types.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    pa, _ = _pyarrow()
    rows = [
        {
            "id": failure.id,
            "error": failure.error,
            "message": failure.message,
            "retryable": failure.retryable,
            "stoppedBy": failure.stopped_by,
            "attempts": failure.attempts,
            "status": failure.status,
            "requestId": failure.request_id,
            "elapsed": failure.elapsed,
            "at": failure.at,
        }
        for failure in failures
    ]
    schema = pa.schema([
        pa.field("id", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),
        pa.field("stoppedBy", pa.string()),
        pa.field("attempts", pa.int64(), nullable=False),
        pa.field("status", pa.int64()),
        pa.field("requestId", pa.string()),
        pa.field("elapsed", pa.float64(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    ])  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


def joined(tables: Sequence[Any], order: Sequence[int] | None = None) -> Any:
    """Tables of one schema as one; these rows of it, in this order, if they are given."""
    pa, _ = _pyarrow()
    table = pa.concat_tables(tables)
    # Without a type, an empty list would be one of nulls, which are no rows.
    return table if order is None else table.take(pa.array(order, pa.int64()))


def file_of(table: Any) -> bytes:
    """A table as the content of a Parquet file, compressed with Zstandard."""
    _, parquet = _pyarrow()
    file = BytesIO()
    parquet.write_table(table, file, ROW_GROUP, compression="zstd")
    return file.getvalue()


def table_of(content: bytes, columns: Sequence[str] | None = None) -> Any:
    """The table in a Parquet file's content, or some of its columns.

    Raises:
        ValueError: It is no such file.
    """
    pa, parquet = _pyarrow()
    try:
        return parquet.ParquetFile(BytesIO(content)).read(columns)
    except (pa.ArrowException, OSError) as exc:
        raise ValueError(str(exc).partition("\n")[0]) from exc


def rows_in(content: bytes) -> int:
    """How many rows a Parquet file's content has.

    Raises:
        ValueError: It is no such file.
    """
    pa, parquet = _pyarrow()
    try:
        return int(parquet.ParquetFile(BytesIO(content)).metadata.num_rows)
    except (pa.ArrowException, OSError) as exc:
        raise ValueError(str(exc).partition("\n")[0]) from exc


# --- Rows ----------------------------------------------------------------------------------------

_NAMES: Final = tuple(wire_names(Call).items())
_NESTED: Final = {
    member: tuple(wire_names(kind).items())
    for name, member in _NAMES
    if attrs.has(kind := get_type_hints(Call)[name])
}


def row_of(call: Call) -> dict[str, Any]:
    """A call, by the names of its columns.

    Raises:
        OutputError: `extra` of the call is nested too deeply to be written.
    """
    row = {member: getattr(call, name) for name, member in _NAMES}
    extra = dict(call.extra) if call.extra else {}
    for member, names in _NESTED.items():
        nested = row[member]
        values = {inner: getattr(nested, name) for name, inner in names}
        row[member] = values if any(value is not None for value in values.values()) else None
        if nested.extra:
            extra[member] = dict(nested.extra)
    if extra:
        row[_EXTRA] = _as_json(extra, call.id)
    return row


def _as_json(extra: dict[str, Any], call_id: str) -> str:
    try:
        return json.dumps(extra, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as exc:  # about a thousand levels, on Python 3.11
        raise OutputError(
            "a record is nested too deeply for Parquet; JSON lines have it as it is",
            call_id=call_id,
            output="Parquet",
        ) from exc
