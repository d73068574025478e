"""Heads of answers; the rule: only what has one reading is read here, the rest is aiohttp's.

Nearly all answers of a healthy server have the same few lines before their body, but for a date and
a request id. So lines are remembered with what they mean, and a head is read by looking its lines
up. That is a fifth of the work of a parser that builds a mapping of each, and it is no parser: what
is not `HTTP/1.1 200 OK`, with fields as RFC 9110 writes them and exactly one length of the body, is
left alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict, MultiMapping

from calls_async._headers import HINT_FIELDS

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, ValuesView

_BEGINNING: Final = b"HTTP/1.1 200 OK\r\n"
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_IN_VALUES: Final = bytes({0x09, *range(0x20, 0x7F), *range(0x80, 0x100)})
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_MOST: Final = 64
"""Fields of a head."""
_LONGEST: Final = 8_000
"""Bytes of a field; a little less than what aiohttp takes."""
_LONGEST_KNOWN: Final = 512
"""Bytes of a field that is remembered; a longer one says too much to come again."""
_MOST_KNOWN: Final = 256
"""Fields that are remembered. After so many, which a server with a new value in each answer soon
has, all are learnt anew."""

# What a field means; the length of the body stands for itself.
_PLAIN: Final = -1
_HINT: Final = -2
_REQUEST_ID: Final = -3
_BY_VALUE: Final = -4
_UNUSUAL: Final = -5

_HARMLESS: Final = {
    b"connection": b"keep-alive",
    b"content-encoding": b"identity",
    b"proxy-connection": b"keep-alive",  # aiohttp's parser takes it for the one without a proxy
    b"sec-websocket-key1": None,  # aiohttp refuses every head with it
    b"trailer": None,
    b"transfer-encoding": None,
    b"upgrade": None,
}
"""Fields that say how the body is to be read, or what becomes of the connection after it; and the
value with which they say that there is nothing unusual about it."""
_NAMES: Final[dict[bytes, int]] = {
    b"content-length": _BY_VALUE,
    b"x-request-id": _REQUEST_ID,
    **dict.fromkeys(_HARMLESS, _BY_VALUE),
    **{name.lower().encode(): _HINT for name in HINT_FIELDS},
}


class Heads:
    """Reads the heads of one server's answers."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._names: dict[bytes, int] = {}

    def read(self, head: bytes) -> tuple[int, Fields, bool] | None:
        """Read a head.

        Args:
            head: All up to the empty line that ends it, without that.

        Returns:
            Of a 200 that is followed by a body of known length: that length in bytes, the header
            fields, and whether none of them says anything about sending more. `None` if the head is
            in any way unusual.
        """
        if not head.startswith(_BEGINNING):
            return None
        lines = head[len(_BEGINNING) :].split(b"\r\n")
        if len(lines) > _MOST:
            return None
        length = -1
        silent = True
        request_id = None
        known = self._known
        for line in lines:
            meaning = known.get(line)
            if meaning is None:
                meaning = self._learnt(line)
            if meaning == _PLAIN:
                continue
            if meaning >= 0 and length < 0:
                length = meaning
            elif meaning == _REQUEST_ID:
                request_id = request_id or line
            elif meaning == _HINT:
                silent = False
            else:
                return None
        return None if length < 0 else (length, Fields(lines, request_id), silent)

    def _learnt(self, line: bytes) -> int:
        """What a line means that was not seen before, or is never the same."""
        name, colon, value = line.partition(b":")
        if not colon:
            return _UNUSUAL
        meaning = self._names.get(name)
        if meaning is None:
            if not _NAME.fullmatch(name):
                return _UNUSUAL
            meaning = _NAMES.get(name.lower(), _PLAIN)
            _remember(self._names, name, meaning)
        if len(line) > _LONGEST or value.translate(None, _IN_VALUES):
            return _UNUSUAL
        if meaning == _BY_VALUE:
            meaning = _meaning_by_value(name.lower(), value.strip(b" \t").lower())
        if meaning != _REQUEST_ID:
            _remember(self._known, line, meaning)
        return meaning


def _remember(known: dict[bytes, int], text: bytes, meaning: int) -> None:
    if len(text) <= _LONGEST_KNOWN:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[text] = meaning


def _meaning_by_value(name: bytes, value: bytes) -> int:
    if name == b"content-length":
        return int(value) if _LENGTH.fullmatch(value) else _UNUSUAL
    return _PLAIN if value == _HARMLESS[name] else _UNUSUAL


_REQUIRED: Final = object()


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

    def getall(self, key: str, default: Any = _REQUIRED) -> Any:
        """All values of a field; `default` if there is none."""
        return self._fields.getall(key, *(() if default is _REQUIRED else (default,)))

    def getone(self, key: str, default: Any = _REQUIRED) -> Any:
        """The first value of a field; `default` if there is none."""
        return self._fields.getone(key, *(() if default is _REQUIRED else (default,)))

    def __getitem__(self, key: str) -> str:
        return self._fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._lines)

    # What a mapping makes of `__iter__` has the first value of a repeated field each time.
    def keys(self) -> KeysView[str]:
        """The names, one for each field."""
        return self._fields.keys()

    def values(self) -> ValuesView[str]:
        """The values, in the order of the fields."""
        return self._fields.values()

    def items(self) -> ItemsView[str, str]:
        """The fields, in their order."""
        return self._fields.items()

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
