"""Whole answers, in each way in which a body may come; the rule: the framing says what is whole.

An answer knows where its body is, and after which of its bytes a reader may take it for whole. The
sweeps cut and spoil it; what may come of that is decided here, by the framing alone.
"""

from __future__ import annotations

import json
import zlib
from typing import Final, Literal, TypeAlias, get_args

import attrs

from calls_async import structure_call
from tests.documents import example

CALL_ID: Final = "123e4567-e89b-12d3-a456-426614174000"
"""The id that the cases ask for."""
OTHER_ID: Final = "123e4567-e89b-12d3-a456-426614174001"
"""One bit away from it; it is asked for before or after, and always answered well."""


def document(call_id: str) -> bytes:
    """A record with characters of two and of four bytes, and whitespace after its end."""
    members = example() | {"id": call_id, "status": "terminé", "notes": "Zoë: «ça va» 🙂", "new": 1}
    return json.dumps(members, ensure_ascii=False).encode() + b"\r\n"


BODY: Final = document(CALL_ID)
CALL: Final = structure_call(json.loads(BODY))
OTHER_BODY: Final = document(OTHER_ID)

Framing: TypeAlias = Literal["length", "chunked", "closed"]
Coding: TypeAlias = Literal["identity", "gzip"]

_FRAMING_FIELDS: Final[dict[Framing, str]] = {
    "length": "Content-Length: {length}",
    "chunked": "Transfer-Encoding: chunked",
    "closed": "Connection: close",
}
GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's name for gzip."""
_CHUNKS: Final = (0, 1, 17, 256, 700)
"""Where the chunks of a body begin."""


@attrs.frozen
class Whole:
    """An answer with the record asked for, and where its body is in it.

    Attributes:
        framing: What tells the body's end: its length, an empty chunk, or the connection's end.
        coding: How the body is packed; gzip comes although identity is asked for.
        wire: All its bytes.
        head: How many of them are the head, the empty line included.
        spans: Where the bytes of the packed body are.
        body: The body.
    """

    framing: Framing
    coding: Coding
    wire: bytes = attrs.field(repr=False)
    head: int
    spans: tuple[tuple[int, int], ...]
    body: bytes = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """As cases are named."""
        return f"{self.framing} {self.coding}"

    @property
    def packed(self) -> bytes:
        """The body as it is sent."""
        return b"".join(self.wire[start:end] for start, end in self.spans)

    def sent_as_body(self, wire: bytes) -> bytes:
        """What `wire`, which is as long as this answer, has where this one has its body."""
        if self.coding == "gzip":
            return self.body  # its checksum tells any other
        return b"".join(wire[start:end] for start, end in self.spans)

    def whole_after(self, sent: int) -> bytes | None:
        """The body that a reader may take for whole when so many bytes came; `None`: none.

        With a length it is the last byte that makes it whole. With chunks it is the empty one: RFC
        9112 (section 8) calls a body incomplete until that has been received, and what follows it
        is no part of the body. A body that ends with its connection is whole when the document is:
        the peer says no more, so nobody can know of whitespace, or of a checksum, that is missing.
        """
        if self.framing == "length":
            return self.body if sent == len(self.wire) else None
        if self.framing == "chunked":
            return self.body if sent >= len(self.wire) - len(b"\r\n") else None
        return self.whole_in(self.wire[self.head : sent])

    def whole_in(self, packed: bytes) -> bytes | None:
        """The body that a reader may take for whole when this is all of it; `None`: none."""
        came = packed
        if self.coding == "gzip":
            came = zlib.decompressobj(GZIP).decompress(packed)
        return came if came.rstrip() == self.body.rstrip() else None

    def framed_anew(self, sent: int) -> bytes:
        """This answer, when whoever framed it had got only so many bytes of the packed body."""
        return _framed(self.framing, self.coding, self.packed[:sent])[0]


def whole(framing: Framing, coding: Coding = "identity", body: bytes = BODY) -> Whole:
    """The answer that carries `body` in this way."""
    packed = body
    if coding == "gzip":
        packer = zlib.compressobj(wbits=GZIP)
        packed = packer.compress(body) + packer.flush()
    return Whole(framing, coding, *_framed(framing, coding, packed), body)


def _framed(
    framing: Framing, coding: Coding, packed: bytes
) -> tuple[bytes, int, tuple[tuple[int, int], ...]]:
    """An answer's bytes, how many of them are its head, and where its body is."""
    fields = [
        "HTTP/1.1 200 OK",
        "Date: Wed, 20 Mar 2024 09:00:00 GMT",
        "Content-Type: application/json; charset=utf-8",
        *(["Content-Encoding: gzip"] if coding == "gzip" else []),
        _FRAMING_FIELDS[framing].format(length=len(packed)),
        "X-Request-Id: request-1",
    ]
    wire = "\r\n".join((*fields, "", "")).encode()
    head = len(wire)
    if framing != "chunked":
        return wire + packed, head, ((head, head + len(packed)),)
    spans = []
    for start, end in zip(_CHUNKS, (*_CHUNKS[1:], len(packed)), strict=True):
        if part := packed[start:end]:
            wire += b"%x\r\n" % len(part)
            spans.append((len(wire), len(wire) + len(part)))
            wire += part + b"\r\n"
    return wire + b"0\r\n\r\n", head, tuple(spans)


ALL_WAYS: Final = [
    (framing, coding) for framing in get_args(Framing) for coding in get_args(Coding)
]
"""Each way in which a body may come."""
