"""Reading a body: whole under the cap, whatever its parts; an error page may be cut."""

from __future__ import annotations

import gzip

import pytest
from multidict import CIMultiDict

from calls_async._transport._reading import read_answer
from calls_async._wire import Answer
from calls_async.errors import AnswerTooLargeError, ProtocolError

CAP = 100


class Parts:
    """A body that arrives in these parts."""

    def __init__(self, *parts):
        self.left = list(parts)

    async def readany(self):
        return self.left.pop(0) if self.left else b""


async def read(*parts, status=200, **fields):
    """What becomes of a body in these parts."""
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    return await read_answer(Parts(*parts), status, headers, CAP)


@pytest.mark.parametrize("parts", [(), (b"a",), (b"a", b"b", b"c"), (b"x" * 99, b"y")])
async def test_the_parts_are_put_together(parts):
    """The content is all parts in their order, and bytes."""
    answer = await read(*parts, x_one="1")
    assert (answer.status, answer.body) == (200, b"".join(parts))
    assert type(answer.body) is bytes
    assert answer.headers["X-One"] == "1"


@pytest.mark.parametrize("parts", [(b"x" * 101,), (b"x" * 100, b"y")])
async def test_a_record_over_the_cap_is_refused(parts):
    """One byte more is too large."""
    assert isinstance(await read(*parts), AnswerTooLargeError)


@pytest.mark.parametrize("parts", [(b"x" * 101,), (b"x" * 101, b"y")])
async def test_an_error_page_over_the_cap_is_cut(parts):
    """Nothing is read past the part that crosses the cap."""
    assert (await read(*parts, status=500)).body == b"x" * 101


async def test_a_compressed_body_is_unpacked():
    """What `Content-Encoding` says is undone."""
    assert (await read(gzip.compress(b"{}"), content_encoding="gzip")).body == b"{}"


async def test_a_body_that_cannot_be_unpacked_costs_a_record_but_no_status():
    """A record that cannot be read is an error; of another answer the status and head count."""
    assert isinstance(await read(b"?", content_encoding="br"), ProtocolError)
    answer = await read(b"?", status=429, content_encoding="br")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (429, b"")
