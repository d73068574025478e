"""What a journal tells; the rule: plain frozen values, without a connection behind them.

Their types are checked: any type may stand in any column of an SQLite file that is damaged, or that
somebody else has made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs.validators import and_, deep_mapping, ge, instance_of, optional

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["FailureRecord", "FetchedRecord", "JobStatus", "Minute"]

_text = instance_of(str)
_count: Final[Any] = and_(instance_of(int), ge(0))
_seconds: Final[Any] = and_(instance_of(float), ge(0))
_number: Final[Any] = instance_of((int, float))


def _pairs(record: object, field: attrs.Attribute[Any], value: Any) -> None:
    for pair in value:
        for number in pair:
            _number(record, field, number)


@attrs.frozen(kw_only=True)
class FetchedRecord:
    """A call that was fetched.

    Attributes:
        id: The id as it was given.
        index: The position of the id among the job's distinct ids, from 0.
        raw: The record as received: the answer's body.
        attempts: Requests that were started for it, at least 1.
        elapsed: Seconds from taking up the id until its record was there, waits included.
        at: When the record was there, in UTC.
        request_id: The server's `x-request-id`; `None` if it sent none.
    """

    id: str = attrs.field(validator=_text)
    index: int = attrs.field(validator=_count)
    raw: bytes = attrs.field(repr=False, validator=instance_of(bytes))
    attempts: int = attrs.field(validator=_count)
    elapsed: float = attrs.field(validator=_seconds)
    at: datetime
    request_id: str | None = attrs.field(default=None, validator=optional(_text))


@attrs.frozen(kw_only=True)
class FailureRecord:
    """A call that was not fetched.

    Attributes:
        id: The id as it was given; what was no text at all, as it is printed.
        index: The position of the id among the job's distinct ids, from 0.
        error: The family of the error: the name of its class.
        message: What went wrong, in one sentence.
        status: The HTTP status code; `None` where there was no answer.
        retryable: Whether the same request may succeed later.
        stopped_by: Why there was no further try; see `StoppedBy`.
        attempts: Requests that were started for it; 0 means that nothing was sent.
        elapsed: Seconds from taking up the id until it was given up, waits included.
        at: When it was given up, in UTC.
        request_id: The server's `x-request-id`; `None` if there is none.
    """

    id: str = attrs.field(validator=_text)
    index: int = attrs.field(validator=_count)
    error: str = attrs.field(validator=_text)
    message: str = attrs.field(validator=_text)
    status: int | None = attrs.field(default=None, validator=optional(instance_of(int)))
    retryable: bool = False
    stopped_by: str | None = attrs.field(default=None, validator=optional(_text))
    attempts: int = attrs.field(validator=_count)
    elapsed: float = attrs.field(validator=_seconds)
    at: datetime
    request_id: str | None = attrs.field(default=None, validator=optional(_text))


@attrs.frozen(kw_only=True)
class JobStatus:
    """How far a job is.

    Attributes:
        asked: Distinct ids that were given so far.
        duplicates: How often an id was given again in the run that first gave it.
        fetched: Ids whose record is in the journal.
        failed: Ids that failed for good.
        failed_by: How many of those failed with which error.
        retryable: How many of those may succeed when they are tried again.
        left: Ids without a final outcome.
        started_at: When the journal was made, in UTC.
        last_at: When the last outcome came, in UTC; `None` before the first.
        rate: Outcomes per second over the last minutes of work; `None` where too few are known.
        forecast: Seconds that the ids which are left take at that rate; `None` without a rate.
    """

    asked: int = attrs.field(validator=_count)
    duplicates: int = attrs.field(validator=_count)
    fetched: int = attrs.field(validator=_count)
    failed: int = attrs.field(validator=_count)
    failed_by: Mapping[str, int] = attrs.field(
        validator=deep_mapping(key_validator=_text, value_validator=instance_of(int))
    )
    retryable: int = attrs.field(validator=_count)
    left: int = attrs.field(validator=_count)
    started_at: datetime
    last_at: datetime | None
    rate: float | None
    forecast: float | None


@attrs.frozen(kw_only=True)
class Minute:
    """What happened in one minute in which outcomes came.

    Attributes:
        at: When the minute began, in UTC.
        first_at: When its first outcome came.
        last_at: When its last outcome came.
        fetched: Outcomes that were records.
        failed: Outcomes that were final failures.
        requests: Requests that were started for these outcomes.
        retries: Those of them that were not the first of their id.
        latencies: How many outcomes took how long: pairs of an upper bound in seconds and a
            number, ascending. The bounds are powers of two with three steps between them, so a
            latency is known to a fifth.
    """

    at: datetime
    first_at: datetime
    last_at: datetime
    fetched: int = attrs.field(validator=_count)
    failed: int = attrs.field(validator=_count)
    requests: int = attrs.field(validator=_count)
    retries: int = attrs.field(validator=_count)
    latencies: tuple[tuple[float, int], ...] = attrs.field(validator=_pairs)

    def quantile(self, share: float) -> float | None:
        """The latency, in seconds, that this share (0.0 to 1.0) of the outcomes kept to."""
        wanted = share * sum(number for _, number in self.latencies)
        reached = 0
        for bound, number in self.latencies:
            reached += number
            if reached >= wanted:
                return bound
        return None
