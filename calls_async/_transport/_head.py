"""Heads of answers; the rule: only what has one reading is read here, the rest is aiohttp's to read.

Nearly all answers of a healthy server have the same few lines before their body, but for a date and
a request id. So lines are remembered with what they mean, and a head is read by looking its lines
up. That is a fifth of the work of a parser that builds a mapping of each, and it is no parser: what
is not `HTTP/1.1 200 OK`, with fields as RFC 9110 writes them and exactly one length of the body, is
left alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from multidict import CIMultiDict, MultiMapping

from calls_async._headers import HINT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINNING: Final = b"HTTP/1.1 200 OK\r\n"
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_MOST_FIELDS: Final = 64
_LONGEST: Final = 512
"""Bytes of a line that is remembered; a longer one says too much to come again."""
_MOST_KNOWN: Final = 256
"""Lines that are remembered. After so many, which a server with a new field value in each answer
soon has, all are learnt anew."""

# What a line means; the length of the body stands for itself.
_PLAIN: Final = -1
_HINT: Final = -2
_REQUEST_ID: Final = -3
_UNUSUAL: Final = -4

_ABOUT_THE_BODY: Final = frozenset(
    {b"content-encoding", b"connection", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields that say how the body is to be read, or what becomes of the connection after it."""
_HARMLESS: Final = frozenset({(b"connection", b"keep-alive"), (b"content-encoding", b"identity")})
_HINTS: Final = frozenset(name.lower().encode() for name in HINT_FIELDS)


class Head(NamedTuple):
    """The head of a 200 that is followed by a body of known length.

    Attributes:
        length: Bytes of the body.
        fields: The header fields.
        silent: Whether no field says anything about sending more.
    """

    length: int
    fields: Fields
    silent: bool


class Heads:
    """Reads the heads of one server's answers."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def read(self, head: bytes) -> Head | None:
        """Read a head.

        Args:
            head: All up to the empty line that ends it, without that.

        Returns:
            The head; `None` if it is in any way unusual.
        """
        if not head.startswith(_BEGINNING):
            return None
        lines = head[len(_BEGINNING) :].split(b"\r\n")
        if len(lines) > _MOST_FIELDS:
            return None
        length = -1
        silent = True
        request_id = None
        known = self._known
        for line in lines:
            meaning = known.get(line)
            if meaning is None:
                meaning = self._meaning(line)
            if meaning == _PLAIN:
                continue
            if meaning >= 0 and length < 0:
                length = meaning
            elif meaning == _HINT:
                silent = False
            elif meaning == _REQUEST_ID and request_id is None:
                request_id = line
            else:
                return None
        return None if length < 0 else Head(length, Fields(lines, request_id), silent)

    def _meaning(self, line: bytes) -> int:
        """What a line means that is not known yet."""
        meaning = _meaning(line)
        # Each answer has another request id: to remember it would only push others out.
        if meaning != _REQUEST_ID and len(line) <= _LONGEST:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[line] = meaning
        return meaning


def _meaning(line: bytes) -> int:
    field = _FIELD.fullmatch(line)
    if field is None:
        return _UNUSUAL
    name, value = field[1].lower(), field[2].strip(b" \t")
    if name == b"content-length":
        return int(value) if _LENGTH.fullmatch(value) else _UNUSUAL
    if name in _ABOUT_THE_BODY:
        return _PLAIN if (name, value.lower()) in _HARMLESS else _UNUSUAL
    if name in _HINTS:
        return _HINT
    return _REQUEST_ID if name == b"x-request-id" else _PLAIN


class Fields(MultiMapping[str]):
    """The fields of a head, taken apart when somebody looks at them.

    Args:
        lines: The lines, each one field.
        request_id: The line with the request id, the one field that is asked for each time.
    """

    __slots__ = ("_lines", "_parsed", "_request_id")

    def __init__(self, lines: list[bytes], request_id: bytes | None) -> None:
        self._lines = lines
        self._request_id = request_id
        self._parsed: CIMultiDict[str] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a field; `default` if there is none."""
        if key == "x-request-id":
            return default if self._request_id is None else _value(self._request_id)
        return self._fields.get(key, default)

    def getall(self, key: str, *default: Any) -> Any:
        """All values of a field."""
        return self._fields.getall(key, *default)

    def getone(self, key: str, *default: Any) -> Any:
        """The first value of a field."""
        return self._fields.getone(key, *default)

    def __getitem__(self, key: str) -> str:
        return self._fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def _fields(self) -> CIMultiDict[str]:
        if self._parsed is None:
            self._parsed = CIMultiDict(
                (line.partition(b":")[0].decode(), _value(line)) for line in self._lines
            )
        return self._parsed


def _value(line: bytes) -> str:
    # As aiohttp decodes them: bytes that are no UTF-8 become lone surrogates.
    return line.partition(b":")[2].strip(b" \t").decode(errors="surrogateescape")
