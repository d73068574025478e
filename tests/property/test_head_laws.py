"""What the lane makes of a head is what aiohttp's parser makes of the same bytes, or nothing."""

from __future__ import annotations

import asyncio

import aiohttp.http_parser
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import example, given
from hypothesis import strategies as st

from calls_async._headers import HINT_FIELDS
from calls_async._transport._head import Heads

BEGINNING = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n\r\n"
ONE = b"Content-Length: 1"
PARSER = vars(aiohttp.http_parser).get("HttpResponseParserC")
HINTS = tuple(name.lower() for name in HINT_FIELDS)


# --- Heads ---------------------------------------------------------------------------------------

NAMES = (
    b"Content-Length", b"content-length", b"Content-Type", b"Date", b"X-Request-Id",
    b"x-request-id", b"Connection", b"Proxy-Connection", b"Keep-Alive", b"Transfer-Encoding",
    b"Content-Encoding", b"Upgrade", b"Trailer", b"TE", b"Retry-After", b"RateLimit",
    b"X-RateLimit-Remaining", b"Set-Cookie", b"Server", b"ETag", b"Content-Range", b"Location",
    b"Sec-WebSocket-Key1", b"Sec-WebSocket-Accept", b"Host", b"X", b"x", b"!#$%&'*+-.^_`|~09",
)  # fmt: skip
VALUES = (
    b"", b"0", b"1", b"7", b"007", b"+5", b"-5", b"5, 5", b"5,5", b"0x5", b"5 5", b"5;", b"1_0",
    b"9" * 15, b"9" * 16, b"9" * 30, b"close", b"keep-alive", b"Keep-Alive", b"keep-alive, close",
    b"upgrade", b"keep-alive, upgrade", b"chunked", b"identity", b"gzip", b"gzip, identity", b"h2c",
    b"a", b"a=b; c", b"\xc3\xa9", b"\xff", b"\xed\xa0\x80", b"a\tb", b"a  b", b"a\x00b", b"a\x7fb",
    b"a\nb", b"a\rb", b"a\x0bb", b"a\r\n b", b"\xb2", b"\xef\xbc\x95", b"timeout=0, max=0",
    b"y" * 7_000, b"y" * 7_990, b"y" * 8_200,
)  # fmt: skip
BLANKS = (b"", b"", b"", b" ", b"\t", b"  ", b" \t ")
COLONS = (b": ", b":", b":\t", b" : ", b":  \t", b"", b" ")

lines = st.builds(
    lambda name, colon, value, blank: name + colon + value + blank,
    st.sampled_from(NAMES) | st.text("aAzZ09-_", min_size=1, max_size=9).map(str.encode),
    st.sampled_from((b": ",) * 12 + COLONS),
    st.sampled_from(VALUES) | st.binary(max_size=9),
    st.sampled_from(BLANKS),
)
usual_lines = st.builds(
    lambda name, value: name + b": " + value,
    st.sampled_from((b"Date", b"X-Request-Id", b"Server", b"Retry-After", b"Set-Cookie", b"X")),
    st.text("azAZ09 ,;=\xe9\t", max_size=20).map(str.encode),
)
lengths = st.builds(
    lambda name, length, blank: name + b": " + str(length).encode() + blank,
    st.sampled_from((b"Content-Length", b"content-length", b"CONTENT-LENGTH")),
    st.integers(0, 99),
    st.sampled_from((b"", b" ")),
)


@st.composite
def usual_heads(draw):
    """Heads as a healthy server sends them."""
    others = draw(st.lists(usual_lines, max_size=8))
    others.insert(draw(st.integers(0, len(others))), draw(lengths))
    return BEGINNING + b"\r\n".join(others)


@st.composite
def odd_heads(draw):
    """Heads with any fields; most have a length somewhere."""
    fields = draw(st.lists(lines | usual_lines, max_size=6))
    if draw(st.integers(0, 9)):
        fields.insert(draw(st.integers(0, len(fields))), draw(lengths))
    return BEGINNING + b"\r\n".join(fields)


@st.composite
def mutated_heads(draw):
    """Heads of which some bytes are gone, doubled, or others."""
    head = bytearray(draw(usual_heads() | odd_heads()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(head) - 1))
        new = draw(st.sampled_from((b"", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\x00", b":", b",")))
        cut = draw(st.integers(0, 2))
        head[at : at + cut] = new or draw(st.binary(max_size=2))
    return bytes(head)


heads = usual_heads() | odd_heads() | mutated_heads()


# --- What aiohttp makes of them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def parsed():
    """Reads a head and a body of so many bytes with a new parser of aiohttp's."""
    if PARSER is None:
        pytest.skip("aiohttp was built without its parser in C")
    loop = asyncio.new_event_loop()

    def read(head, length):
        parser = PARSER(BaseProtocol(loop), loop, 2**16, read_until_eof=True, auto_decompress=False)
        return parser.feed_data(head + END + b"x" * length)

    yield read
    loop.close()


def check(heads, head, parsed):
    """Compare; whether the head was read."""
    head = (head + END).partition(END)[0]
    got = heads.read(head + END)
    if got is None:
        return False
    begin, length, fields, silent = got
    assert begin == len(head + END)
    body = min(length, 100)  # of a length that nobody could send only the beginning
    messages, upgraded, tail = parsed(head, body)
    ((message, content),) = messages
    assert (upgraded, tail) == (False, b"")
    assert (message.code, message.reason, tuple(message.version)) == (200, "OK", (1, 1))
    assert not message.should_close
    assert not message.chunked
    assert not message.upgrade
    assert message.compression is None
    assert content.is_eof() == (length == body)
    told = message.headers.getall("content-length")
    assert [int(each) for each in told] == [length]
    theirs = [(name.lower(), value) for name, value in message.headers.items()]
    assert [(name.lower(), value) for name, value in fields.items()] == theirs
    assert len(fields) == len(theirs)
    for name, _ in theirs:
        assert fields.getall(name) == message.headers.getall(name)
    assert fields.get("x-request-id") == message.headers.get("x-request-id")
    assert silent == (not any(name in HINTS for name, _ in theirs))
    return True


@given(st.lists(heads, min_size=1, max_size=4))
@example(
    [BEGINNING + b"Server: a\r\nContent-Length: 1", BEGINNING + b"Server\r\nContent-Length: 1"]
)
@example([BEGINNING + ONE + b"\t"])
@example([BEGINNING + b"Proxy-Connection: close\r\n" + ONE])
@example([BEGINNING + b"Sec-WebSocket-Key1: a\r\n" + ONE])
def test_a_head_is_read_as_aiohttp_reads_it_or_not_at_all(parsed, given_heads):
    """Length, fields, their order and values are aiohttp's, whatever was read before."""
    warm = Heads()
    for head in given_heads:
        cold = check(Heads(), head, parsed)
        assert check(warm, head, parsed) is cold
        assert check(warm, head, parsed) is cold


@given(usual_heads())
def test_what_a_healthy_server_sends_is_read(parsed, head):
    """The laws above are not about nothing."""
    assert check(Heads(), head, parsed)
