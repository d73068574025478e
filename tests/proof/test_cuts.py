"""The sweep of cuts in its short form, and what makes it worth its figures."""

from __future__ import annotations

import zlib

import pytest

from calls_async import CallsClient, Fetched
from tests.proof import cuts
from tests.proof.answers import ALL_WAYS, BODY, CALL_ID, GZIP, whole
from tests.proof.wire import ONCE, PARSERS, READERS, brings, read_by
from tests.rawserver import raw_server


async def test_no_cut_gets_through():
    """After whichever byte an answer is cut, the end is the exact record or an error of ours."""
    tally = await cuts.sweep(short=True)
    assert not tally.bad
    assert tally.cases > 700 * len(READERS)
    assert set(tally.ends) == {"record", "ProtocolError", "DecodeError"}


def test_every_byte_is_a_place():
    """The full form cuts each answer after each of its bytes in 7 ways, and each body before it."""
    for answer in (whole(*way) for way in ALL_WAYS):
        assert cuts.places(answer, 0, 1) == list(range(len(answer.wire) + 1))
    answers = [whole(*way) for way in ALL_WAYS]
    expected = 7 * sum(len(answer.wire) + 1 for answer in answers)
    expected += sum(len(answer.packed) for answer in answers if answer.framing != "closed")
    assert sum(1 for _ in cuts.cases("python", 0, 1)) == expected


@pytest.mark.parametrize("way", ALL_WAYS, ids="-".join)
def test_an_answer_is_whole_at_its_end_alone(way):
    """Nothing counts as whole before all of the document, and more is needed where it is told."""
    answer = whole(*way)
    wholes = [sent for sent in range(len(answer.wire) + 1) if answer.whole_after(sent) is not None]
    at_end = len(answer.wire)
    assert wholes == list(range(wholes[0], at_end + 1))
    # The line end after the last chunk; whitespace after the document; gzip's checksum and length.
    spare = {"length": 0, "chunked": 2, "closed": 2 if answer.coding == "identity" else 8 + 4}
    assert at_end - wholes[0] <= spare[answer.framing]
    assert answer.whole_after(at_end) == BODY


@pytest.mark.parametrize("way", ALL_WAYS, ids="-".join)
def test_the_answers_are_what_they_say(way):
    """Where the spans are, there is the body, packed as the head says."""
    answer = whole(*way)
    packed = answer.packed
    assert (zlib.decompress(packed, GZIP) if answer.coding == "gzip" else packed) == BODY
    assert answer.framed_anew(len(packed)) == answer.wire
    assert answer.wire[: answer.head].endswith(b"\r\n\r\n")


@pytest.mark.parametrize("parser", PARSERS)
async def test_each_parser_is_really_used(parser):
    """`read_by` changes what aiohttp reads answers with, and both read the record."""
    seen = []

    class Watched(PARSERS[parser]):
        def __init__(self, *args, **kwargs):
            seen.append(type(self))
            super().__init__(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARSERS, parser, Watched)
        with read_by(parser):
            async with (
                raw_server(whole("length").wire) as server,
                CallsClient("sk_test_key", base_url=server.url, retry=ONCE) as client,
            ):
                fetched = await client.fetch_call(CALL_ID)
    assert isinstance(fetched, Fetched)
    assert brings(fetched)
    assert seen == [Watched]
