"""Records as lines of a file; the rule: JSONL is for programs and exact, CSV is for spreadsheets.

A line of JSONL is the document that the server sent. A row of CSV has one cell for each documented
member (`contact.firstName`), empty where the member is null or missing, and times in the codec's
normal form.

A spreadsheet takes a cell that begins like a formula for one, and anybody may write notes or names.
So such a cell gets an apostrophe before it, as OWASP advises ("CSV Injection"). A sign that only
digits and their separators follow computes nothing: phone numbers stay as they are.
"""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, cast, get_type_hints

import attrs

from calls_async import Call, StatusError, unstructure_call
from calls_async.cli._exits import CommandError, Exit
from calls_async.models import wire_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calls_async import CallsError, Fetched


@attrs.frozen(kw_only=True)
class Format:
    """How records become lines.

    Attributes:
        head: The line before all others; empty if there is none.
        line: A record as a line.
    """

    head: bytes = b""
    line: Callable[[Fetched], bytes]


def format_of(name: str) -> Format:
    """The format that a file's name asks for.

    Raises:
        CommandError: It asks for none.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in _FORMATS:
        raise CommandError(f"--out {name}: the name must end in .jsonl or .csv", Exit.USAGE)
    return _FORMATS[suffix]


# --- JSONL ---------------------------------------------------------------------------------------

_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


def _document(fetched: Fetched) -> bytes:
    # In valid JSON a raw line end only stands between tokens, where a space means the same.
    return fetched.raw.removeprefix(BOM_UTF8).translate(_LINE_ENDS).strip() + b"\n"


def error_line(call_id: str, error: CallsError | None) -> bytes:
    """What became of an id without a record; no error: it was interrupted."""
    told: dict[str, Any] = {"id": call_id}
    if error is None:
        told |= {"error": "Interrupted", "message": "interrupted before there was an outcome"}
    else:
        told |= {"error": type(error).__name__, "message": error.message}
        told |= {"retryable": error.retryable, "stoppedBy": error.stopped_by}
        told |= {"attempts": error.attempts}
    if isinstance(error, StatusError):
        told |= {"status": error.status, "requestId": error.request_id}
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


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


# --- CSV -----------------------------------------------------------------------------------------

_FORMULA: Final = re.compile(
    # The last four are the first four in the full width of East Asian writing.
    "(?![+-][0-9 ().-]*\\Z)[=+@\t\r\n\uff1d\uff0b\uff20\uff0d-]"
)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if _FORMULA.match(value) else value


class _Line:
    """A file for the csv module, which hands what it writes back."""

    def write(self, text: str) -> bytes:
        return text.encode()


_csv: Final[Any] = csv.writer(_Line())  # RFC 4180: commas, quotes where needed, CRLF


def _row(fetched: Fetched) -> bytes:
    found = members(fetched.call)
    row: bytes = _csv.writerow([_cell(found.get(column)) for column in COLUMNS])
    return row


_FORMATS: Final = {
    ".jsonl": Format(line=_document),
    ".csv": Format(head=_csv.writerow(COLUMNS), line=_row),
}
