"""Unpacks a body; the rule: the same answer is read alike everywhere, and never past the cap.

The client asks for `identity`, but some gateways compress all the same, and who sits behind one
needs the record too. gzip and deflate are part of Python, so they are read. Other codings (br,
zstd) are refused by name: whether aiohttp could read them would depend on what else is installed,
and where it cannot, it gives up the whole answer, a 429 with its `Retry-After` included.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from calls_async.errors import AnswerTooLargeError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

_GZIP: Final = 16 + zlib.MAX_WBITS
_CODINGS: Final = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,  # RFC 9110, 8.4.1.3: the same
    "deflate": zlib.MAX_WBITS,
}
_UNREAD: Final = frozenset({"br", "compress", "dcb", "dcz", "x-compress", "zstd"})
"""Those that a message may name. Another name is the server's own text, which may be anything."""


def unpacked(body: bytes, fields: Iterable[str], most: int) -> bytes | ProtocolError:
    """The content of a body.

    Args:
        body: The body, decoded from its transfer coding, and complete.
        fields: The `Content-Encoding` fields of its answer.
        most: The longest content that is unpacked, in bytes.

    Returns:
        The content, or why there is none.
    """
    names = [name.strip(" \t").lower() for field in fields for name in field.split(",")]
    names = [name for name in names if name not in {"", "identity"}]
    if not names:
        return body
    # Two codings on top of each other are nobody's honest answer.
    if len(names) > 1 or names[0] not in _CODINGS:
        told = ", ".join(name if name in _UNREAD else "unknown" for name in names)
        return ProtocolError(f"the answer is compressed, which was not asked for: {told}")
    return _inflated(body, names[0], most)


def _inflated(body: bytes, coding: str, most: int) -> bytes | ProtocolError:
    window = _CODINGS[coding]
    if coding == "deflate" and body[:1] and body[0] & 0x0F != zlib.DEFLATED:
        window = -window  # without zlib's header, as many servers have always sent it
    inflater = zlib.decompressobj(window)
    try:
        content = inflater.decompress(body, most + 1)
    except zlib.error:
        return ProtocolError(f"the answer is no {coding}, though it says so")
    if len(content) > most:
        return too_large(most)
    # A second stream behind the first is legal gzip, but a record is not made of parts, and fifty
    # thousand empty ones would keep the loop busy.
    if not inflater.eof or inflater.unused_data:
        return ProtocolError(f"the answer's {coding} is cut, or something follows it")
    return content


def too_large(most: int) -> AnswerTooLargeError:
    """The error for a body of more than so many bytes."""
    return AnswerTooLargeError(f"the answer is longer than {most} bytes")
