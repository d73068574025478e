"""The time of a job in few pieces; the rule: their number is bounded, however long the job is.

The history comes minute by minute. Minutes are put together in pairs, then in fours and so on,
whenever there are too many. Time in which nobody worked is left out: a job that was stopped on
Friday and resumed on Monday has no weekend in its charts. The minutes in which a server was silent
belong to it.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

from calls_async.journal._records import Minute

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

MOST_SLOTS: Final = 96
MOST_PERIODS: Final = 48

PAUSE: Final = timedelta(minutes=10)
"""A longer time without an outcome is no part of the work."""

_MINUTE: Final = timedelta(minutes=1)


@attrs.frozen(kw_only=True)
class Slot:
    """A piece of the time in which the job worked.

    Attributes:
        told: What happened in it, as if it were one minute.
        seconds: How long it is.
    """

    told: Minute
    seconds: float

    @property
    def outcomes(self) -> int:
        """Records and failures."""
        return self.told.fetched + self.told.failed


@attrs.frozen(kw_only=True)
class Period:
    """A time of work without a pause.

    Attributes:
        began: When its first outcome came.
        ended: When its last outcome came.
        outcomes: How many came.
    """

    began: datetime
    ended: datetime
    outcomes: int


@attrs.frozen(kw_only=True)
class Course:
    """How a job went.

    Attributes:
        slots: The time in which it worked, in equal pieces except for the edges.
        periods: When it worked. Of too many, those with the shortest pauses between are one.
        total: All of it, as if it were one minute; `None` if nothing happened.
    """

    slots: Sequence[Slot]
    periods: Sequence[Period]
    total: Minute | None

    @property
    def seconds(self) -> float:
        """Seconds of work."""
        return sum(slot.seconds for slot in self.slots)


def course_of(history: Iterable[Minute]) -> Course:
    """How the job with this history went."""
    slots: list[Slot] = []
    periods: list[Period] = []
    width = 1  # minutes in a slot
    pending: list[Slot] = []  # minutes of a slot that is not full
    last: Minute | None = None
    for minute in history:
        silence = None if last is None else minute.first_at - last.last_at
        fresh = silence is None or silence > PAUSE
        for slot in _slots(minute, None if fresh else last):
            pending.append(slot)
            if len(pending) == width:
                slots.append(_joined(pending))
                pending = []
            if len(slots) == MOST_SLOTS:
                slots = [_joined(slots[i : i + 2]) for i in range(0, MOST_SLOTS, 2)]
                width *= 2
        _extend(periods, minute, fresh=fresh)
        last = minute
    if pending:
        slots.append(_joined(pending))
    total = _joined(slots).told if slots else None
    return Course(slots=slots, periods=periods, total=total)


def _slots(minute: Minute, last: Minute | None) -> Iterable[Slot]:
    """The time since the last outcome of the minute before, or since the first of this period."""
    if last is None:
        yield Slot(told=minute, seconds=_seconds(minute.last_at - minute.first_at))
        return
    silent = last.at + _MINUTE
    began = last.last_at
    while silent < minute.at:
        yield Slot(told=_nothing(silent), seconds=_seconds(silent + _MINUTE - began))
        began = silent = silent + _MINUTE
    yield Slot(told=minute, seconds=_seconds(minute.last_at - began))


def _seconds(time: timedelta) -> float:
    return max(time.total_seconds(), 0.0)


def _nothing(at: datetime) -> Minute:
    return Minute(
        at=at, first_at=at, last_at=at, fetched=0, failed=0, requests=0, retries=0, latencies=()
    )


def _joined(slots: Sequence[Slot]) -> Slot:
    told = [slot.told for slot in slots]
    latencies = Counter[float]()
    for minute in told:
        for bound, number in minute.latencies:
            latencies[bound] += number
    whole = Minute(
        at=told[0].at,
        first_at=told[0].first_at,
        last_at=told[-1].last_at,
        fetched=sum(minute.fetched for minute in told),
        failed=sum(minute.failed for minute in told),
        requests=sum(minute.requests for minute in told),
        retries=sum(minute.retries for minute in told),
        latencies=tuple(sorted(latencies.items())),
    )
    return Slot(told=whole, seconds=sum(slot.seconds for slot in slots))


def _extend(periods: list[Period], minute: Minute, *, fresh: bool) -> None:
    """Let the last period go on to this minute, or begin one."""
    outcomes = minute.fetched + minute.failed
    new = Period(began=minute.first_at, ended=minute.last_at, outcomes=outcomes)
    if not fresh:
        new = _united(periods.pop(), new)
    periods.append(new)
    if len(periods) > MOST_PERIODS:
        pauses = [later.began - earlier.ended for earlier, later in pairwise(periods)]
        i = pauses.index(min(pauses))
        periods[i : i + 2] = [_united(*periods[i : i + 2])]


def _united(earlier: Period, later: Period) -> Period:
    return Period(
        began=earlier.began, ended=later.ended, outcomes=earlier.outcomes + later.outcomes
    )
