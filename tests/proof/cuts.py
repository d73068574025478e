"""Answers that are cut after each of their bytes, in every framing, by FIN and by RST.

The law: a record comes only from an answer that is whole (`Whole.whole_after` says which are), and
then it is exact: the body as sent, and the call in it. Everything else is an error of ours that may
be tried again, and a second try brings the exact record. As a check of the check, each answer also
comes whole, in two parts, and has to bring the record wherever the parts meet. Last, whoever frames
an answer may have got no more than a part of the body: that is good HTTP, but no document.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async import CallsError, DecodeError, Fetched, ProtocolError
from tests.proof.answers import ALL_WAYS, whole
from tests.proof.tally import Tally
from tests.proof.wire import AGAIN, ONCE, Case, End, brings, go_through_with_each_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calls_async import RetryPolicy
    from tests.proof.answers import Whole
    from tests.rawserver import Exchange

STEP: Final = 131
"""The short form takes each so many-th place."""


async def sweep(*, short: bool) -> Tally:
    """Cut every answer everywhere, or here and there."""
    tally = Tally("cuts")
    await go_through_with_each_reader(tally, cases, step=STEP if short else 1)
    return tally


def cases(reader: str, first: int, step: int) -> Iterator[Case]:
    """Every cut, from the `first` place on at every `step`-th, and at those that end something."""
    for answer in (whole(*way) for way in ALL_WAYS):
        for sent in places(answer, first, step):
            name = f"{reader} {answer.name} {sent} of {len(answer.wire)} bytes"
            for how in (by_fin, by_rst):
                cut = Cut(answer, sent, how)
                yield cut.case(f"{name} {how.__name__}")
                yield cut.case(f"{name} {how.__name__} on a used connection", warm=True)
                yield cut.case(f"{name} {how.__name__} with a second try", retry=AGAIN)
            yield Cut(answer, sent, by_pause).case(f"{name} and then the rest")
        if answer.framing != "closed":
            for sent in range(first, len(answer.packed), step):
                name = f"{reader} {answer.name} framed anew after {sent} bytes of the body"
                yield Cut(answer, sent, by_proxy).case(name)


def places(answer: Whole, first: int, step: int) -> list[int]:
    """After how many bytes an answer is cut."""
    whole_answer = len(answer.wire)
    ends = {answer.head, *(end for _, end in answer.spans), whole_answer}
    near = {end + by for end in ends for by in range(-1, 2) if end + by <= whole_answer}
    return sorted(near.union(range(first, whole_answer + 1, step)))


def by_fin(exchange: Exchange, answer: Whole, sent: int) -> None:
    """Send so many bytes, and close."""
    exchange.send(answer.wire[:sent])


def by_rst(exchange: Exchange, answer: Whole, sent: int) -> None:
    """Send so many bytes, and cut the connection."""
    exchange.send(answer.wire[:sent])
    exchange.reset()


async def by_pause(exchange: Exchange, answer: Whole, sent: int) -> None:
    """Send so many bytes, and the rest when they have been read."""
    exchange.send(answer.wire[:sent])
    for _ in range(3):
        await asyncio.sleep(0)
    exchange.send(answer.wire[sent:])


def by_proxy(_: Exchange, answer: Whole, sent: int) -> bytes:
    """Send a well-formed answer with so many bytes of the body, as if there were no more."""
    return answer.framed_anew(sent)


@attrs.frozen
class Cut:
    """An answer that is cut after `sent` of its bytes."""

    answer: Whole
    sent: int
    how: Callable[[Exchange, Whole, int], Any]

    def case(self, name: str, *, warm: bool = False, retry: RetryPolicy = ONCE) -> Case:
        """The call that gets it; if it is tried again, it gets a whole one."""
        law = self.exact if retry is AGAIN else self.law
        return Case(name=name, answer=self.give, law=law, warm=warm, retry=retry)

    def give(self, exchange: Exchange, number: int) -> Any:
        """Answer a request; only the first of a case is cut."""
        if number == 1:
            return self.how(exchange, self.answer, self.sent)
        return by_fin(exchange, self.answer, len(self.answer.wire))

    def law(self, end: End) -> str:
        """What is wrong with how a call ended that is not tried again."""
        complete = self.how is by_pause or self.sent == len(self.answer.wire)
        if complete and self.how is not by_rst:
            return self.exact(end)
        if isinstance(end, Fetched):
            return self.exact(end)
        return "" if may_follow_a_cut(end) else "an error of another kind"

    def exact(self, end: End) -> str:
        """What is wrong with an end that has to be the record."""
        body: bytes | None = self.answer.body
        if isinstance(end, Fetched) and end.attempts == 1:
            body = self.arrived
        return "" if body is not None and brings(end, body) else "not the exact record"

    @property
    def arrived(self) -> bytes | None:
        """The body that the first try may bring."""
        if self.how is by_pause:
            return self.answer.body
        if self.how is by_proxy:
            return self.answer.whole_in(self.answer.packed[: self.sent])
        return self.answer.whole_after(self.sent)


def may_follow_a_cut(error: CallsError) -> bool:
    """Whether it says that the answer did not come whole, and that another may."""
    cut = isinstance(error, ProtocolError) or (
        isinstance(error, DecodeError) and not error.document_readable
    )
    return cut and error.retryable
