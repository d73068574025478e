"""Answers of every status from 100 to 599, of statuses that are none, and with bodies of all kinds.

The law: only a 200 gives a record, even where another answer's body is the very record. Each other
status is an error of its family, as `family` and `AGAIN_LATER` have it from the design, written
here without the package's help; only those of `AGAIN_LATER` are asked again, and then bring the
record. Informational answers are passed over until the real one comes. Whatever an answer was, the
next call on its connection has its own record or an error.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async import (
    AuthenticationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    ServerError,
    StatusError,
)
from tests.proof.answers import BODY, CALL_ID, whole
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
from tests.rawserver import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calls_async import RetryPolicy
    from tests.rawserver import Exchange

STEP: Final = 11
"""The short form takes each so many-th combination."""

BODIES: Final = {
    "nothing": b"",
    "JSON": b'{"error": {"code": "no", "message": "not now"}}',
    "HTML": b"<!doctype html><title>Sorry</title><h1>It is not you, it is us.</h1>",
    "record": BODY,
}
UNREADABLE: Final = (BODIES["nothing"], BODIES["HTML"])
GOOD: Final = whole("length").wire
AGAIN_LATER: Final = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
"""The statuses after which a second try may bring the record."""

NONSENSE: Final = (
    "", "0", "00", "000", "007", "2", "20", "99", "099", "600", "700", "999", "1000", "2000",
    "0200", "00200", "200200", "4294967496", "18446744073709551816", "abc", "2xx", "2OO", "20O",
    "-200", "+200", "2-0", "2 00", "20 0", "2_00", "200.0", "200,", "200;", "2e2", "0xC8",
    "0b11001000", "\\200", "%32%30%30", "²00", "\uff12\uff10\uff10", "\u0662\u0660\u0660",
    "200\0", "\x00200", "None", "NaN", "OK",
)  # fmt: skip
"""What stands where the status belongs, and is not 200."""
ODD_LINES: Final = (
    "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200 OK", "HTTP/1.1\t200\tOK", " HTTP/1.1 200 OK",
    "\r\nHTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/0.9 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200 OK",
    "HTTP/1.10 200 OK", "HTTP/9.9 200 OK", "http/1.1 200 ok", "HTTPS/1.1 200 OK", "ICY 200 OK",
    "RTSP/1.0 200 OK", "HTTP1.1 200 OK", "HTTP/1.1 200 " + "long " * 1000, "HTTP/1.1 200 \xff\x00",
    "HTTP/1.1 200 500 Oops", "HTTP/1.1 200 OK HTTP/1.1 404 No", "200 OK", "HTTP/1.1 OK 200",
    "HTTP/1.1 200\x0b OK", "HTTP/1.1 \N{NO-BREAK SPACE}200 OK",
)  # fmt: skip
"""Status lines in which a reader may see a 200, and none may see anything else."""
BODILESS: Final = {204, 304, *range(100, 200)}
"""Statuses that end with their head, so that a body is the beginning of another answer (RFC 9112,
section 6.3). As no answer begins like that, it may be a `ProtocolError`."""
INTERIM: Final = set(range(100, 200)) - {101}
"""Statuses after which the real answer comes on the same connection (RFC 9110, section 15.2). After
101 it would be another protocol, for which the client has not asked, so it is an answer."""


def family(status: int) -> type[StatusError]:
    """The error that a status other than 200 is, as the design says."""
    named = {
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        410: NotFoundError,
        429: RateLimitedError,
    }
    hundreds = {3: RedirectError, 5: ServerError}
    return named.get(status) or hundreds.get(status // 100, StatusError)


async def sweep(*, short: bool) -> Tally:
    """Give every status with every body, or some of them."""
    tally = Tally("statuses")
    await go_through_with_each_reader(tally, cases, step=STEP if short else 1)
    return tally


def cases(reader: str, first: int, step: int) -> Iterator[Case]:
    """Every `step`-th case from the `first` on."""
    return islice(all_cases(reader), first, None, step)


def all_cases(reader: str) -> Iterator[Case]:
    """Each status with each body, and whatever else may stand in a first line."""
    for status, (kind, body), retry in product(range(100, 600), BODIES.items(), (ONCE, AGAIN)):
        answer = Answered(status, body)
        name = f"{reader} {status} with {kind}"
        yield answer.case(name if retry is ONCE else f"{name} and a second try", retry=retry)
        if body and retry is ONCE:
            yield Answered(status, body, missing=9).case(f"{name} that is cut")
    for kind, body in BODIES.items():
        yield Answered(503, body, hinted=True).case(f"{reader} 503 with a hint and {kind}")
    yield from interim(reader)
    yield from nonsense(reader)


@attrs.frozen
class Answered:
    """A well-formed answer of some status.

    Attributes:
        status: The status.
        body: Its body.
        hinted: Whether it says when to come back: at once.
        missing: Bytes of the body that its length announces and that do not come.
    """

    status: int
    body: bytes
    hinted: bool = False
    missing: int = 0

    def case(self, name: str, retry: RetryPolicy = ONCE) -> Case:
        """The call that gets it, and a good call after it."""
        once = retry is ONCE
        return Case(
            name=name,
            answer=self.give,
            law=self.law if once else self.healed,
            then=other_or_error if once else other,
            retry=retry,
        )

    def give(self, exchange: Exchange, number: int) -> Any:
        """Send it, and close if there is more to come; a second try is good.

        Its Location is the very URL that was asked for, where there would be the record.
        """
        if number > 1:
            return GOOD
        length = len(self.body) + self.missing
        hint = ["Retry-After: 0"] if self.hinted else []
        fields = ("X-Request-Id: request-1", f"Location: {CALL_ID}", *hint)
        wire = http(self.body, *fields, status=f"{self.status} Reason", length=length)
        return exchange.send(wire) if self.missing or self.status in INTERIM else wire

    def law(self, end: End) -> str:
        """What is wrong with how the call ended."""
        no_body = self.status in BODILESS
        cut = self.status in INTERIM or (self.missing and not no_body)
        if cut or (no_body and isinstance(end, ProtocolError)):
            return "" if type(end) is ProtocolError else "not a ProtocolError"
        return self.law_of_200(end) if self.status == 200 else self.law_of_others(end)

    def law_of_200(self, end: End) -> str:
        """A record, or an error that tells whether the body was a document at all."""
        if self.body == BODY:
            return "" if brings(end) else "not the record"
        is_document = self.body == BODIES["JSON"]
        good = type(end) is DecodeError and end.document_readable is is_document
        return "" if good else "not a DecodeError of the right kind"

    def law_of_others(self, end: End) -> str:
        """The error of its family, with what the answer said."""
        kind = RateLimitedError if self.status == 503 and self.hinted else family(self.status)
        if type(end) is not kind:
            return f"not a {kind.__name__}"
        told = end.body == self.body.decode()[:500] or self.status in BODILESS
        told &= not isinstance(end, RedirectError) or end.location == CALL_ID
        if end.status != self.status or end.request_id != "request-1" or not told:
            return "not what the answer said"
        again = self.status in AGAIN_LATER
        return "" if end.retryable is again else f"retryable is not {again}"

    def healed(self, end: End) -> str:
        """What is wrong with how a call ended that may be tried again."""
        cut = self.status in INTERIM or (self.status == 200 and self.body in UNREADABLE)
        if self.status in AGAIN_LATER or cut:
            return "" if brings(end) and end.attempts == 2 else "not the record of a second try"
        if self.status in BODILESS and end.attempts == 2:
            return "" if brings(end) else "not the record"
        return self.law(end) if end.attempts == 1 else "asked again"


def interim(reader: str) -> Iterator[Case]:
    """Informational answers, and then the real one."""
    for status in sorted(INTERIM):
        first = f"HTTP/1.1 {status} Wait\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
        for times in (1, 3):
            yield Case(
                name=f"{reader} {times} times {status} and then 200",
                answer=sending(first * times + GOOD),
                law=record,
                then=other,
            )
    switched = "HTTP/1.1 101 Switched", "X-Request-Id: request-1", "Upgrade: calls/2", "", ""
    yield Case(
        name=f"{reader} 101 and then 200",
        answer=sending("\r\n".join(switched).encode() + GOOD),
        law=Answered(101, b"").law,
        then=other_or_error,
    )


def nonsense(reader: str) -> Iterator[Case]:
    """Statuses that are none, with a record as the body, and lines in which there may be a 200."""
    fields = GOOD.partition(b"\r\n")[2]
    for text in NONSENSE:
        yield Case(
            name=f"{reader} status {text!a}",
            answer=sending(f"HTTP/1.1 {text} OK\r\n".encode() + fields),
            law=partial(refused, text),
            then=other_or_error,
        )
    for line in ODD_LINES:
        yield Case(
            name=f"{reader} line {line[:40]!a}",
            answer=sending(f"{line}\r\n".encode() + fields),
            law=record_or_refused,
            then=other_or_error,
        )


def sending(wire: bytes) -> Callable[[Exchange, int], bytes]:
    """Answer every request so."""
    return lambda *_: wire


def record(end: End) -> str:
    """It has to be the record."""
    return "" if brings(end) else "not the record"


def record_or_refused(end: End) -> str:
    """It may be the record, or no answer at all."""
    return "" if type(end) is ProtocolError else record(end)


def refused(status: str, end: End) -> str:
    """Three digits are a status that nobody knows, and everything else is no answer."""
    if re.fullmatch("[0-9]{3}", status):
        good = type(end) is StatusError and end.status == int(status) and not end.retryable
    else:
        good = type(end) is ProtocolError
    return "" if good else "not an error of the right kind"
