"""Heads of answers: what is read, what is left alone, and what is remembered of them."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, MultiMapping

from calls_async._headers import HINT_FIELDS
from calls_async._transport import _head
from calls_async._transport._head import _MOST_KINDS, _MOST_LEARNT, Fields, Heads

BEGINNING = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n\r\n"
LENGTH = b"Content-Length: 7"


def head(*lines, length=LENGTH):
    """A head with these lines and a length, and the empty line that ends it."""
    return BEGINNING + b"\r\n".join((*lines, length)) + END


def patterns(heads):
    """The patterns that are held."""
    return [kind.match.__self__.pattern for kind in heads._kinds]


def test_a_usual_head():
    """Its length, its fields, and that no field is about sending more."""
    came = head(b"X-Request-Id:  r-1 ", b"Date: now") + b"and more"
    begin, length, fields, silent = Heads().read(came)
    assert (came[begin:], length, silent) == (b"and more", 7, True)
    assert fields.get("x-request-id") == "r-1"
    assert fields["date"] == "now"


@pytest.mark.parametrize("name", HINT_FIELDS)
def test_a_hint_breaks_the_silence(name):
    """Each field that may say something about sending more is noticed, however it is spelled."""
    for spelled in (name, name.lower(), name.upper()):
        heads = Heads()
        for _ in range(2):
            assert not heads.read(head(f"{spelled}: 1".encode()))[3]


UNUSUAL = [
    b"",
    BEGINNING[:-2],
    BEGINNING,
    BEGINNING + END,
    BEGINNING + b"X: y" + END,
    head()[:-1],
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
        assert heads.read(head(line))[1] == 7


@pytest.mark.parametrize(
    "line",
    [
        lambda number: f"X-{number}: y",
        lambda number: f"X-{number}{'-' * 1_900}: y",
        lambda number: f"X-{number}{'-' * 7_000}: y",
        lambda number: f"X-{number}",
        lambda number: f"X-{number}: \0",
    ],
)
def test_what_is_remembered_is_bounded(line):
    """Whatever a server sends, never more than so many kinds, and none with long names."""
    heads = Heads()
    for number in range(2 * _MOST_LEARNT):
        heads.read(head(line(number).encode()))
        assert len(heads._kinds) <= _MOST_KINDS
    assert heads._learnt <= _MOST_LEARNT
    assert max(map(len, patterns(heads)), default=0) < 6_000


def test_other_values_are_no_other_kind():
    """Dates, lengths and request ids change all the time."""
    heads = Heads()
    for number in range(9):
        told = f"X-Request-Id: {number}", f"Date: {number}"
        given = head(*map(str.encode, told), length=f"Content-Length: {number}".encode())
        assert heads.read(given)[1] == number
    assert heads._learnt == 1


@pytest.mark.parametrize("needed", [LENGTH, b"X-Request-Id: r-1"])
def test_what_stays_the_same_is_matched_once_and_still_has_to_be_there(needed):
    """An answer that begins as the last one did is read alike, and one that does not as well."""
    heads = Heads()
    for date in (b"Date: 1", b"Date: 1", b"Date: 2", b"Date: 1"):
        given = head(b"A: 1", date, *([] if needed is LENGTH else [needed]))
        assert heads.read(given)[2]["date"] == date[-1:].decode()
    spoilt = given.replace(b"Content-Length: 7", b"Content-Length: 7, 7")
    assert heads.read(spoilt) is None
    assert heads.read(given.replace(b"A: 1", b"A: \0")) is None


def test_who_orders_the_fields_anew_each_time_is_left_alone_in_the_end():
    """And the kinds that are known by then are still read."""
    heads = Heads()
    read = [heads.read(head(f"X-{number}: y".encode())) for number in range(_MOST_LEARNT + 1)]
    assert read[-1] is None
    assert None not in read[:-1]
    assert heads.read(head(f"X-{_MOST_LEARNT - 1}: y".encode())) is not None


def test_the_kind_that_came_last_is_tried_first():
    """Behind one address there may be two servers."""
    heads = Heads()
    for line in (b"A: 1", b"B: 1", b"A: 2"):
        assert heads.read(head(line)) is not None
        assert line[:1] in patterns(heads)[0]
    assert heads._learnt == 2


def test_fields_are_a_mapping_without_regard_to_case():
    """In each way of asking they are what aiohttp's own mapping of the same fields is."""
    pairs = [("X-Request-Id", "r-1"), ("A", "1"), ("a", "2"), ("B", ""), ("x-request-id", "r-2")]
    lines = [f"{name}: {value}".encode() for name, value in pairs]
    fields = Fields((BEGINNING, b"\r\n".join(lines), b"\r\n\r\n"), "r-1")
    theirs = CIMultiDict(pairs)
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
    fields = Fields((BEGINNING + LENGTH,), None)
    assert fields.get("x-request-id") is fields.get("X-Request-Id") is None
    assert fields.get("x-request-id", "none") == "none"


# --- The last head again -------------------------------------------------------------------------

ORDERS = {
    "length first": head(b"Content-Length: %b", b"A: 1", b"X-Request-Id: %b", length=b"B: 2"),
    "id first": head(b"X-Request-Id: %b", b"A: 1", length=b"Content-Length: %b"),
}
LENGTHS = [
    b"0",
    b"7",
    b"12345",
    b"",
    b"+5",
    b"5 ",
    b"5, 5",
    b"\xb2",
    b"9" * 16,
    b"5\r\nContent-Length: 6",
]
IDS = [
    *(b"", b"r-2", b"  r 3\t", b"\xe9", b"a\0b", b"a\x7fb", b"a\nb", b"a\r\nContent-Length: 5"),
    *(b"a\r\nTransfer-Encoding: chunked", b"a\rb", b"a" * 2_048, b"a" * 2_049, b"a" * 8_001),
]  # fmt: skip
PLACES = 9
"""Of a head, how many are changed in a way that a value is not."""


@pytest.mark.parametrize("order", ORDERS)
def test_the_last_head_again_is_read_as_if_it_were_the_first(order):
    """Whatever stands in place of its two values, and whatever else has changed."""
    heads = Heads()

    def of(length, request_id):
        values = (length, request_id) if order == "length first" else (request_id, length)
        return ORDERS[order] % values

    usual = of(b"7", b"r-1")
    for length in LENGTHS:
        for request_id in IDS:
            given = of(length, request_id)
            for came in (given, given + b"body", given[:-1], given[:-30], b"\r\n" + given):
                heads.read(usual)
                same(heads.read(came), Heads().read(came))
    for place in range(0, len(usual), len(usual) // PLACES):
        for other in (b"\0", b"a", b":", b"\r", b"\n"):
            came = usual[:place] + other + usual[place + 1 :]
            heads.read(usual)
            same(heads.read(came), Heads().read(came))


def same(read, anew):
    """Two readings of the same head are equal."""
    assert (read is None) == (anew is None)
    if read is not None:
        assert (read[0], read[1], read[3]) == (anew[0], anew[1], anew[3])
        assert [*read[2].items()] == [*anew[2].items()]
        assert read[2].get("x-request-id") == anew[2].get("x-request-id")


def test_a_head_without_a_request_id_is_read_again_as_well():
    """Then the length alone may change."""
    heads = Heads()
    for number in range(3):
        read = heads.read(head(b"A: 1", length=f"Content-Length: {number}".encode()))
        assert (read[1], read[2].get("x-request-id")) == (number, None)
    assert heads._last.misses < 0


def test_a_head_that_never_comes_again_is_seldom_remembered(monkeypatch):
    """Where each has a field of its own, to remember it would cost more than it spares."""
    made = []
    kept = _head._Last
    monkeypatch.setattr(_head, "_Last", lambda *given: made.append(1) or kept(*given))
    heads = Heads()
    for number in range(2 * _head._MOST_MISSES):
        heads.read(head(f"Date: {number}".encode()))
    assert len(made) == 2
    # One that has come again is worth it.
    for number in (b"now", b"now", b"then", b"then"):
        heads.read(head(b"Date: " + number))
    assert heads._last.misses < 0


def test_what_is_behind_an_answer_is_none_of_it():
    """What it is held against is a room that others have filled before, and further."""
    heads, whole = Heads(), head(b"X-Request-Id: r-1")
    room = memoryview(whole + b"{}" + whole)
    assert heads.again(room, len(whole)) is None
    heads.read(whole)
    for size in (0, 1, len(whole) - 1):
        assert heads.again(room, size) is None
    begin, length, fields, silent = heads.again(room, len(whole))
    assert (begin, length, silent) == (len(whole), 7, True)
    assert fields.get("x-request-id") == "r-1"
    assert [*fields.items()] == [("X-Request-Id", "r-1"), ("Content-Length", "7")]
