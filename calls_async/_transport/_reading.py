"""Reads a body; the rule: a record is read whole or not at all, and nothing past the cap.

aiohttp has no cap of its own, neither for what it reads nor for what it decompresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from calls_async._transport._unpack import too_large, unpacked
from calls_async._wire import Answer

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from multidict import MultiMapping

    from calls_async.errors import ProtocolError


async def read_answer(
    status: int, headers: MultiMapping[str], content: StreamReader, most: int
) -> Answer | ProtocolError:
    """The answer with its body, under the cap.

    Args:
        status: The HTTP status code.
        headers: The header fields.
        content: The body, decoded from its transfer coding. If it is left unread, its connection
            must be closed.
        most: The longest body that is read, in bytes.

    Returns:
        The answer, or why there is none.
    """
    # An error page may be cut: only its beginning is ever shown. A record may not.
    whole = status == 200
    body = bytearray()  # not a list of parts: a server may send them a byte at a time
    while part := await content.readany():
        body += part
        if len(body) > most:
            if whole:
                return too_large(most)
            break
    plain = unpacked(bytes(body), headers.getall(hdrs.CONTENT_ENCODING, ()), most)
    if not isinstance(plain, bytes):
        if whole:
            return plain
        plain = b""  # the status and what the server asks for count without its page
    return Answer(status, headers, plain)
