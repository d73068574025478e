"""What is no JSON is told apart from what is JSON and no record, as far as one letter away."""

from __future__ import annotations

from collections import Counter

import pytest

from calls_async import DecodeError
from calls_async._codec import decode_call
from tests.proof import grammar, jsontext
from tests.proof.tally import Tally


def refusal(body: bytes) -> DecodeError:
    """How the codec refuses a body; none of these is a record."""
    with pytest.raises(DecodeError) as caught:
        decode_call(body)
    return caught.value


def test_the_codec_takes_every_edit_as_the_grammar_does():
    """Each text one letter away from JSON is JSON, JSON that cannot be held, or none."""
    words: Counter[str] = Counter()
    for body in jsontext.edits():
        expected = jsontext.word(body)
        words[expected] += 1
        assert jsontext.taken_as(refusal(body)) == expected, body
    assert words.total() > 15_000
    assert min(words.values()) > 100, words


@pytest.mark.usefixtures("way")
async def test_a_sample_of_the_edits_as_answers():
    """The same over the wire, where it decides whether the call is asked for again."""
    tally = Tally("edits")
    await jsontext.send(jsontext.edited(jsontext.STEP), tally)
    assert not tally.bad
    assert tally.cases > 200


@pytest.mark.usefixtures("way")
async def test_the_documents_of_json_test_suite():
    """Every y_ document is accepted, no n_ document is JSON, each i_ document is as written."""
    suite = jsontext.folder()
    if suite is None:
        pytest.skip(jsontext.MISSING)
    tally = Tally("JSONTestSuite")
    await jsontext.send(jsontext.documents(suite), tally)
    assert not tally.bad
    assert tally.cases > 300


def test_every_document_is_told_once():
    """The page names all 35 documents that leave a choice, and two others."""
    kinds = Counter(name[:2] for name in jsontext.told_documents())
    assert kinds == {"i_": 35, "n_": 2}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "[" * 100_000 + "]" * 100_000, '[{"":' * 50_000]
)
def test_depth_is_typed_and_not_asked_for_again(text):
    """Nesting without end is no reason for a second request, cut or not."""
    assert jsontext.taken_as(refusal(text.encode())) == "cannot be held"


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        (b'{"a":[1,"b",{}],"c":null}', True),
        (b"[[],[[]]]", True),
        (b" 1 ", True),
        (b'{"a":1,}', False),
        (b'{1:"a"}', False),
        (b'{{}:"a"}', False),
        (b"[1 2]", False),
        (b"[]]", False),
        (b"1 1", False),
        (b"", False),
        (b'"\x7f"', True),
        (b'"\x1f"', False),
        (b"\xff", False),
    ],
)
def test_the_grammar_itself(text, legal):
    """The judge is right about what RFC 8259 shows."""
    assert grammar.is_json(text) == legal
