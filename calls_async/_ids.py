"""Call ids; the rule: an id becomes exactly one path segment, or it is refused before the wire.

What is refused cannot be carried safely: `.` and `..` are resolved away by URL libraries and
proxies even when percent-encoded, control characters are mangled by some of them, and a lone
surrogate has no encoding at all. Everything else is percent-encoded as UTF-8, slashes included.
"""

from __future__ import annotations

import re
import reprlib
from typing import Final
from urllib.parse import quote

from calls_async.errors import InvalidCallIdError

MAX_LENGTH: Final = 512
"""Characters; percent-encoded, the longest id still fits the 8 KiB that servers grant a request."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_QUOTED: Final = re.compile(r"[^A-Za-z0-9_.~-]")
"""What is none of RFC 3986's unreserved characters."""


def check_call_id(call_id: object) -> InvalidCallIdError | None:
    """What keeps `call_id` from being asked for; `None` if nothing does."""
    if (
        type(call_id) is str
        and 2 < len(call_id) <= MAX_LENGTH
        and call_id.isascii()
        and call_id.isprintable()
    ):
        return None  # as with nearly every id there is
    if not isinstance(call_id, str):
        kind = type(call_id).__name__
        return InvalidCallIdError(f"a call id must be a str, not {kind}", call_id=_quoted(call_id))
    call_id = str.__str__(call_id)  # a subclass may have other methods, and say something else
    if not call_id:
        problem = "is empty"
    elif call_id in (".", ".."):
        problem = "is a relative path segment"
    elif len(call_id) > MAX_LENGTH:
        problem = f"is longer than {MAX_LENGTH} characters"
        call_id = call_id[:80] + "…"
    elif _FORBIDDEN.search(call_id):
        problem = "has a control character or a lone surrogate"
    else:
        return None
    return InvalidCallIdError(f"the call id {problem}", call_id=call_id)


def _quoted(value: object) -> str:
    # Whatever this is, its own repr may be endless, or raise.
    try:
        return reprlib.repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a huge number"


def path_segment(call_id: str) -> str:
    """A valid id, percent-encoded so that it stays one segment of a path."""
    if type(call_id) is not str:
        call_id = str.__str__(call_id)
    # To find out that it needs no quoting, as UUIDs do not, costs less than `quote`.
    return quote(call_id, safe="") if _QUOTED.search(call_id) else call_id
