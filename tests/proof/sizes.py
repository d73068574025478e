"""Answers that are too large in every way: each ends as an error of ours, and takes no memory.

The client is in a process of its own: what is measured is its peak, and its loop's longest turn.
What fits under the cap is the worst for memory, because it is read: small bytes, large objects.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import zlib
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

import attrs

from calls_async import (
    AnswerTooLargeError,
    CallsError,
    DecodeError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ServerError,
)
from calls_async.config import Limits
from tests.proof.apart import ORDINARY, fetched_apart
from tests.proof.loops import BLOCKED
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.proof.apart import Measured
    from tests.rawserver import Exchange

MIB, GIB = 1 << 20, 1 << 30
CAP = Limits().max_body_bytes
SECONDS = 30.0
"""For one answer: what is endless must be left because of its size, long before."""

TRIES = 5
"""How often a case is measured that held up the loop. What others do on the same machine slows it
down even while it has the processor, and nothing makes it faster than it is."""
LONG = "in-chunks-of-"
"""Cases that take seconds of work."""

Size: TypeAlias = "tuple[Iterable[bytes], type[object]]"
"""What is sent, and how it ends: `bytes`: as a record, which is the body as it was sent."""


async def sweep(*, short: bool) -> Tally:
    """Send all of them; in the full form each goes to a process of its own."""
    tally = Tally("sizes")
    sizes = dict(_sizes())

    async def script(exchange: Exchange) -> bytes | None:
        name = unquote(exchange.target.rsplit("/", 1)[-1])
        if name == ORDINARY:
            return http(record(ORDINARY))
        for part in sizes[name][0]:
            exchange.send(part)
            await exchange.writer.drain()
            if exchange.writer.transport.is_closing():
                return None
        return b""

    async with raw_server(script) as server:
        names = [name for name in sizes if not (short and LONG in name)]
        for together in [names] if short else [[name] for name in names]:
            ends = await fetched_apart(server.url, together, seconds=SECONDS)
            for name, first in zip(together, ends, strict=True):
                await _judged(tally, name, first, sizes[name][1])
                measured = first if short else await at_best(server.url, name, first)
                measured.judge(tally, name, short=short)
    return tally


async def at_best(url: str, name: str, measured: Measured) -> Measured:
    """The same with the shortest of some longest turns, where the first one was too long."""
    for _ in range(TRIES - 1):
        if measured.blocked <= BLOCKED:
            break
        (again,) = await fetched_apart(url, [name], seconds=SECONDS)
        measured = attrs.evolve(measured, blocked=min(measured.blocked, again.blocked))
    return measured


async def _judged(tally: Tally, name: str, measured: Measured, ends: type[object]) -> None:
    end = await tally.judge(name, measured.again(), accept=lambda _: ends is bytes)
    if isinstance(end, CallsError) and type(end) is not ends:
        tally.found(name, "wrong", f"{end!r:.300}")


def _sizes() -> Iterator[tuple[str, Size]]:
    """All cases. A name is an id as well, and so it stands in the record that goes with it."""
    yield from _bombs()
    yield from _long_bodies()
    yield from _long_heads()
    for name, (value, ends) in VALUES.items():
        for call_id, body in _documents(name, value):
            expected = ends if call_id.startswith("unknown") else DecodeError
            fits = len(body) <= CAP
            yield call_id, ([http(body)], expected if fits else AnswerTooLargeError)


# --- Bombs ---------------------------------------------------------------------------------------


def _deflated(size: int) -> bytes:
    """The raw deflate stream of so many zeros; a MiB of them is packed alike each time."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    one = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return one * (size // MIB) + deflater.flush()


def _zstd(size: int, window: int) -> bytes:
    """A zstd frame (RFC 8878) of so many zeros, in blocks of one repeated byte."""
    block = 128 << 10
    head = b"\x28\xb5\x2f\xfd\x00" + bytes([(window - 10) << 3])
    blocks = [(block << 3 | 2 | last).to_bytes(3, "little") + b"\0" for last in (0, 1)]
    return head + blocks[0] * (size // block - 1) + blocks[1]


_BROTLI = base64.b64decode(
    "z///fwAkAOKxQHLv//n//w+ABEAcFoDu/T////8BkACIwwLQvf/n//8/ABIAcVgAuvf//P//B0ACIA4LQPf+n////wBI"
    "AMRhAeje//P//x8ACYA4LADd+3/+//8DIAEQhwWge//P//9/ACQA4rAAdO//+f//D4AEQBwWgO79P////wGQAIjDAtC9"
    "/+f//z8AEgBxWAC69//8//8HQAIgDgtA9/6f////AEgAxGEB6N7/8///HwAJgDgsAN37f/7//wMgARCHBaB7/z8="
)
"""256 MiB of zeros in 203 bytes: made once, since brotli is not installed everywhere."""
_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflated(256 * MIB) + bytes(8)

BOMBS: dict[str, tuple[str, bytes, type[CallsError]]] = {
    "gzip": ("gzip", _GZIP, AnswerTooLargeError),
    "gzip-twice": ("gzip, gzip", gzip.compress(_GZIP), ProtocolError),
    "gzip-members": ("gzip", gzip.compress(b"") * 50_000, ProtocolError),
    "zlib": ("deflate", b"\x78\xda" + _deflated(256 * MIB) + bytes(4), AnswerTooLargeError),
    "deflate": ("deflate", _deflated(256 * MIB), AnswerTooLargeError),
    "br": ("br", _BROTLI, ProtocolError),
    "zstd": ("zstd", _zstd(8 * GIB, window=20), ProtocolError),
    "zstd-window": ("zstd", _zstd(8 * GIB, window=27), ProtocolError),
    "no-such-coding": ("x-bomb", bytes(MIB), ProtocolError),
}
"""The coding, the body, and how it ends."""


def _bombs() -> Iterator[tuple[str, Size]]:
    for name, (coding, body, ends) in BOMBS.items():
        field = f"Content-Encoding: {coding}"
        yield f"bomb-{name}", ([http(body, field)], ends)
        yield f"bomb-{name}-chunked", ([_head(field, _CHUNKED), *_chunks(body, 4096)], ends)
        busy = http(body, field, "Retry-After: 1", status="429 Too Many Requests")
        yield f"bomb-{name}-of-429", ([busy], RateLimitedError)


# --- Bodies --------------------------------------------------------------------------------------

_CHUNKED = "Transfer-Encoding: chunked"


def _head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *fields, "", "")).encode()


def _chunks(body: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(body), size):
        chunk = body[at : at + size]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def _endless(head: bytes, part: bytes) -> Iterator[bytes]:
    yield head
    yield from itertools.repeat(part, 8 * GIB // len(part))


def _long_bodies() -> Iterator[tuple[str, Size]]:
    blank = b" " * 65_536
    length = f"Content-Length: {8 * GIB}"
    for status, ends in (
        ("200 OK", AnswerTooLargeError),
        ("404 Not Found", NotFoundError),
        ("500 Oops", ServerError),
    ):
        name = f"8-GiB-of-{status[:3]}"
        yield f"{name}-declared", (_endless(_head(length, status=status), blank), ends)
        yield f"{name}-until-closed", (_endless(_head(status=status), blank), ends)
        chunked = _head(_CHUNKED, status=status)
        yield f"{name}-in-a-chunk", (_endless(chunked + b"200000000\r\n", blank), ends)
        yield f"{name}-in-chunks", (_endless(chunked, b"10000\r\n%b\r\n" % blank), ends)
        for size in (1, 2) if status == "200 OK" else ():
            small = b"%x\r\n%b\r\n" % (size, b" " * size) * 1000
            yield f"{name}-in-chunks-of-{size}", (_endless(chunked, small), ends)
    yield "length-beyond-all", ([_head(f"Content-Length: {10**30}"), blank], ProtocolError)
    yield "chunk-beyond-all", ([_head(_CHUNKED) + b"f" * 40 + b"\r\n", blank], ProtocolError)


# --- Heads ---------------------------------------------------------------------------------------


def _long_heads() -> Iterator[tuple[str, Size]]:
    many = b"x" * 65_536
    begun = b"HTTP/1.1 200 OK\r\n"
    chunked = _head(_CHUNKED)
    for name, head, part in (
        ("status-line", b"HTTP/1.1 200 ", many),
        ("version", b"HTTP/1.1", b"1" * 65_536),
        ("field", begun + b"X: ", many),
        ("field-name", begun, many),
        ("fields", begun, b"X: y\r\n" * 1000),
        ("folded-field", begun + b"X: y\r\n", b" y\r\n" * 1000),
        ("length", begun + b"Content-Length: ", b"1" * 65_536),
        ("trailers", chunked + b"0\r\n", b"X: y\r\n" * 1000),
        ("trailer", chunked + b"0\r\nX: ", many),
    ):
        yield f"endless-{name}", (_endless(head, part), ProtocolError)
    # The largest head that there may be: everything in it is read, hints included.
    for name, value in (
        ("X", "y" * 8000),
        ("RateLimit", '"a";r=1;t=1, ' * 600 + '"b";r=1'),
        ("RateLimit-Policy", '"a";q=1;w=1, ' * 600 + '"b";q=1'),
        ("Retry-After", "9" * 8000),
        ("Retry-After", "Wed, " * 1600),
        ("Set-Cookie", "a=b; " * 1600),
    ):
        call_id = f"large-{name}-{value[0]}"
        yield call_id, ([http(record(call_id), *[f"{name}: {value}"] * 120)], bytes)


# --- Documents under the cap ---------------------------------------------------------------------


def _filled(unit: str) -> str:
    """An array of as many such values as the cap allows."""
    return "[" + ",".join([unit] * ((CAP - 2000) // (len(unit) + 1))) + "]"


def _nested(begin: str, end: str, inner: str = "0", *, depth: int = 1000) -> str:
    return begin * depth + inner + end * depth


_ESCAPED = "\\u00e9"
VALUES: dict[str, tuple[str, type[object]]] = {
    "1000000-brackets": ("[" * 1_000_000, DecodeError),
    "500000-arrays": (_nested("[", "]", depth=500_000), DecodeError),
    "150000-objects": (_nested('{"":', "}", depth=150_000), DecodeError),
    "deep-arrays": (_filled(_nested("[", "]")), bytes),
    "deep-objects": (_filled(_nested('{"":', "}")), bytes),
    "deep-objects-and-a-surrogate": (_filled(_nested('{"":', "}", '"\\ud800"')), DecodeError),
    "empty-arrays": (_filled("[]"), bytes),
    "empty-objects": (_filled("{}"), bytes),
    "small-objects": (_filled('{"":{}}'), bytes),
    "floats": (_filled("1.5"), bytes),
    "ints": (_filled("1000"), bytes),
    "10000-digits": ("1" * 10_000, DecodeError),
    "1000000-digits": ("1" * 1_000_000, DecodeError),
    "1000000-digits-behind-the-point": ("0." + "1" * 1_000_000, bytes),
    "1000000-digits-of-exponent": ("1e" + "1" * 1_000_000, DecodeError),
    "10000-digits-too-many": ("[" + "1" * 10_000 + ",1e999]", DecodeError),
    "members": (json.dumps({f"{n:x}": 0 for n in range(90_000)}), bytes),
    "1000000-members": ("{" + ",".join(['"":0'] * 1_000_000) + "}", bytes),
    "the-same-member": ("{" + ",".join(['"a":0'] * 170_000) + "}", bytes),
    "escapes": (f'"{_ESCAPED * 170_000}"', bytes),
    "surrogate-pairs": (f'"{chr(92)}ud83d{chr(92)}ude42{_ESCAPED * 170_000}"', bytes),
    "lone-surrogates": ('"' + "\\ud800" * 170_000 + '"', DecodeError),
    "quotes": ('"' + '\\"' * 500_000 + '"', bytes),
    "wide-text": ('"🙂' + "x" * 1_000_000 + '"', bytes),
    "no-end-of-text": ('"' + "x" * 1_000_000, DecodeError),
    "blanks": (" " * 1_000_000 + "0", bytes),
}
"""A JSON value (or what looks like one), and how the record with it in an unknown member ends."""


def _documents(name: str, value: str) -> Iterator[tuple[str, bytes]]:
    """The value alone, and in an unknown member of a record that is otherwise right."""
    call_id = f"unknown-{name}"
    yield call_id, record(call_id)[:-1] + f', "x": {value}}}'.encode()
    yield f"alone-{name}", value.encode()
