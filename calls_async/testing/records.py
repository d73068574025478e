"""The calls that the sandbox knows; the rule: any id has a record, and always the same one.

The records are as varied as real ones: contacts that are null or unknown, calls that nobody took,
optional members that are missing. The names are invented, and the phone numbers are from the ranges
that France, the United Kingdom and North America keep free for fiction.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from calls_async.testing._dice import Dice

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_record", "record_body"]

_FIRST_NAMES: Final = (
    "Alice", "Amir", "Anaïs", "Björn", "Chiara", "Chloé", "Daniel", "Elif", "Emma", "Farid",
    "Grace", "Hugo", "Inès", "Jakub", "John", "José", "Karim", "Léa", "Lukas", "Mai",
    "Marta", "Mateo", "Nadia", "Noah", "Olivia", "Priya", "Sofia", "Søren", "Thomas", "Yuki", "Zoë",
    "李娜",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Almeida", "Andersson", "Bernard", "Bianchi", "Costa", "Doe", "Dubois", "Fischer", "García",
    "Haddad", "Jansen", "Kaya", "Kowalska", "Lefèvre", "Martin", "Moreau", "Müller", "Nguyễn",
    "O'Brien", "Okafor", "Patel", "Petit", "Rossi", "Silva", "Smith", "Sørensen", "Tanaka", "王",
)  # fmt: skip
_NOTES: Final = (
    "Call back next week.",
    "Left a message.",
    "Wants a quote for 25 seats.\nDecides in May.",
    "Très intéressée, envoyer la présentation 🙂",
    'Asked for the "enterprise" plan.',
    "",
)
_UNANSWERED: Final = ("missed", "no-answer", "busy", "voicemail")
"""Our guess: the vendor's page names no status but `completed`."""

_DURATIONS: Final = ((5, 60), (60, 420), (60, 420), (420, 1800), (1800, 7200))
"""Seconds; most calls are short."""

_NUMBERS: Final = (
    ("+3319900", 4), ("+3363998", 4), ("+447700900", 3), ("+121255501", 2), ("+141555501", 2),
)  # fmt: skip
"""Prefixes, and the digits that follow them."""
_SPREAD: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835

_KINDS: Final = 2048
"""Different calls; then they repeat under other ids, because a quick sandbox looks them up."""

_FIRST_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_DAYS: Final = 730


def make_record(call_id: str) -> dict[str, Any]:
    """The record of this call, as the endpoint's JSON has it.

    Args:
        call_id: Any id that UTF-8 can carry.

    Returns:
        A new document, the same for the same id on every machine and Python version.
    """
    record: dict[str, Any] = orjson.loads(record_body(call_id))
    return record


def record_body(call_id: str) -> bytes:
    """The record of this call as the endpoint sends it: compact JSON in UTF-8."""
    kind = Dice(call_id, purpose="record").below(_KINDS)
    return b'{"id":%b,%b' % (orjson.dumps(call_id), _members(kind))


@lru_cache(maxsize=_KINDS)
def _members(kind: int) -> bytes:
    """All of a record but its id, and the brace before that."""
    dice = Dice(str(kind), purpose="members")
    inbound = dice.chance(0.4)
    answered = dice.chance(0.8)
    created = _FIRST_DAY + timedelta(milliseconds=dice.below(_DAYS * 86_400_000))
    rang_until = created + timedelta(milliseconds=2_000 + dice.below(43_000))
    talked = dice.between(*dice.choice(_DURATIONS)) if answered else 0.0
    ended = rang_until + timedelta(milliseconds=round(talked * 1000))
    members: dict[str, Any] = {
        "callType": "DIRECT_CALL" if dice.chance(0.3) else "CALL_SESSION",
        "status": "completed" if answered else dice.choice(_UNANSWERED),
        "type": "inbound" if inbound else "outbound",
        "startedAt": _time(rang_until) if answered else None,
        "endedAt": _time(ended),
        "createdAt": _time(created),
        "contact": _contact(dice, unknown_share=0.3 if inbound else 0.05),
        # Inbound callers may withhold their number.
        "phoneNumber": None if inbound and dice.chance(0.05) else {"value": _number(dice)},
        "caller": {"firstName": dice.choice(_FIRST_NAMES), "lastName": dice.choice(_LAST_NAMES)},
        "callerPhoneNumber": {"value": _number(dice)},
    }
    members |= {name: draw(dice, ended) for name, share, draw in _OPTIONAL if dice.chance(share)}
    if not inbound and dice.chance(0.4):
        members |= {"sequenceRunId": _uuid(dice), "sequenceId": _uuid(dice)}
    return orjson.dumps(members)[1:]


def _contact(dice: Dice, *, unknown_share: float) -> dict[str, Any] | None:
    if dice.chance(0.08):
        return None
    contact: dict[str, Any] = {"id": _uuid(dice)}
    if dice.chance(unknown_share):
        return contact | {"firstName": None, "lastName": None, "isUnknown": True}
    return contact | {
        "firstName": dice.choice(_FIRST_NAMES),
        "lastName": dice.choice(_LAST_NAMES),
        "isUnknown": False,
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(dice: Dice) -> str:
    prefix, digits = dice.choice(_NUMBERS)
    return f"{prefix}{dice.below(10**digits):0{digits}}"


def _uuid(dice: Dice, *, kinds: int = 2**60) -> str:
    """A UUID of version 4, one of so many."""
    # The odd factor only spreads small numbers over all the digits.
    digits = f"{(dice.below(kinds) + 1) * _SPREAD % 2**128:032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _later(dice: Dice, ended: datetime, *, days: float, null_share: float) -> str | None:
    """A time after the call; null where that did not happen."""
    moment = ended + timedelta(milliseconds=dice.below(round(days * 86_400_000)))
    return None if dice.chance(null_share) else _time(moment)


_OPTIONAL: Final[tuple[tuple[str, float, Callable[[Dice, datetime], Any]], ...]] = (
    ("phoneNumberId", 0.9, lambda dice, _: _uuid(dice)),
    ("userProviderSid", 0.8, lambda dice, _: f"CA{dice.below(10**9):09}"),
    (
        "adminProviderSid",
        0.7,
        lambda dice, _: f"CA{dice.below(10**9):09}" if dice.chance(0.5) else None,
    ),
    ("providerConferenceId", 0.7, lambda dice, _: f"CF{dice.below(10**9):09}"),
    ("transferred", 0.95, lambda dice, _: dice.chance(0.07)),
    ("updatedAt", 0.95, lambda dice, ended: _later(dice, ended, days=0.01, null_share=0.0)),
    ("syncedWithCrmDate", 0.7, lambda dice, ended: _later(dice, ended, days=0.1, null_share=0.2)),
    ("deletedAt", 0.9, lambda dice, ended: _later(dice, ended, days=60, null_share=0.95)),
    ("organizationId", 0.98, lambda dice, _: _uuid(dice, kinds=12)),
    ("organizationMembershipId", 0.95, lambda dice, _: _uuid(dice, kinds=400)),
    ("managedPhoneNumberId", 0.9, lambda dice, _: _uuid(dice, kinds=150)),
    ("notes", 0.35, lambda dice, _: dice.choice(_NOTES)),
)
"""The members that the page does not call required: the share of records that have each."""
