"""Heads of answers: what is read, what is left alone, and what is remembered of them."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, MultiMapping

from calls_async._headers import HINT_FIELDS
from calls_async._transport._head import _MOST_KNOWN, Fields, Heads

BEGINNING = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 7"


def head(*lines, length=LENGTH):
    """A head with these lines and a length."""
    return BEGINNING + b"\r\n".join((*lines, length))


def test_a_usual_head():
    """Its length, its fields, and that no field is about sending more."""
    length, fields, silent = Heads().read(head(b"X-Request-Id:  r-1 ", b"Date: now"))
    assert (length, silent) == (7, True)
    assert fields.get("x-request-id") == "r-1"
    assert fields["date"] == "now"


@pytest.mark.parametrize("name", HINT_FIELDS)
def test_a_hint_breaks_the_silence(name):
    """Each field that may say something about sending more is noticed, however it is spelled."""
    for spelled in (name, name.lower(), name.upper()):
        heads = Heads()
        for _ in range(2):
            assert not heads.read(head(f"{spelled}: 1".encode()))[2]


UNUSUAL = [
    b"",
    BEGINNING[:-2],
    BEGINNING,
    BEGINNING + b"X: y",
    head(b"Content-Length: 7"),
    head(length=b"Content-Length:"),
    head(length=b"Content-Length"),
    head(length=b"Content-Length: 5, 5"),
    head(length=b"Content-Length: +5"),
    head(length=b"Content-Length: -5"),
    head(length=b"Content-Length: 5_0"),
    head(length=b"Content-Length: \xb2"),
    head(length=b"Content-Length: " + b"9" * 16),
    head(length=b"Content-Length : 5"),
    head(length=b"Content-Length:\r\n 5"),
    head(b"X: y", b" z"),
    head(b"X: y", b"\tz"),
    head(b": y"),
    head(b"X"),
    head(b"X Y: z"),
    head(b"X\xff: z"),
    *(head(b"X: a" + bytes([byte]) + b"b") for byte in b"\0\x01\n\r\x0b\x0c\x1f\x7f"),
    head(b"X: " + b"y" * 8_000),
    head(*(b"X: y" for _ in range(64))),
    head(b"Connection: close"),
    head(b"Connection: keep-alive, close"),
    head(b"Connection: upgrade"),
    head(b"Proxy-Connection: close"),
    head(b"Transfer-Encoding: chunked"),
    head(b"Transfer-Encoding: identity"),
    head(b"Content-Encoding: gzip"),
    head(b"Upgrade: h2c"),
    head(b"Trailer: X"),
    head(b"Sec-WebSocket-Key1: 1"),
    head().replace(b"HTTP/1.1", b"HTTP/1.0"),
    head().replace(b"HTTP/1.1", b"http/1.1"),
    head().replace(b"OK", b"Ok"),
    head().replace(b"200", b"201"),
    head().replace(b"\r\n", b"\n"),
    b"\r\n" + head(),
]


@pytest.mark.parametrize("unusual", UNUSUAL, ids=lambda text: repr(text[17:60]))
def test_what_is_unusual_is_left_alone(unusual):
    """Also when the same names and lines were seen in heads that were not, and the second time."""
    heads = Heads()
    for line in (b"X: y", b"X Y", b"X-Request-Id: 1", b"Connection: keep-alive"):
        heads.read(head(line))
    for reader in (Heads(), heads, heads):
        assert reader.read(unusual) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: Keep-Alive",
        b"CONNECTION:keep-alive\t",
        b"Content-Encoding: identity",
        b"X:",
        b"X: \xff\x80\tz",
        b"Keep-Alive: timeout=5",
        b"X: " + b"y" * 7_990,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_what_is_harmless_is_read(line):
    """A field that does not change how the answer is to be read keeps nobody."""
    heads = Heads()
    for _ in range(2):
        assert heads.read(head(line))[0] == 7


@pytest.mark.parametrize(
    "line",
    [
        lambda number: f"X: {number}".encode(),
        lambda number: f"X-{number}: y".encode(),
        lambda number: f"X-{number}{'-' * 400}: {'y' * 90}".encode(),
        lambda number: f"X: {number}{'y' * 7_000}".encode(),
        lambda number: f"X-{number}{'-' * 7_000}: y".encode(),
        lambda number: f"X-Request-Id: {number}".encode(),
        lambda number: f"X-{number}".encode(),
        lambda number: f"X-{number}: \0".encode(),
    ],
)
def test_what_is_remembered_is_bounded(line):
    """Whatever a server sends, never more than so many lines and names, of 512 bytes each."""
    heads = Heads()
    for number in range(3 * _MOST_KNOWN):
        for length in (LENGTH, f"Content-Length: {number}".encode()):
            heads.read(head(line(number), length=length))
            assert max(len(heads._known), len(heads._names)) <= _MOST_KNOWN
        if number % 100 == 99:
            assert all(len(text) <= 512 for text in (*heads._known, *heads._names))


def test_a_request_id_is_never_remembered():
    """It is another each time."""
    heads = Heads()
    for number in range(9):
        heads.read(head(f"X-Request-Id: {number}".encode()))
    assert [*heads._known] == [LENGTH]


def test_fields_are_a_mapping_without_regard_to_case():
    """In each way of asking they are what aiohttp's own mapping of the same fields is."""
    pairs = [("X-Request-Id", "r-1"), ("A", "1"), ("a", "2"), ("B", ""), ("x-request-id", "r-2")]
    lines = [f"{name}: {value}".encode() for name, value in pairs]
    fields, theirs = Fields(lines, lines[0]), CIMultiDict(pairs)
    assert isinstance(fields, MultiMapping)
    nothing = object()
    for name in ("X-Request-Id", "x-request-id", "X-REQUEST-ID", "A", "a", "b", "none"):
        assert (name in fields) == (name in theirs)
        assert fields.get(name) == theirs.get(name)
        for way in ("get", "getone", "getall"):
            assert getattr(fields, way)(name, nothing) == getattr(theirs, way)(name, nothing)
        for way in ("__getitem__", "getone", "getall"):
            assert caught(getattr(fields, way), name) == caught(getattr(theirs, way), name)
    assert (len(fields), [*fields]) == (len(theirs), [*theirs])
    for way in ("keys", "values", "items"):
        assert [*getattr(fields, way)()] == [*getattr(theirs, way)()]
    assert 1 not in fields


def caught(way, name):
    """What comes of asking so, or that nothing does."""
    try:
        return way(name)
    except KeyError:
        return KeyError


def test_without_a_request_id_there_is_none():
    """Neither in a hurry nor otherwise."""
    fields = Fields([LENGTH], None)
    assert fields.get("x-request-id") is fields.get("X-Request-Id") is None
    assert fields.get("x-request-id", "none") == "none"
