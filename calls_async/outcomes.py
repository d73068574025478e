"""What becomes of an id; the rule: each id given gets exactly one of these two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from calls_async.errors import CallsError
    from calls_async.models import Call

__all__ = ["Failed", "Fetched", "Outcome"]


class _Referable:
    """What outcomes inherit, so that there can be weak references to them."""

    # CPython gives an object another class only where both have that slot from a common base.
    __slots__ = ("__weakref__",)


@attrs.frozen(kw_only=True)
class Fetched(_Referable):
    """The call was fetched.

    Attributes:
        id: The id as it was given; the record carries the same one.
        index: The position of this occurrence among the ids given, from 0.
        call: The record.
        raw: The record as received: the answer's body.
        attempts: Requests that were started for it, at least 1.
        elapsed: Seconds from taking up the id until its record was there, waits included.
        request_id: The server's `x-request-id`; `None` if it sent none.
    """

    id: str
    index: int = 0
    call: Call
    raw: bytes = attrs.field(repr=False)
    attempts: int
    elapsed: float
    request_id: str | None = None


class _Draft(_Referable):
    """A `Fetched` that is being written."""

    __slots__ = tuple(field.name for field in attrs.fields(Fetched))
    id: str
    index: int
    call: Call
    raw: bytes
    attempts: int
    elapsed: float
    request_id: str | None


_draft: Final = _Draft.__new__


def fetched(  # noqa: PLR0917 (by their names they would cost more)
    call_id: str,
    index: int,
    call: Call,
    raw: bytes,
    attempts: int,
    elapsed: float,
    request_id: str | None,
) -> Fetched:
    """A `Fetched`, the fast way; every call of a healthy server makes one."""
    # A frozen class sets each attribute by a call of `object.__setattr__`. To set them on an open
    # twin and close it then takes a fourth of the instructions, and it is the same object after.
    draft: Any = _draft(_Draft)
    draft.id = call_id
    draft.index = index
    draft.call = call
    draft.raw = raw
    draft.attempts = attempts
    draft.elapsed = elapsed
    draft.request_id = request_id
    draft.__class__ = Fetched
    outcome: Fetched = draft
    return outcome


@attrs.frozen(kw_only=True)
class Failed:
    """The call was not fetched, and `error` says why.

    Attributes:
        id: The id as it was given, even where it is no valid id.
        index: The position of this occurrence among the ids given, from 0.
        error: The final failure.
        attempts: Requests that were started for it; 0 means that nothing was sent.
        elapsed: Seconds from taking up the id until it was given up, waits included.
    """

    id: str
    index: int = 0
    error: CallsError
    attempts: int
    elapsed: float


Outcome: TypeAlias = Fetched | Failed
"""`match` on it: `case Fetched(call=call)` and `case Failed(id=call_id, error=error)`."""
