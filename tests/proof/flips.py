"""Answers in which one bit is wrong, each bit of head and body, in every framing.

The law: what comes back is an error of ours, or a record that has the id asked for, whose `raw` is
exactly what was sent as the body, and whose call is what stands in it. More nobody can promise:
without a checksum a wrong letter within a name is a legal record. A body that came as gzip has a
checksum, so there the record is the right one. A wrong bit in the id is another id's record, and is
withheld; one in the head may end the body early or late, and is an error, because what is shorter
than the document is no JSON.

An answer whose end is wrong leaves bytes of itself on its connection, or waits for more. So the
bits of heads and chunks are also swept with the connection kept open and a good call after it: that
one has its own record too, or an error. With retries on, it has its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from calls_async import CallsError, Fetched, Timeouts
from tests.proof.answers import ALL_WAYS, BODY, whole
from tests.proof.tally import Tally
from tests.proof.wire import (
    AGAIN,
    ONCE,
    Case,
    End,
    brings,
    go_through_with_each_reader,
    other,
    other_or_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proof.answers import Whole
    from tests.rawserver import Exchange

STEP: Final = 173
"""The short form takes each so many-th bit: no multiple of 8, so that all eight have a turn."""
BRIEF = Timeouts(attempt=0.5, total=9.0)
"""An answer that lacks its end, on a connection that stays open, is waited for so long."""


async def sweep(*, short: bool) -> Tally:
    """Flip every bit, or some of them."""
    tally = Tally("flips")
    await go_through_with_each_reader(tally, cases, step=STEP if short else 1)
    return tally


def cases(reader: str, first: int, step: int) -> Iterator[Case]:
    """Every flip, from the `first` bit on at every `step`-th."""
    for answer in (whole(*way, BODY.rstrip()) for way in ALL_WAYS):
        for bit in range(first, 8 * len(answer.wire), step):
            flip = Flip(answer, bit)
            name = f"{reader} {answer.name} bit {bit % 8} of byte {bit // 8}"
            yield Case(name=name, answer=flip.give, law=flip.law)
            if answer.name == "length identity":
                name += " with a second try"
                yield Case(name=name, answer=flip.give, law=flip.healed, retry=AGAIN)
        if answer.framing != "closed":
            yield from open_cases(reader, answer, first, max(1, step // 8))


def open_cases(reader: str, answer: Whole, first: int, step: int) -> Iterator[Case]:
    """The bits that say where the body ends, with a call after it on the same connection."""
    body = {place for start, end in answer.spans for place in range(start, end)}
    places = [place for place in range(len(answer.wire)) if place not in body]
    bits = [8 * place + bit for place in places for bit in range(8)]
    for bit in bits[first::step]:
        flip = Flip(answer, bit)
        name = f"{reader} {answer.name} bit {bit % 8} of byte {bit // 8} kept open"
        for law, then, retry in ((flip.law, other_or_error, ONCE), (flip.healed, other, AGAIN)):
            yield Case(
                name=name if retry is ONCE else f"{name} with a second try",
                answer=flip.give_and_stay,
                law=law,
                then=then,
                retry=retry,
                timeouts=BRIEF,
            )


@attrs.frozen
class Flip:
    """An answer in which one bit, counted from its first byte's lowest, is wrong."""

    answer: Whole
    bit: int

    @property
    def wire(self) -> bytes:
        """All its bytes."""
        wire = bytearray(self.answer.wire)
        wire[self.bit // 8] ^= 1 << self.bit % 8
        return bytes(wire)

    def give(self, exchange: Exchange, number: int) -> None:
        """Send it, and close; a second try gets the answer as it should be."""
        exchange.send(self.give_and_stay(exchange, number))

    def give_and_stay(self, _: Exchange, number: int) -> bytes:
        """Send it, and wait for more requests."""
        return self.wire if number == 1 else self.answer.wire

    def law(self, end: End) -> str:
        """What is wrong with how the call ended."""
        if isinstance(end, CallsError):
            return ""
        return "" if brings(end, self.answer.sent_as_body(self.wire)) else "no record that was sent"

    def healed(self, end: End) -> str:
        """What is wrong with how a call ended that may be tried again."""
        if isinstance(end, Fetched) and end.attempts > 1:
            return "" if brings(end, self.answer.body) else "not the record"
        final = isinstance(end, Fetched) or not end.retryable
        return self.law(end) if final else "an error that should have been tried again"
