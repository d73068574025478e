"""CSV; the rule: it is for spreadsheets, so no cell of it is a formula.

A row has one cell for each documented member (`contact.firstName`), empty where the member is null
or missing, and times in the codec's normal form.

A spreadsheet takes a cell that begins like a formula for one, and anybody may write notes or names.
So such a cell gets an apostrophe before it, as OWASP advises ("CSV Injection"). A sign that only
digits and their separators follow computes nothing: phone numbers stay as they are.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, Final, cast, get_type_hints

import attrs

from calls_async import Call, unstructure_call
from calls_async.journal._jsonl import FAILURE_COLUMNS, failure_members
from calls_async.models import wire_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calls_async.journal._records import FailureRecord


# --- Members -------------------------------------------------------------------------------------


def _columns() -> Iterator[str]:
    kinds = get_type_hints(Call)
    for name, member in wire_names(Call).items():
        if attrs.has(kinds[name]):
            yield from (f"{member}.{inner}" for inner in wire_names(kinds[name]).values())
        else:
            yield member


COLUMNS: Final = tuple(_columns())
"""The documented members, in the page's order; those of an object with its name before a dot."""


def members(call: Call) -> dict[str, Any]:
    """The members that the record has, by their columns; members of nested objects on one level."""
    flat: dict[str, Any] = {}
    for name, value in unstructure_call(call).items():
        if isinstance(value, dict) and value:
            nested = cast("dict[str, Any]", value)
            flat |= {f"{name}.{inner}": nested[inner] for inner in nested}
        else:
            flat[name] = value
    return flat


# --- Cells ---------------------------------------------------------------------------------------

_FORMULA: Final = re.compile(
    # The last four are the first four in the full width of East Asian writing.
    "(?![+-][0-9 ().-]*\\Z)[=+@\t\r\n\uff1d\uff0b\uff20\uff0d-]"
)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    return f"'{value}" if _FORMULA.match(value) else value


class _Line:
    """A file for the csv module, which hands what it writes back."""

    def write(self, text: str) -> bytes:
        # A failed id may hold what UTF-8 cannot: shown as `\ud800`, as JSON does.
        return text.encode(errors="backslashreplace")


_csv: Final[Any] = csv.writer(_Line())  # RFC 4180: commas, quotes where needed, CRLF


def _row(cells: Iterable[Any]) -> bytes:
    row: bytes = _csv.writerow([_cell(cell) for cell in cells])
    return row


HEAD: Final = _row(COLUMNS)
"""The first line of a file of records."""

FAILURE_HEAD: Final = _row(FAILURE_COLUMNS)
"""The first line of a list of failures."""


def call_row(call: Call) -> bytes:
    """A record as a row."""
    return _row(map(members(call).get, COLUMNS))


def failure_row(failure: FailureRecord) -> bytes:
    """A failure as a row."""
    return _row(failure_members(failure).values())
