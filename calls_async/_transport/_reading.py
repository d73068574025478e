"""Reads a body; the rule: a record is read whole or not at all, and nothing past the cap.

aiohttp has no cap of its own, neither for what it reads nor for what it decompresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from calls_async._transport._unpack import too_large, unpacked
from calls_async._wire import Answer

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader
    from multidict import MultiMapping

    from calls_async.errors import ProtocolError


def has_come_whole(response: ClientResponse) -> bool:
    """Whether the body came with its head, as nearly all do, and aiohttp has the connection back.

    Then nothing is left to wait for or to clean up.
    """
    return response.connection is None and response.content.is_eof()


async def read_answer(
    content: StreamReader, status: int, headers: MultiMapping[str], most: int
) -> Answer | ProtocolError:
    """The answer whose body is still to be read, under the cap.

    Args:
        content: The body, decoded from its transfer coding. If it is left unread, its connection
            must be closed.
        status: The HTTP status code.
        headers: The header fields.
        most: The longest body that is read, in bytes.

    Returns:
        The answer, or why there is none.
    """
    body = bytearray()  # not a list of parts: a server may send them a byte at a time
    while len(body) <= most and (part := await content.readany()):
        body += part
    return answer_with(bytes(body), status, headers, most)


def answer_with(
    body: bytes, status: int, headers: MultiMapping[str], most: int
) -> Answer | ProtocolError:
    """The answer with this body, of which nothing need be complete past the cap."""
    # An error page may be cut: only its beginning is ever shown. A record may not.
    whole = status == 200
    if whole and len(body) > most:
        return too_large(most)
    if hdrs.CONTENT_ENCODING not in headers:
        return Answer(status, headers, body)
    content = unpacked(body, headers.getall(hdrs.CONTENT_ENCODING), most)
    if not isinstance(content, bytes):
        if whole:
            return content
        content = b""  # the status and what the server asks for count without its page
    return Answer(status, headers, content)
