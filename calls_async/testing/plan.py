"""What goes wrong with which request; the rule: it is decided by the id and the attempt alone.

So the sandbox, the fake and a test that compares outcomes all know the same fate of every id, in
whatever order the requests arrive. Rate limits and refused keys come before the plan: what they
turn away does not use up a fault.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, cast

import attrs
import orjson

from calls_async.testing._dice import Dice
from calls_async.testing.records import make_record, record_body

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = ["PERMANENT_FAULTS", "TRANSIENT_FAULTS", "Break", "Fate", "Fault", "Plan", "Reply"]

Headers: TypeAlias = tuple[tuple[str, str], ...]

JSON: Final = ("Content-Type", "application/json; charset=utf-8")
PROBLEM: Final = ("Content-Type", "application/problem+json")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_HTML: Final = ("Content-Type", "text/html; charset=utf-8")
_PAGE: Final = b"<!doctype html><title>Be right back</title><h1>Be right back</h1>"


def problem_body(status: int, detail: str) -> bytes:
    """A problem document (RFC 9457), which is how many APIs say what is wrong."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:  # 520 to 529 are nobody's standard
        title = f"Status {status}"
    return orjson.dumps({"title": title, "status": status, "detail": detail})


def _half_record(call_id: str) -> bytes:
    body = record_body(call_id)
    return body[: len(body) // 2]


def _other_record(call_id: str) -> bytes:
    return record_body(f"not-{call_id}")


def _bad_record(call_id: str) -> bytes:
    return orjson.dumps(make_record(call_id) | {"callType": 7, "createdAt": None})


class Break(StrEnum):
    """How an answer fails to arrive."""

    RESET = "reset"
    CLOSE = "close"
    CUT = "cut"
    GARBAGE = "garbage"
    STALL = "stall"
    FREEZE = "freeze"


@attrs.frozen(kw_only=True)
class Reply:
    """What a request gets.

    Attributes:
        code: The answer's HTTP status code.
        headers: The answer's own header fields.
        body: The answer's content, or what makes it from the call's id.
        delay: Seconds that the answer is held back.
        breaks: How the answer fails to arrive; `None`: it arrives.
    """

    code: int = 200
    headers: Headers = (JSON,)
    body: bytes | Callable[[str], bytes] = attrs.field(default=record_body, repr=False)
    delay: float = 0.0
    breaks: Break | None = None


@attrs.frozen(kw_only=True)
class Fault(Reply):
    """One way for a request to go wrong.

    The usual ones are ready-made: `Fault.reset`, `Fault.status(503)`, `Fault.slow(2.0)`. Any other
    reply is made from the fields.

    Attributes:
        name: What the ledger calls it.
    """

    name: str

    def __str__(self) -> str:
        return self.name

    reset: ClassVar[Fault]
    """The connection is reset (RST) before the answer."""
    close: ClassVar[Fault]
    """The connection is closed (FIN) without an answer."""
    cut: ClassVar[Fault]
    """The connection is closed in the middle of the body."""
    garbage: ClassVar[Fault]
    """What is answered is no HTTP."""
    stall: ClassVar[Fault]
    """Nothing is answered, until the client gives up or the sandbox is closed."""
    freeze: ClassVar[Fault]
    """Half of the body arrives, and then nothing more, as with a stall."""
    empty: ClassVar[Fault]
    """A 200 without a body."""
    not_json: ClassVar[Fault]
    """A 200 with a web page, as captive portals and proxies answer."""
    invalid_json: ClassVar[Fault]
    """A 200 that is complete for HTTP, with a document that ends in the middle."""
    wrong_id: ClassVar[Fault]
    """A 200 with another call's record."""
    bad_record: ClassVar[Fault]
    """A 200 whose record breaks the contract, at `$.callType` and `$.createdAt`."""

    @classmethod
    def status(
        cls,
        code: int,
        *,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
    ) -> Fault:
        """An answer with this status.

        Args:
            code: The HTTP status code.
            headers: Header fields of the answer.
            body: Its content, plain text unless the headers say otherwise; `None`: a problem
                document.
        """
        given = tuple((headers or {}).items())
        if body is None:
            body = problem_body(code, "The sandbox was told to answer this.")
            kind = PROBLEM
        else:
            body = body.encode() if isinstance(body, str) else body
            kind = _TEXT
        typed = any(name.lower() == "content-type" for name, _ in given)
        return cls(
            name=f"status {code}",
            code=code,
            headers=given if typed else (kind, *given),
            body=body,
        )

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The right record, held back for so many seconds."""
        return cls(name="slow", delay=seconds)


for _break in Break:
    setattr(Fault, _break.value, Fault(name=_break.value, breaks=_break))
Fault.empty = Fault(name="empty", body=b"")
Fault.not_json = Fault(name="not_json", headers=(_HTML,), body=_PAGE)
Fault.invalid_json = Fault(name="invalid_json", body=_half_record)
Fault.wrong_id = Fault(name="wrong_id", body=_other_record)
Fault.bad_record = Fault(name="bad_record", body=_bad_record)

_MISSING: Final = Fault.status(404)

TRANSIENT_FAULTS: Final = (
    Fault.reset,
    Fault.close,
    Fault.cut,
    Fault.garbage,
    Fault.stall,
    Fault.freeze,
    Fault.slow(0.2),
    Fault.empty,
    Fault.not_json,
    Fault.invalid_json,
    Fault.wrong_id,
    Fault.status(408),
    # Milliseconds, as some servers give, so that a client is not parked for a second each time.
    Fault.status(429, headers={"Retry-After": "1", "retry-after-ms": "50"}),
    Fault.status(500),
    Fault.status(502, body=_PAGE, headers=dict((_HTML,))),
    Fault.status(503),
    Fault.status(503, headers={"Retry-After": "1", "retry-after-ms": "50"}),
    Fault.status(504),
    Fault.status(529),
)
"""Every kind of fault after which the next request of the same id may succeed."""

PERMANENT_FAULTS: Final = (
    _MISSING,
    Fault.status(403),
    Fault.status(410),
    Fault.status(501),
    Fault.bad_record,
)
"""Faults of one call that repeat for ever. A refused key is not among them: it concerns all."""


@attrs.frozen(kw_only=True)
class Fate:
    """What becomes of the requests of one id.

    Attributes:
        faults: What goes wrong, request by request.
        permanent: Whether the (only) fault repeats for ever; otherwise the record follows.
    """

    faults: tuple[Fault, ...] = ()
    permanent: bool = False

    @property
    def kind(self) -> Literal["healthy", "flaky", "permanent"]:
        """`healthy`: the record at once; `flaky`: the record after the faults; `permanent`."""
        if self.permanent:
            return "permanent"
        return "flaky" if self.faults else "healthy"

    def fault(self, attempt: int) -> Fault | None:
        """What goes wrong with this attempt, counted from 1; `None`: nothing."""
        if self.permanent:
            return self.faults[0]
        return self.faults[attempt - 1] if attempt <= len(self.faults) else None


_HEALTHY: Final = Fate()


def _share(_: object, option: attrs.Attribute[Any], value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{option.name} must be between 0 and 1, not {value!r}")


def _scripts(_: object, option: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    for call_id, script in value.items():
        if isinstance(script, Fault):
            continue
        listed = isinstance(script, (list, tuple))
        if not listed or not all(isinstance(fault, Fault) for fault in cast("list[Any]", script)):
            raise TypeError(f"{option.name}[{call_id!r}] must be a Fault, or a list of them")


@attrs.define(kw_only=True, eq=False)
class Plan:
    """Which requests fail, and how. Every attribute may be changed between two requests.

    Attributes:
        faults: Scripts by id. A sequence: these go wrong, one a request, and then the record
            follows. A single fault: it repeats for ever.
        fault_share: The share of ids, 0.0 to 1.0, that meet one or two transient faults first.
        permanent_share: The share of ids, 0.0 to 1.0, that fail for ever.
        fault_kinds: What the transient faults are chosen from.
        missing: Ids without a record: 404.
        seed: Another seed chooses other ids and other faults.
    """

    faults: Mapping[str, Fault | Sequence[Fault]] = attrs.field(factory=dict, validator=_scripts)
    fault_share: float = attrs.field(default=0.0, validator=_share)
    permanent_share: float = attrs.field(default=0.0, validator=_share)
    fault_kinds: Sequence[Fault] = attrs.field(
        default=TRANSIENT_FAULTS, validator=attrs.validators.min_len(1), repr=False
    )
    missing: Collection[str] = frozenset()
    seed: int = 0

    def expected(self, call_id: str) -> Fate:
        """What becomes of this id: scripts come first, then missing ids, then the shares."""
        script = self.faults.get(call_id)
        if isinstance(script, Fault):
            return Fate(faults=(script,), permanent=True)
        if script is not None:
            return Fate(faults=tuple(script))
        if call_id in self.missing:
            return Fate(faults=(_MISSING,), permanent=True)
        if self.fault_share or self.permanent_share:
            return self._drawn(call_id)
        return _HEALTHY

    def _drawn(self, call_id: str) -> Fate:
        dice = Dice(call_id, purpose="fate", seed=self.seed)
        lot = dice.between(0.0, 1.0)
        if lot < self.permanent_share:
            return Fate(faults=(dice.choice(PERMANENT_FAULTS),), permanent=True)
        if lot < self.permanent_share + self.fault_share:
            return Fate(faults=self._transient(dice))
        return _HEALTHY

    def _transient(self, dice: Dice) -> tuple[Fault, ...]:
        # Two at most, and never the same twice: so four attempts always suffice, two stalls fit
        # into the time that a call has, and a wrong record does not come again when asked again.
        first = dice.choice(self.fault_kinds)
        second = dice.choice(self.fault_kinds)
        return (first,) if first == second or dice.chance(0.5) else (first, second)
