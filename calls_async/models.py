"""The record of one call; the rule: these classes are the contract, as the vendor's page words it.

Whether a member must be present, whether it may be null, and its type are written here and nowhere
else: a member without a default is required, one whose type has `| None` may be null, and its name
on the wire is its name here in camel case. The codec derives its hooks from that.

Everything is frozen, compares by value and survives `pickle`, `copy` and `attrs.evolve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeGuard, cast, final

import attrs

__all__ = ["Call", "CallType", "Caller", "Contact", "Extra", "PhoneNumber"]


class CallType(StrEnum):
    """The types of a call that the page names; `Call.call_type` may hold others."""

    CALL_SESSION = "CALL_SESSION"
    DIRECT_CALL = "DIRECT_CALL"


_CALL_TYPES: Final[Mapping[str, CallType]] = {member.value: member for member in CallType}


def _as_call_type(value: str) -> CallType | str:
    # The enum is open because the field is a union: a known value is always the member, an unknown
    # one stays the `str` that it is. The alternative, pseudo-members made by `_missing_`, would lie
    # to type checkers (a `match` over both members looks exhaustive and is not), and to keep `is`
    # they would have to be registered, so that a hostile server could fill the memory.
    return _CALL_TYPES.get(value, value)


_MINUTE: Final = timedelta(minutes=1)


def as_instant(value: datetime) -> datetime:
    """The same point in time in a form that RFC 3339 can write: in UTC or with a fixed offset.

    A zone with rules (`zoneinfo`) becomes the offset that it has at this point: nothing on the wire
    names a zone, and around its clock changes a time in it equals no time in another (PEP 495).
    An offset of broken minutes, as local mean times have, becomes UTC.

    Raises:
        ValueError: The time has no offset, or is outside of the years 1 to 9999 when told in UTC.
    """
    if value.tzinfo is UTC:
        return value
    offset = value.utcoffset()
    if offset is None:
        raise ValueError(f"{value.isoformat()} has no time zone")
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} is outside of the years 1 to 9999 in UTC") from None
    return in_utc if offset % _MINUTE else value.replace(tzinfo=timezone(offset))


def _as_instant_or_none(value: datetime | None) -> datetime | None:
    return value if value is None or value.tzinfo is UTC else as_instant(value)


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any]]:
    return isinstance(value, dict | list)


def copied(value: Any) -> Any:
    """A copy of a JSON value that shares no list and no dict with it."""
    # A loop and not `copy.deepcopy`, because a document may be nested deeper than the stack is.
    holder = [value]
    unvisited: list[dict[Any, Any] | list[Any]] = [holder]
    while unvisited:
        parent = unvisited.pop()
        items: Iterable[Any] = parent.items() if isinstance(parent, dict) else enumerate(parent)
        for key, item in items:
            if _is_container(item):
                parent[key] = item.copy()
                unvisited.append(parent[key])
    return holder[0]


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, however deep they are nested."""
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if _is_container(a) and _is_container(b) and type(a) is type(b):
            ours, theirs = _by_place(a), _by_place(b)
            if ours.keys() != theirs.keys():
                return False
            pairs += [(ours[place], theirs[place]) for place in ours]
        elif a != b:
            return False
    return True


def _by_place(container: dict[Any, Any] | list[Any]) -> dict[Any, Any]:
    return container if isinstance(container, dict) else dict(enumerate(container))


@final
class Extra(Mapping[str, Any]):  # noqa: PLW1641 (a dict has no hash either)
    """The members of a JSON object that the page does not name, by their names on the wire.

    It compares like a `dict` and cannot be changed: lists and objects go in and come out as copies.
    It is no attrs class, so that `attrs.asdict` leaves it whole.

    Args:
        members: JSON values by their names.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members: dict[str, Any] = copied(dict(members))

    @classmethod
    def over(cls, members: dict[str, Any]) -> Extra:
        """These very members, which nobody else holds: to copy a large answer would double it."""
        extra = cls.__new__(cls)
        extra._members = members  # noqa: SLF001 (the same class)
        return extra

    def __getitem__(self, name: str) -> Any:
        return copied(self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Extra):
            return _same(self._members, other._members)
        if isinstance(other, Mapping):
            return _same(self._members, dict(cast("Any", other)))
        return NotImplemented

    def __repr__(self) -> str:
        try:
            return f"Extra({self._members!r})"
        except RecursionError:
            return f"Extra(<{len(self)} members, nested too deep to be shown>)"

    def __copy__(self) -> Extra:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Extra:
        return self  # nothing can change it

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, _flat(self._members)


NO_EXTRA: Final = Extra({})


def _flat(members: dict[str, Any]) -> tuple[list[Any], list[tuple[int, Any, int]]]:
    """Each list and dict on its own, and which of them stands where in which."""
    # A document may be nested deeper than `pickle` goes.
    parts: list[dict[Any, Any] | list[Any]] = [members.copy()]
    links: list[tuple[int, Any, int]] = []
    for number, part in enumerate(parts):  # which grows meanwhile
        for key, item in _by_place(part).items():
            if _is_container(item):
                links.append((number, key, len(parts)))
                parts.append(item.copy())
                part[key] = None
    return parts, links


def _rebuilt(parts: list[Any], links: list[tuple[int, Any, int]]) -> Extra:
    for outer, key, inner in links:
        parts[outer][key] = parts[inner]
    return Extra.over(parts[0]) if parts[0] else NO_EXTRA


@cache
def wire_names(cls: type[attrs.AttrsInstance]) -> Mapping[str, str]:
    """How the API spells the documented members of `cls`: `first_name` is `firstName`."""
    names = [field.name for field in attrs.fields(cls) if field.name != "extra"]
    return {name: name[0] + name.title().replace("_", "")[1:] for name in names}


def _as_extra(members: Mapping[str, Any], record: attrs.AttrsInstance) -> Mapping[str, Any]:
    # All records without unknown members share one empty mapping, so that they pay nothing for it.
    if members is NO_EXTRA or not members:
        return NO_EXTRA
    # A documented member in here would be written twice, and one of the two values would be lost.
    cls = type(record)
    if documented := sorted(members.keys() & set(wire_names(cls).values())):
        raise ValueError(f"{cls.__name__}(extra=...) has documented members: {documented}")
    return members if isinstance(members, Extra) else Extra(members)


def _extra() -> Any:
    # `hash=False`: the values may be lists and dicts. Equal records still have equal hashes.
    return attrs.field(
        default=NO_EXTRA, converter=attrs.Converter(_as_extra, takes_self=True), hash=False
    )


@attrs.frozen(kw_only=True)
class Contact:
    """Contact information associated with the call; every member is `None` if there is none."""

    id: str | None = None
    """Unique identifier of the contact. Example: `123e4567-e89b-12d3-a456-426614174000`."""
    first_name: str | None = None
    """First name. Example: `John`."""
    last_name: str | None = None
    """Last name. Example: `Doe`."""
    is_unknown: bool | None = None
    """Whether the contact is unknown. Example: `False`."""
    extra: Mapping[str, Any] = _extra()
    """Members that the page does not name; see `Extra`."""


@attrs.frozen(kw_only=True)
class PhoneNumber:
    """A phone number; its value is `None` if there is none."""

    value: str | None = None
    """The number as the API writes it. Example: `+33612345678`."""
    extra: Mapping[str, Any] = _extra()
    """Members that the page does not name; see `Extra`."""


@attrs.frozen(kw_only=True)
class Caller:
    """The organization member who made the call; every member is `None` if there is none."""

    first_name: str | None = None
    """First name. Example: `Alice`."""
    last_name: str | None = None
    """Last name. Example: `Martin`."""
    extra: Mapping[str, Any] = _extra()
    """Members that the page does not name; see `Extra`."""


@attrs.frozen(kw_only=True)
class Call:
    """One entry of the call history.

    A member that the page requires must be given. Where the page says `object` for what its example
    shows as a plain value, the type is that of the example, or `None`. Every time is aware: in UTC,
    or with the offset that the server wrote.

    Raises:
        ValueError: A time has no time zone, or `extra` names a documented member.
    """

    id: str
    """Unique identifier of the call history entry.

    Example: `123e4567-e89b-12d3-a456-426614174000`.
    """
    call_type: CallType | str = attrs.field(converter=_as_call_type)
    """Type of the entry: a `CallType`, or the plain `str` where the page does not name it.

    Example: `CallType.CALL_SESSION`.
    """
    status: str
    """Status of the call. Example: `completed`."""
    type: str
    """Type of call, such as `outbound` or `inbound`. Example: `outbound`."""
    started_at: datetime | None = attrs.field(converter=_as_instant_or_none)
    """Start time of the call; `None` if the API has none. Example: `2024-03-20T09:00:00.000Z`."""
    ended_at: datetime | None = attrs.field(converter=_as_instant_or_none)
    """End time of the call; `None` if the API has none. Example: `2024-03-20T09:15:00.000Z`."""
    created_at: datetime = attrs.field(converter=as_instant)
    """When the entry was created. Example: `2024-03-20T08:55:00.000Z`."""
    contact: Contact
    """The contact of the call. Never `None`."""
    phone_number: PhoneNumber
    """Phone number information associated with the call. Never `None`."""
    caller: Caller
    """The organization member who made the call. Never `None`."""
    caller_phone_number: PhoneNumber
    """The managed phone number that the caller used. Never `None`."""
    phone_number_id: str | None = None
    """Identifier of the phone number used. Example: `123e4567-e89b-12d3-a456-426614174002`."""
    user_provider_sid: str | None = None
    """Provider SID for the user side of the call. Example: `CA123456789`."""
    admin_provider_sid: str | None = None
    """Provider SID for the admin side of the call. Example: `CA987654321`."""
    provider_conference_id: str | None = None
    """Provider conference ID. Example: `CF123456789`."""
    transferred: bool | None = None
    """Whether the call was transferred. Example: `False`."""
    updated_at: datetime | None = attrs.field(default=None, converter=_as_instant_or_none)
    """When the entry was last updated. Example: `2024-03-20T09:16:00.000Z`."""
    sequence_run_id: str | None = None
    """Identifier of the related sequence run. Example: `123e4567-e89b-12d3-a456-426614174003`."""
    sequence_id: str | None = None
    """Identifier of the parent sequence. Example: `123e4567-e89b-12d3-a456-426614174010`."""
    synced_with_crm_date: datetime | None = attrs.field(default=None, converter=_as_instant_or_none)
    """When the call was synced with the CRM. Example: `2024-03-20T09:15:00.000Z`."""
    deleted_at: datetime | None = attrs.field(default=None, converter=_as_instant_or_none)
    """When the entry was deleted. Example: `2024-03-20T09:15:00.000Z`."""
    organization_id: str | None = None
    """Identifier of the organization. Example: `123e4567-e89b-12d3-a456-426614174004`."""
    organization_membership_id: str | None = None
    """Identifier of the organization membership.

    Example: `123e4567-e89b-12d3-a456-426614174005`.
    """
    managed_phone_number_id: str | None = None
    """Identifier of the managed phone number. Example: `123e4567-e89b-12d3-a456-426614174006`."""
    notes: str | None = None
    """Notes associated with the call. Example: `Call notes here`."""
    extra: Mapping[str, Any] = _extra()
    """Members that the page does not name; see `Extra`."""
