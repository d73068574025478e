"""The sweep of flips in its short form, and its two named laws."""

from __future__ import annotations

from calls_async import DecodeError, Fetched, MismatchedCallError
from tests.proof import flips
from tests.proof.answers import ALL_WAYS, BODY, CALL_ID, whole
from tests.proof.tally import Tally
from tests.proof.wire import READERS, Case, go_through


async def test_no_flip_gets_through():
    """Whichever bit is wrong, the end is an error of ours or exactly what was sent."""
    tally = await flips.sweep(short=True)
    assert not tally.bad
    assert tally.cases > 1000 * len(READERS)


def test_every_bit_is_flipped():
    """The full form flips each bit of each answer, and some of them twice or thrice."""
    answers = [whole(*way, BODY.rstrip()) for way in ALL_WAYS]
    expected = 0
    for answer in answers:
        body = sum(end - start for start, end in answer.spans)
        expected += 8 * len(answer.wire) * (2 if answer.name == "length identity" else 1)
        expected += 2 * 8 * (len(answer.wire) - body) * (answer.framing != "closed")
    assert sum(1 for _ in flips.cases("python", 0, 1)) == expected


async def test_a_flipped_id_is_never_the_record():
    """Each wrong bit in the id makes it another id's record, or no document: it is withheld."""
    answer = whole("length")
    start = answer.head + BODY.index(CALL_ID.encode())
    bits = range(8 * start, 8 * (start + len(CALL_ID)))

    def law(end):
        return "" if isinstance(end, MismatchedCallError | DecodeError) else "not withheld"

    tally = Tally("ids")
    await go_through(
        tally,
        [Case(name=f"bit {x}", answer=flips.Flip(answer, x).give, law=law) for x in bits],
    )
    assert not tally.bad
    assert tally.ends["MismatchedCallError"] > tally.ends["DecodeError"] > 0
    assert tally.cases == 8 * len(CALL_ID)


async def test_a_flipped_letter_is_a_record_that_nobody_can_know():
    """What a wrong bit within a name gives is what was sent: without a checksum, it is legal."""
    answer = whole("length")
    name = answer.head + BODY.index(b"John")
    flip = flips.Flip(answer, 8 * name)
    seen = []

    def law(end):
        seen.append(end)
        return flip.law(end)

    tally = Tally("a letter")
    await go_through(tally, [Case(name="J", answer=flip.give, law=law)])
    assert not tally.bad
    assert isinstance(seen[0], Fetched)
    assert seen[0].call.contact.first_name == "Kohn"
    assert seen[0].raw == BODY.replace(b"John", b"Kohn")
