"""Answers as servers, proxies and attackers may write them, for the client to be asked; generated.

The rule: an answer is built from its parts (interim answers, status line, fields, framing, content,
what follows it), each of which is legal most of the time, so that the depths are reached. Each
answer knows which record it carries, if any: no other may ever reach a user.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from tests.documents import MEMBERS, MISSING, example, json_values, put
from tests.property.test_headers_total import values as hint_values

CALL_ID: Final = "call-1"
"""The id that is asked for."""
OPTIONAL: Final = [member.path for member in MEMBERS if not member.required]


@attrs.frozen
class Planned:
    """What a server does with one request.

    Attributes:
        data: The bytes that it sends.
        record: The body of the only record that may be read from them; `None`: there is none.
        then: "close", "reset", or "wait" for the next request.
    """

    data: bytes
    record: bytes | None
    then: str


# --- Bodies --------------------------------------------------------------------------------------


@st.composite
def documents(draw: st.DrawFn, call_id: str) -> dict[str, Any]:
    """Valid records of one id: the page's example with a few changes.

    Not `tests.documents.call_documents`, which draws every member, and so takes most of the time.
    """
    document = example() | {"id": call_id}
    for path in draw(st.lists(st.sampled_from(OPTIONAL), max_size=3)):
        put(document, path, draw(st.sampled_from([None, MISSING])))
    document |= draw(
        st.dictionaries(st.text(max_size=8).map("x".__add__), json_values(), max_size=2)
    )
    return document | {"notes": draw(st.text(max_size=20))}


def bodies(call_id: str) -> st.SearchStrategy[bytes]:
    """The same as text."""
    return documents(call_id).map(lambda document: json.dumps(document).encode())


others = bodies("call-2")
garbage = (
    st.binary(max_size=60)
    | st.sampled_from([b"", b"{}", b"null", b"<html>502</html>", b'{"id": "call-1"', b"[" * 3000])
    | bodies(CALL_ID).map(lambda body: body[: len(body) // 2])
)

# --- Heads ---------------------------------------------------------------------------------------

tokens = st.text(
    "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.!#$%&'*+^`|~", min_size=1, max_size=12
)
hints = st.tuples(
    st.sampled_from(
        [
            *("Age", "Date", "Retry-After", "retry-after-ms", "RateLimit", "RateLimit-Policy"),
            *("X-RateLimit-Remaining", "X-RateLimit-Reset", "x-should-retry", "x-request-id"),
        ]
    ),
    hint_values.map(lambda text: text.encode(errors="surrogatepass")[:60]),
)
plain = st.tuples(
    tokens.map(lambda token: f"X-{token}"),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.encode),
)
risky = st.tuples(
    st.sampled_from(
        [
            *("Content-Length", "Transfer-Encoding", "Content-Encoding", "Connection", "Upgrade"),
            *(
                "Trailer",
                "Location",
                "Set-Cookie",
                "Content-Type",
                "WWW-Authenticate",
                "",
                " ",
                ":",
            ),
        ]
    ),
    st.sampled_from(
        [
            *(b"0", b"-1", b"+5", b"5, 5", b"1_0", b"99999999999999999999", b"0x5", b"", b" "),
            *(b"chunked", b"identity", b"gzip", b"chunked, chunked", b"gzip, chunked", b"xchunked"),
            *(
                b"close",
                b"keep-alive",
                b"upgrade",
                b"h2c",
                b"/",
                b"a=b; Path=/",
                b"text/html; charset=x",
            ),
        ]
    )
    | st.binary(max_size=20),
)
safe_names = st.sampled_from([": ", ":", ":\t", ":   "])
unsafe_names = st.sampled_from([": ", " : ", "", "\t:", ":\r\n "])
line_ends = st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r", b"\r\r\n"])


@st.composite
def heads(draw: st.DrawFn, framing: list[tuple[str, bytes]], *, legal: bool) -> bytes:
    """A status line and fields, the framing's among them at any place."""
    if legal:
        start = draw(
            st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200 Very well"])
        )
        fields, between, end = draw(st.lists(plain, max_size=6)), safe_names, b"\r\n"
    else:
        version = draw(
            st.sampled_from(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.", "ICY"])
        )
        status = draw(
            st.sampled_from(
                ["200"] * 6 + ["429", "503", "500", "204", "304", "101", "600", "20", "-1"]
            )
        )
        reason = draw(st.sampled_from(["OK", "", "x" * 9000]) | st.text(max_size=10))
        start = f"{version} {status} {reason}".encode(errors="replace")
        fields = draw(st.lists(st.one_of(hints, plain, plain, plain, risky), max_size=6))
        between = draw(st.sampled_from([safe_names] * 5 + [unsafe_names]))
        end = draw(line_ends)
    fields = draw(st.permutations([*fields, *framing]))
    lines = [name.encode() + draw(between).encode() + value for name, value in fields]
    return end.join([start, *lines, b"", b""])


# --- Framings ------------------------------------------------------------------------------------


extensions = st.sampled_from(["", "", ";a", ";a=b", ';a="b;c"'])
# The blanks are legal too (RFC 9112, 7.1.1), but aiohttp's parser refuses them.
rare_extensions = st.sampled_from(["; a = b", ";", ";;", ';a="', ";a=b\x00", ";" + "a" * 20_000])


@st.composite
def chunked(draw: st.DrawFn, content: bytes, *, legal: bool) -> bytes:
    """The content in chunks, with extensions and trailers; the sizes may lie."""
    parts = []
    while content:
        size = draw(st.integers(1, max(1, len(content))))
        told = size if legal else size + draw(st.sampled_from([0] * 20 + [1, -1, 2**32, 2**64]))
        form = draw(
            st.sampled_from(["{:x}", "{:X}", "0{:x}"] if legal else ["{:x}", "-{:x}", "0x{:x}"])
        )
        extension = draw(extensions if legal else extensions | rare_extensions)
        parts.append(f"{form.format(told)}{extension}\r\n".encode() + content[:size] + b"\r\n")
        content = content[size:]
    trailers = draw(st.lists(plain if legal else plain | risky | hints, max_size=2))
    lines = [name.encode() + b": " + value + b"\r\n" for name, value in trailers]
    last = b"0" if legal else draw(st.sampled_from([b"0", b"0", b"000", b"", b"g", b"0;x"]))
    return b"".join([*parts, last, b"\r\n", *lines, b"\r\n"])


def coded(content: bytes, coding: str) -> bytes:
    """The content in a content coding."""
    return {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[coding](content)


codings = st.sampled_from(["identity", "identity", "identity", "gzip", "deflate"])


@st.composite
def framed(draw: st.DrawFn, body: bytes, *, legal: bool) -> tuple[bytes, bool]:
    """A whole answer with this body, and whether only the end of the connection ends it."""
    coding = draw(codings)
    content = coded(body, coding)
    fields = [] if coding == "identity" else [("Content-Encoding", coding.encode())]
    kind = draw(st.sampled_from(["length", "chunked", "close"]))
    if kind == "length":
        told = len(content) + (0 if legal else draw(st.sampled_from([0, 0, 0, 0, 1, -1, 5000])))
        fields.append(("Content-Length", str(told).encode()))
    elif kind == "chunked":
        fields.append(("Transfer-Encoding", b"chunked"))
        content = draw(chunked(content, legal=legal))
    return draw(heads(fields, legal=legal)) + content, kind == "close"


# --- Answers -------------------------------------------------------------------------------------

ends = st.sampled_from(["close", "wait"])
interims = st.sampled_from(
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 102 \r\n\r\n",
    ]
)


@st.composite
def legal_answers(draw: st.DrawFn) -> Planned:
    """Answers without a fault: the record has to be read."""
    record = draw(bodies(CALL_ID))
    data, until_close = draw(framed(record, legal=True))
    before = b"".join(draw(st.lists(interims, max_size=2)))
    return Planned(before + data, record, "close" if until_close else draw(ends))


@st.composite
def any_answers(draw: st.DrawFn) -> Planned:
    """Answers with any number of faults, and with what does not belong to them before and after."""
    whose = draw(st.sampled_from(["asked", "asked", "other", "nobody"]))
    body = draw({"asked": bodies(CALL_ID), "other": others, "nobody": garbage}[whose])
    data, _ = draw(framed(body, legal=draw(st.sampled_from([True, True, False]))))
    before = draw(st.sampled_from([b"", b"", b""]) | interims | st.binary(max_size=5))
    after = b""
    if draw(st.sampled_from([False, False, True])):
        unsolicited = others.flatmap(lambda other: framed(other, legal=True)).map(
            lambda pair: pair[0]
        )
        after = draw(unsolicited | st.binary(max_size=20))
    data = before + data + after
    if draw(st.sampled_from([False] * 4 + [True])):
        data = data[: draw(st.integers(0, len(data)))]
    # "wait" costs the time of an attempt where the answer has no end.
    record = body if whose == "asked" else None
    return Planned(data, record, draw(st.sampled_from(["close", "close", "reset", "wait"])))
