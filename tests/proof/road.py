"""The road of the chaos sweep, and the accounts of who went it.

The rule: what came of an id is held against what the server was told to do with it, and how many
requests that took is counted by the server. So any client can be judged, not only this one.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from calls_async import (
    Call,
    CallsError,
    DecodeError,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    RedirectError,
    ServerError,
    StatusError,
    structure_call,
)
from calls_async.testing import TRANSIENT_FAULTS, Fault, make_record, record_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from calls_async.testing import Ledger

Came: TypeAlias = "Sequence[tuple[int, Any]]"
"""Results, each with the position of its id among those asked for."""

TWICE: Final = 0.10
"""The share of the ids that are given twice."""
PERMANENT_SHARE: Final = 0.05
"""The share that fails for ever."""
FLAKY_SHARE: Final = 0.20
"""The share that meets faults before its record."""
MOST_IN_A_ROW: Final = 3
"""Faults before a record, at most."""
REFUSED_SHARE: Final = 0.01
"""The share that is refused for no reason. A server that refuses more than that has a limit, and
then what a run measures is the pace, which is for the simulation to do."""

_HTML: Final = {"Content-Type": "text/html"}
_LATER: Final = {"Retry-After": "1"}
_SOON: Final = {"Retry-After": "1", "retry-after-ms": "20"}

_REFUSALS: Final = frozenset({429, 503})

FAILING: Final[tuple[Fault, ...]] = (
    *(fault for fault in TRANSIENT_FAULTS if fault.code not in _REFUSALS),
    Fault.status(409, headers={"x-should-retry": "true"}),
    Fault.status(425),
    Fault.status(500, headers=_SOON),
    Fault.status(502, headers=_HTML, body=""),
    *(Fault.status(code) for code in range(520, 525)),
)
"""The kinds after which the next request of the id may succeed."""
REFUSING: Final[tuple[Fault, ...]] = (
    *(fault for fault in TRANSIENT_FAULTS if fault.code in _REFUSALS),
    Fault.status(503, headers=_HTML, body="<h1>Back soon</h1>"),
)
"""Of those, the kinds that say "too many"."""
SILENCING: Final[tuple[Fault, ...]] = (
    Fault.status(429),
    Fault.status(429, headers=_LATER),
    Fault.status(503, headers=_LATER),
)
"""Of those, the kinds that silence the whole client for a second; each comes once in a run."""


def _surrogate(call_id: str) -> bytes:
    return json.dumps(make_record(call_id) | {"status": "\ud800"}).encode()


PERMANENT: Final[Mapping[Fault, type[CallsError]]] = {
    Fault.status(400): StatusError,
    Fault.status(403): PermissionDeniedError,
    Fault.status(404): NotFoundError,
    Fault.status(405): StatusError,
    Fault.status(410): NotFoundError,
    Fault.status(422): StatusError,
    Fault.status(500, headers={"x-should-retry": "false"}): ServerError,
    Fault.status(501): ServerError,
    Fault.status(505): ServerError,
    **{
        Fault.status(code, headers={"Location": "/v1/calls/elsewhere"}): RedirectError
        for code in (301, 302, 303, 307, 308)
    },
    Fault.bad_record: DecodeError,
    Fault(name="no record", body=b"[]"): DecodeError,
    Fault(name="lone surrogate", body=_surrogate): DecodeError,
    Fault(name="one other record", body=record_body("somebody-else")): MismatchedCallError,
}
"""The kinds that repeat for ever, and the error that each has to end in."""


@attrs.frozen(kw_only=True)
class Road:
    """What is asked for, and what lies in the way.

    Attributes:
        ids: The ids in their order, some of them twice.
        faults: The sandbox's script: a list of transient faults, or the one that stays.
    """

    ids: Sequence[str]
    faults: Mapping[str, Fault | Sequence[Fault]]

    @property
    def distinct(self) -> list[str]:
        """Each id once, where it comes first."""
        return list(dict.fromkeys(self.ids))

    def is_end(self, call_id: str, result: object) -> bool:
        """Whether the id had to come to this: its own record, whole, or the one error."""
        script = self.faults.get(call_id)
        if not isinstance(script, Fault):
            return isinstance(result, Call) and result == structure_call(make_record(call_id))
        return (
            type(result) is PERMANENT[script]
            and result.call_id == call_id
            and getattr(result, "status", script.code) == script.code
        )


def lay(number: int, *, seed: int, refusing: bool = True) -> Road:
    """A road of so many distinct ids; the same for the same seed.

    Args:
        number: How many.
        seed: Another seed lays another road.
        refusing: Whether some are refused. After that the client has to find its pace again, which
            takes twenty seconds however few ids there are.
    """
    dice = random.Random(seed)
    ids = [f"call-{seed}-{position}" for position in range(number)]
    faults: dict[str, Fault | Sequence[Fault]] = {}
    untouched = iter(dice.sample(ids, number))
    # The kinds come in turn, so that none is left out however few ids there are.
    kinds = cycle(PERMANENT)
    for call_id in islice(untouched, round(number * PERMANENT_SHARE)):
        faults[call_id] = next(kinds)
    passing = _shuffled(FAILING, dice)
    for call_id in islice(untouched, round(number * FLAKY_SHARE)):
        # None of them twice: another id's record is no passing fault when it comes again.
        row = islice(passing, dice.randint(1, MOST_IN_A_ROW))
        faults[call_id] = list(dict.fromkeys(row))
    if refusing:
        refusals = cycle(REFUSING)
        for call_id in islice(untouched, round(number * REFUSED_SHARE)):
            faults[call_id] = [next(refusals)]
        for call_id, fault in zip(untouched, SILENCING, strict=False):
            faults[call_id] = [fault]
    ids += dice.sample(ids, round(number * TWICE))
    dice.shuffle(ids)
    return Road(ids=ids, faults=faults)


def _shuffled(faults: Sequence[Fault], dice: random.Random) -> Iterator[Fault]:
    """All of them in some order, over and over."""
    while True:
        yield from dice.sample(faults, len(faults))


@attrs.define(kw_only=True)
class Account:
    """What came of a road, by the results and by the server's ledger.

    Attributes:
        name: Who went it, and how.
        asked: The ids whose results were due, in the order of the positions.
        ends: How many results ended in which way, as in a `Tally`.
        lost: Results that never came, or an error came where there is a record.
        swapped: Records that are not the id's own, or not the whole of it, or of an id without one.
        wrong: Errors that are not the one they had to be.
        duplicated: Results that came once more.
        strangers: Ids that the server was asked for and that are not on the road.
        requests: All requests, by the ledger.
        most: The most requests for one id.
        restarted: Whether the server went away as often as it was to.
        seconds: How long it took.
    """

    name: str
    asked: Sequence[str]
    ends: Counter[str] = attrs.field(factory=Counter)
    lost: int = 0
    swapped: int = 0
    wrong: int = 0
    duplicated: int = 0
    strangers: int = 0
    requests: int = 0
    most: int = 0
    restarted: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, name: str, road: Road, asked: Sequence[str], came: Came, ledger: Ledger) -> Account:
        """Take account of results, each with its position among the ids that were asked for."""
        results = dict(came)
        sheet = cls(
            name=name,
            asked=asked,
            duplicated=len(came) - len(results),
            strangers=len({entry.call_id for entry in ledger.entries} - set(asked)),
            requests=len(ledger),
            most=max(map(ledger.requests_of, asked)),
        )
        for position, call_id in enumerate(asked):
            sheet._enter(road, call_id, results.get(position))
        return sheet

    def _enter(self, road: Road, call_id: str, result: object) -> None:
        if road.is_end(call_id, result):
            self.ends["record" if isinstance(result, Call) else type(result).__name__] += 1
            return
        self.ends["bad"] += 1
        if isinstance(result, Call):
            self.swapped += 1
        elif result is None or not isinstance(road.faults.get(call_id), Fault):
            self.lost += 1
        else:
            self.wrong += 1

    @property
    def per_id(self) -> float:
        """Requests for each distinct id, on average."""
        return self.requests / len(set(self.asked))

    @property
    def bad(self) -> list[str]:
        """Which laws were broken, and how often."""
        kinds = ("lost", "swapped", "wrong", "duplicated", "strangers")
        return [f"{getattr(self, kind)} {kind}" for kind in kinds if getattr(self, kind)]
