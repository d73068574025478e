"""What becomes of an id; the rule: each id given gets exactly one of these two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from calls_async._unfrozen import unfrozen

if TYPE_CHECKING:
    from calls_async.errors import CallsError
    from calls_async.models import Call

__all__ = ["Failed", "Fetched", "Outcome"]


@attrs.frozen(kw_only=True)
class Fetched:
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


_UnfrozenFetched: Final = unfrozen(Fetched)


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
    outcome = _UnfrozenFetched()
    outcome.id = call_id
    outcome.index = index
    outcome.call = call
    outcome.raw = raw
    outcome.attempts = attempts
    outcome.elapsed = elapsed
    outcome.request_id = request_id
    outcome.__class__ = Fetched
    whole: Fetched = outcome
    return whole


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
