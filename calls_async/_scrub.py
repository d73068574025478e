r"""What others write of a secret; the rule: six characters of it in a row are taken out of a text.

A server may echo the key, in an error page or a header: whole or cut off, as it came, or as the
framework behind it writes texts. So a secret is looked for

- in pieces: any six characters in a row, in upper or lower case;
- as it is, in hexadecimal, and in base64 (of any text that it stands in, such as `Bearer KEY`);
- through escapes: `%5A`, `\u005a`, `\x5a`, `\/`, `&#90;`, `&#x5a;`, `&amp;` and their like, also
  where escaped text was escaped again.

Not looked for is what nobody writes by accident: reversed, compressed or encrypted texts.
"""

from __future__ import annotations

import re
from base64 import b64encode
from bisect import bisect_right
from functools import cache
from html.entities import html5
from struct import Struct
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

from calls_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MASK: Final = "***"
RUN: Final = 6
"""Characters of a secret that are taken out; fewer are none, and stand in words and numbers."""
MOST: Final = 16_384
"""Bytes of a text that are searched, and kept: many records long, and 20 ms of work at most."""

_HINT: Final = 4
"""Characters, at most, by which a place that may hold something is found quickly. They are no more
than the steps are long in which a text is gone through."""
_SHORT: Final = 64
"""Bytes of a text that is looked through at one go, as with the request id of each record."""


def scrub(data: bytes, scrubbers: tuple[Scrubber, ...]) -> bytes:
    """`data` with a mask in place of whatever it holds of the secrets, and no longer than `MOST`.

    What is longer is cut: to search it would hold up the event loop, and what was not searched must
    not be shown.
    """
    length = len(data)
    if length <= _SHORT:
        # Most request ids are UUIDs or hexadecimal, and few pieces of a secret can be in those.
        hexadecimal = _OTHER not in data.translate(_HEXADECIMAL)
        # In lower case, and with one mark for whatever begins an escape.
        read = data if hexadecimal else data.translate(_AT_A_GLANCE)
        if hexadecimal or _ESCAPED not in read:
            for scrubber in scrubbers:
                hints, looks = scrubber.hexadecimal if hexadecimal else scrubber.anything
                # About one id in ten has a hint in it, and no more than that.
                if not hints.isdisjoint(looks[length](read)) and any(scrubber.found(read)):
                    break
            else:
                return data
    data = data[:MOST]
    spans = [
        (text.origin(start), text.origin(end))
        for text in _readings(data)
        for read in [text.read.lower()]
        for scrubber in scrubbers
        for start, end in scrubber.found(read)
    ]
    if not spans:
        return data
    scrubbed = bytearray()
    done = 0
    for start, end in _joined(spans):
        scrubbed += data[done:start] + MASK.encode()
        done = end
    return bytes(scrubbed + data[done:])


@final
class Scrubber:
    """Finds one secret in texts.

    Args:
        prefix: What stands before the secret and is none, such as `sk_live_`.
        secret: The secret. One that is too short to be looked for in pieces is looked for as a
            whole, together with its prefix.
    """

    __slots__ = ("_hint", "_marks", "_stride", "anything", "hexadecimal")

    def __init__(self, prefix: str, secret: str) -> None:
        pieces = _pieces(secret.encode(), prefix.encode()) or _wholes((prefix + secret).encode())
        self._hint, self._stride = _steps(pieces)
        # By each hint the pieces that it stands in, and where: to try all would take far longer.
        self._marks: dict[bytes, list[tuple[int, bytes]]] = {}
        for piece in pieces:
            for at in range(len(piece) - self._hint + 1):
                hint = piece[at : at + self._hint]
                self._marks.setdefault(hint, []).append((at, piece))
        self.anything = _glance(pieces)
        """For a short text of any characters, in lower case."""
        self.hexadecimal = _glance(
            {piece for piece in pieces if _OTHER not in piece.translate(_HEXADECIMAL)}
        )
        """For one that is written in hexadecimal digits, where no other piece can stand."""

    def found(self, text: bytes) -> Iterator[tuple[int, int]]:
        """From where to where in `text`, which is in lower case, there is some of the secret."""
        hint, marks = self._hint, self._marks
        for at in range(0, len(text) - hint + 1, self._stride):
            for ahead, piece in marks.get(text[at : at + hint], ()):
                start = at - ahead
                if start >= 0 and text.startswith(piece, start):
                    yield start, start + len(piece)

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("what knows an API key is never pickled")


def _steps(pieces: set[bytes]) -> tuple[int, int]:
    """A number of characters, and how often to look at so many in a row so as to miss no piece."""
    shortest = min(map(len, pieces), default=_SHORT)
    hint = min(_HINT, (shortest + 1) // 2)
    return hint, shortest - hint + 1


_Glance: TypeAlias = "tuple[frozenset[bytes], list[Callable[[bytes], tuple[bytes, ...]]]]"
"""What begins or goes on in each piece that may be in a short text, and by the length of the text
what takes out of it all that has to be compared with that."""


def _glance(pieces: set[bytes]) -> _Glance:
    """For a first look: where it sees none of the hints, there is none of the pieces."""
    hint, stride = _steps(pieces)
    hints = frozenset(part for piece in pieces for part in _windows(piece, hint))
    return hints, _looks(hint, stride)


@cache
def _looks(hint: int, stride: int) -> list[Callable[[bytes], tuple[bytes, ...]]]:
    """For each length of a short text: what takes so many characters out of it, every so often."""
    return [_look(length, hint, stride) for length in range(_SHORT + 1)]


def _look(length: int, hint: int, stride: int) -> Callable[[bytes], tuple[bytes, ...]]:
    # For the price of a few slices `struct` takes them all.
    last = (length - hint) // stride
    each = f"{hint}s{stride - hint}x"
    return Struct(each * last + f"{hint}s" if last >= 0 else "").unpack_from


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same places in their order, those that touch as one."""
    ordered = iter(sorted(spans))
    since, until = next(ordered)
    for start, end in ordered:
        if start > until:
            yield since, until
            since = start
        until = max(until, end)
    yield since, until


# --- Writing -------------------------------------------------------------------------------------


def _pieces(secret: bytes, known: bytes) -> set[bytes]:
    """What shows that six characters of the secret, and not of what all know, are in a text."""
    pieces: set[bytes] = set()
    for text in _readings(secret):
        # A key may hold its own prefix once more, which is still no secret.
        pieces |= _windows(text.read.lower(), RUN) - _windows(known.lower(), RUN)
    if len(secret) >= RUN:
        pieces |= _windows(secret.hex().encode(), 2 * RUN)
        for core in _in_base64(secret):
            pieces |= _windows(core.lower(), min(len(core), _RUN_IN_BASE64))
    return pieces


def _wholes(text: bytes) -> set[bytes]:
    """What shows that all of a text is in another one."""
    wholes = {reading.read.lower() for reading in _readings(text)}
    if len(text) >= RUN:
        wholes |= {text.hex().encode(), *map(bytes.lower, _in_base64(text))}
    return wholes


def _windows(text: bytes, size: int) -> set[bytes]:
    return {text[start : start + size] for start in range(len(text) - size + 1)}


_RUN_IN_BASE64: Final = -(-8 * RUN // 6)
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _in_base64(text: bytes) -> Iterator[bytes]:
    """The characters that hold bits of `text` alone, wherever it stands in a longer text."""
    for ahead in range(3):
        whole = b64encode(bytes(ahead) + text)
        core = whole[-(-8 * ahead // 6) : 8 * (ahead + len(text)) // 6]
        yield core
        yield core.translate(_URL_SAFE)


# --- Reading -------------------------------------------------------------------------------------

_ESCAPE: Final = re.compile(
    rb"""
      (?: % | [%\\]u00 | \\x ) (?P<hex> [2-7][0-9a-f] )
    | \\u\{ 0* (?P<braced> [2-7][0-9a-f] ) \}
    | &\#x 0* (?P<entity> [2-7][0-9a-f] ) ;?
    | &\# 0* (?P<decimal> 3[2-9] | [4-9][0-9] | 1[01][0-9] | 12[0-6] ) (?![0-9]) ;?
    | & (?P<name> [a-z]{2,8} ) ;
    | \\ (?P<itself> [!-/:-@\[-`{-~] )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What stands for one printable ASCII character: no other can be in a key."""
_BEGINS: Final = frozenset(b"%&\\")
_ESCAPED: Final = ord("%")
_AT_A_GLANCE: Final = bytes(
    _ESCAPED if byte in _BEGINS else byte for byte in bytes(range(256)).lower()
)
"""What each byte of a text is for a first look."""
_OTHER: Final = 1
_HEXADECIMAL: Final = bytes(byte not in b"0123456789abcdef-" for byte in range(256))
"""Which bytes are `_OTHER` than what UUIDs and hexadecimal numbers are written in."""

_NAMES: Final = {
    name[:-1].encode(): char.encode()
    for name, char in html5.items()
    if name.endswith(";") and len(char) == 1 and "!" <= char <= "~"
}

_DEEPEST: Final = 3
"""How often a text may have been escaped."""


class _Reading:
    """A text with its escapes read, that knows where each character was written."""

    __slots__ = ("_at", "_outer", "_written", "read")

    def __init__(self, read: bytes, at: list[int], written: list[int], outer: _Origin) -> None:
        self.read = read
        self._at = at
        self._written = written
        self._outer = outer

    def origin(self, position: int) -> int:
        """Where the character at this position begins in the text as it came."""
        last = bisect_right(self._at, position) - 1
        return self._outer(self._written[last] + position - self._at[last])


_Origin: TypeAlias = "Callable[[int], int]"


def _readings(data: bytes) -> Iterator[_Reading]:
    """The text as it came, and with its escapes read once, twice and so on."""
    text = _Reading(data, [0], [0], int)
    yield text
    for _ in range(_DEEPEST):
        inner = _unescaped(text)
        if inner is None:
            return
        text = inner
        yield text


def _unescaped(text: _Reading) -> _Reading | None:
    """The text with its escapes read; `None` if there are none."""
    data = text.read
    if _BEGINS.isdisjoint(data):
        return None  # as with nearly every request id, which each record comes with
    read = bytearray()
    at, written = [0], [0]
    done = 0
    for found in _ESCAPE.finditer(data):
        char = _meant(found)
        if char is None:
            continue
        start, end = found.span()
        read += data[done:start]
        at += (len(read), len(read) + 1)
        written += (start, end)
        read += char
        done = end
    return _Reading(bytes(read + data[done:]), at, written, text.origin) if done else None


def _meant(found: re.Match[bytes]) -> bytes | None:
    """The character that an escape stands for; `None` if it is none that a key may have."""
    kind = found.lastgroup or ""
    text = found[kind]
    match kind:
        case "itself":
            return text
        case "name":
            return _NAMES.get(text)
        case "decimal":
            return bytes([int(text)])
        case _:
            return bytes([int(text, 16)])
