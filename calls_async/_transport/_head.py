"""Heads of answers; the rule: only what has one reading is read here, the rest is aiohttp's.

A server's answers have the same few fields in the same order, with other values. So from a head
that is well-formed and ordinary a pattern is made, which the next ones are held against: one match
tells that a head is as RFC 9110 writes it, and finds the two values that are needed. That is a
fifth of the work of a parser that makes a mapping of each, and it is no parser: what is not
`HTTP/1.1 200 OK`, with exactly one length of the body and nothing else that says how the body is to
be read, is left alone.

Most heads are even the last one again, but for those two values: within a second, the rest of what
a server says of its answers is the same, and as long. To compare bytes is a fraction of the work of
a match.
"""

from __future__ import annotations

import re
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from multidict import CIMultiDict, MultiMapping

from calls_async._headers import HINT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

_OK: Final = b"HTTP/1.1 200 OK"
_END: Final = b"\r\n\r\n"
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH: Final = b"content-length"
_REQUEST_ID: Final = b"x-request-id"
_HINTS: Final = frozenset(name.lower().encode() for name in HINT_FIELDS)

# What is matched is not tried again in another way (`++`), so a match takes one pass.
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]{0,8000}+"  # a little less than aiohttp takes
_VALUES: Final = {
    _LENGTH: rb"[\t ]*+(?P<length>[0-9]{1,15}+)[\t ]*+",
    _REQUEST_ID: rb"(?P<request_id>%b)" % _VALUE,
    # What says how the body is to be read, or what becomes of the connection, may only say that
    # nothing is unusual about it.
    b"connection": rb"[\t ]*+(?i:keep-alive)[\t ]*+",
    b"proxy-connection": rb"[\t ]*+(?i:keep-alive)[\t ]*+",  # which aiohttp takes for the other
    b"content-encoding": rb"[\t ]*+(?i:identity)[\t ]*+",
}
_UNUSUAL: Final = frozenset({
    b"sec-websocket-key1",  # aiohttp refuses every head with it
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
})  # fmt: skip

_MOST_FIELDS: Final = 64
_LONGEST_NAMES: Final = 2_048
"""Bytes of all names of a head together; a pattern takes ten times as many, and `re` keeps it."""
_MOST_KINDS: Final = 16
"""Kinds of heads that are known at a time. Behind one address there may be several servers, and a
field may be there or not; the kind that came last is tried first."""
_MOST_LEARNT: Final = 64
"""Kinds that are learnt in all. To learn one takes as long as to read a hundred heads, so a server
that orders its fields anew each time is left to aiohttp."""


_Read: TypeAlias = "tuple[int, int, Fields, bool]"


class _Kind(NamedTuple):
    """Heads with the same fields in the same order.

    Attributes:
        match: What `re.Pattern.match` says of an answer.
        groups: Where a match has the length and the request id.
        silent: Whether none of the fields is a hint.
    """

    match: Callable[[bytes], re.Match[bytes] | None]
    groups: tuple[int, int]
    silent: bool


_MOST_MISSES: Final = 32
"""Heads after which one is remembered anew, if the one remembered has never come again: where each
head has a field of its own, to remember it would be work for nothing."""


class _Last:
    """A head that was matched, but for its two values.

    Args:
        head: The head, and whatever follows it.
        kind: Its kind.
        found: The match.
    """

    __slots__ = ("_end", "_has_id", "_id_first", "_same", "_silent", "_taken_apart", "misses")

    def __init__(self, head: bytes, kind: _Kind, found: re.Match[bytes]) -> None:
        self._end = found.end()
        length, request_id = map(found.span, kind.groups)
        self._has_id = request_id >= (0, 0)
        if not self._has_id:
            request_id = self._end, self._end
        self._id_first = request_id < length
        cuts = [0, *sorted((*length, *request_id)), self._end]
        taken_apart = Struct("".join(f"{end - begin}s" for begin, end in pairwise(cuts)))
        self._taken_apart = taken_apart.unpack_from
        self._same = taken_apart.unpack_from(head)[::2]
        self._silent = kind.silent
        self.misses = 0
        """Heads that were not it again; negative once one was."""

    def again(self, came: memoryview | bytes, size: int) -> _Read | None:
        """Read a head, if it is this one again, and its values are as long and plainly written."""
        if size < self._end:
            return None
        parts = first, length, between, request_id, last = self._taken_apart(came)
        if (first, between, last) != self._same:
            return None
        if self._id_first:
            length, request_id = request_id, length
        if not (length.isdigit() and request_id.isascii()):
            return None
        text = request_id.decode()
        if not text.isprintable():
            return None
        self.misses = -1
        fields = Fields(parts, text.strip(" ") if self._has_id else None)
        return self._end, int(length), fields, self._silent


class Heads:
    """Reads the heads of one server's answers."""

    def __init__(self) -> None:
        self._kinds: list[_Kind] = []
        self._learnt = 0
        self._last: _Last | None = None

    def again(self, came: memoryview | bytes, size: int) -> _Read | None:
        """Read the head of an answer, if it is the last one again; see `read`.

        Args:
            came: The answer, as much of it as there is, and perhaps other bytes behind it.
            size: How many bytes there are of the answer.
        """
        return None if self._last is None else self._last.again(came, size)

    def read(self, came: bytes) -> _Read | None:
        """Read the head of an answer.

        Args:
            came: The answer, as much of it as there is.

        Returns:
            Of a 200 that is followed by a body of known length: where the body begins, that length
            in bytes, the header fields, and whether none of them says anything about sending more.
            `None` if the head is not complete, or in any way unusual.
        """
        if (read := self.again(came, len(came))) is not None:
            return read
        for kind in self._kinds:
            match, groups, silent = kind
            if found := match(came):
                self._remember(came, kind, found)
                if kind is not self._kinds[0]:
                    self._kinds.remove(kind)
                    self._kinds.insert(0, kind)
                length, request_id = found.group(*groups)
                begin = found.end()
                told = None if request_id is None else _text(request_id)
                return begin, int(length), Fields((came[:begin],), told), silent
        return self.read(came) if self._learn(came) else None

    def _remember(self, came: bytes, kind: _Kind, found: re.Match[bytes]) -> None:
        """Remember a head, unless there is little hope that it comes again."""
        if self._last is None or self._last.misses < 0 or self._last.misses >= _MOST_MISSES:
            self._last = _Last(came, kind, found)
        else:
            self._last.misses += 1

    def _learn(self, came: bytes) -> bool:
        """Whether it is a new kind of head, which can now be read."""
        end = came.find(_END)
        if end < 0 or self._learnt == _MOST_LEARNT:
            return False
        kind = _kind_of(came[:end])
        if kind is None or not kind.match(came):
            return False
        self._learnt += 1
        self._kinds = [kind, *self._kinds][:_MOST_KINDS]
        return True


def _kind_of(head: bytes) -> _Kind | None:
    first, *lines = head.split(b"\r\n")
    names = [line.partition(b":")[0] for line in lines]
    known = [name.lower() for name in names]
    if first != _OK or len(names) > _MOST_FIELDS or sum(map(len, names)) > _LONGEST_NAMES:
        return None
    if not all(map(_NAME.fullmatch, names)):
        return None
    if known.count(_LENGTH) != 1 or not _UNUSUAL.isdisjoint(known):
        return None
    values = _VALUES.copy()
    fields: list[bytes] = []
    for name, lower in zip(names, known, strict=True):
        fields.append(re.escape(name) + b":" + values.get(lower, _VALUE))
        values.pop(_REQUEST_ID if lower == _REQUEST_ID else b"", None)  # the first one counts
    absent = b"" if _REQUEST_ID in known else b"(?P<request_id>){0}"
    pattern = re.compile(b"\r\n".join((re.escape(_OK), *fields)) + absent + re.escape(_END))
    groups = pattern.groupindex
    return _Kind(pattern.match, (groups["length"], groups["request_id"]), _HINTS.isdisjoint(known))


_REQUIRED: Final = object()


class Fields(MultiMapping[str]):
    """The fields of a head, taken apart when somebody looks at them.

    Args:
        parts: The head, in pieces.
        request_id: The request id's value, the one that is asked for each time.
    """

    __slots__ = ("_parsed", "_parts", "_request_id")

    def __init__(self, parts: tuple[bytes, ...], request_id: str | None) -> None:
        self._parts = parts
        self._request_id = request_id
        self._parsed: CIMultiDict[str] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a field; `default` if there is none."""
        if key == "x-request-id":
            return default if self._request_id is None else self._request_id
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
        return len(self._fields)

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
            lines = b"".join(self._parts).removesuffix(_END).split(b"\r\n")
            fields = [line.partition(b":") for line in lines[1:]]
            self._parsed = CIMultiDict((name.decode(), _text(value)) for name, _, value in fields)
        return self._parsed


def _text(value: bytes) -> str:
    # As aiohttp decodes them: bytes that are no UTF-8 become lone surrogates.
    return value.strip(b" \t").decode(errors="surrogateescape")
