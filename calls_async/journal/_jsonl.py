"""JSON lines; the rule: a record is the document that the server sent, on one line."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from calls_async.journal._records import FailureRecord

_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


def document_line(raw: bytes) -> bytes:
    """A record as received, as a line.

    A body without line ends is not touched. In valid JSON a raw line end only stands between
    tokens, where a space means the same; a byte order mark and white space around it are no part of
    the document.
    """
    return raw.removeprefix(BOM_UTF8).translate(_LINE_ENDS).strip() + b"\n"


def failure_line(failure: FailureRecord) -> bytes:
    """A failure as a line; each has the members of `FAILURE_COLUMNS`."""
    return json.dumps(failure_members(failure), separators=(",", ":")).encode() + b"\n"


def failure_members(failure: FailureRecord) -> dict[str, str | int | float | bool | None]:
    """What a list of failures tells about one, by the names of its columns."""
    return {
        "id": failure.id,
        "error": failure.error,
        "message": failure.message,
        "retryable": failure.retryable,
        "stoppedBy": failure.stopped_by,
        "attempts": failure.attempts,
        "status": failure.status,
        "requestId": failure.request_id,
        "elapsed": round(failure.elapsed, 6),
        "at": failure.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


FAILURE_COLUMNS: Final = (
    "id", "error", "message", "retryable", "stoppedBy", "attempts", "status", "requestId",
    "elapsed", "at",
)  # fmt: skip
"""The members of a failure, in their order."""
