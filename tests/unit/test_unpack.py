"""Unpacking: what Python reads is read, under the cap; what it does not is refused by name."""

from __future__ import annotations

import gzip
import zlib

import pytest

from calls_async._transport._unpack import unpacked
from calls_async.errors import AnswerTooLargeError, ProtocolError

MOST = 1000
CONTENT = b'{"id": "call-1"}'


def raw_deflate(data):
    """The stream alone, without zlib's header."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([], CONTENT),
        (["identity"], CONTENT),
        (["", " , identity"], CONTENT),
        (["gzip"], gzip.compress(CONTENT)),
        (["GZip "], gzip.compress(CONTENT)),
        (["x-gzip"], gzip.compress(CONTENT)),
        (["identity, gzip"], gzip.compress(CONTENT)),
        (["deflate"], zlib.compress(CONTENT)),
        (["deflate"], raw_deflate(CONTENT)),
    ],
)
def test_the_content_is_what_was_packed(fields, body):
    """gzip, and deflate with and without its header, are read, however the name is written."""
    assert unpacked(body, fields, MOST) == CONTENT


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (["br"], "br"),
        (["ZSTD"], "zstd"),
        (["gzip, gzip"], "unknown, unknown"),
        (["gzip", "br"], "unknown, br"),
        (["sk_live_echoed"], "unknown"),
    ],
)
def test_a_coding_that_is_not_read_is_refused(fields, told):
    """The message names it only if it is a coding's name, since a server may write anything."""
    error = unpacked(CONTENT, fields, MOST)
    assert type(error) is ProtocolError
    assert error.message == f"the answer is compressed, which was not asked for: {told}"


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", CONTENT, "is no gzip"),
        ("gzip", zlib.compress(CONTENT), "is no gzip"),
        ("gzip", gzip.compress(CONTENT)[:-5] + b"\0" * 5, "is no gzip"),
        ("deflate", gzip.compress(CONTENT), "is no deflate"),
        ("gzip", b"", "is cut"),
        ("deflate", b"", "is cut"),
        ("gzip", gzip.compress(CONTENT)[:-1], "is cut"),
        ("deflate", raw_deflate(CONTENT)[:-1], "is cut"),
        ("gzip", gzip.compress(CONTENT) * 2, "something follows"),
        ("gzip", gzip.compress(CONTENT) + b"\0", "something follows"),
    ],
)
def test_what_is_damaged_is_refused(coding, body, words):
    """A body that is not exactly one stream is an error that may be tried again."""
    error = unpacked(body, [coding], MOST)
    assert type(error) is ProtocolError
    assert words in error.message
    assert error.retryable


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_the_cap_holds_for_the_content(pack):
    """Exactly the cap is read, a byte more is not."""
    coding = "gzip" if pack is gzip.compress else "deflate"
    assert unpacked(pack(bytes(MOST)), [coding], MOST) == bytes(MOST)
    error = unpacked(pack(bytes(MOST + 1)), [coding], MOST)
    assert type(error) is AnswerTooLargeError
    assert f"{MOST} bytes" in error.message
