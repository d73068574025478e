"""Records as lines of a file; the rule: the name chooses, the lines are a journal's."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async import StatusError
from calls_async.cli._exits import CommandError, Exit
from calls_async.journal import _csv, _jsonl
from calls_async.journal._csv import COLUMNS, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from calls_async import CallsError, Fetched


__all__ = ["COLUMNS", "Format", "error_line", "format_of", "members"]


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


_FORMATS: Final = {
    ".jsonl": Format(line=lambda fetched: _jsonl.document_line(fetched.raw)),
    ".csv": Format(head=_csv.HEAD, line=lambda fetched: _csv.call_row(fetched.call)),
}
