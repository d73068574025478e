"""Call documents for tests; the rule: this tells the vendor's page without the package's help.

`MEMBERS` is written from the page by hand, so that a mistake in `calls_async.models` cannot hide.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Final, Literal

import attrs
from hypothesis import strategies as st

from calls_async.models import Call, Caller, CallType, Contact, PhoneNumber

EXAMPLE_BODY: Final = (Path(__file__).parent / "data" / "call.json").read_bytes()
"""The page's example, as bytes."""


def example() -> dict[str, Any]:
    """The page's example, parsed; a new one each time."""
    document: dict[str, Any] = json.loads(EXAMPLE_BODY)
    return document


# --- What the page says --------------------------------------------------------------------------

Kind = Literal["string", "boolean", "time", "object"]


@attrs.frozen
class Member:
    """One documented member: where it stands, what it holds, and what it may be."""

    path: tuple[str, ...]
    kind: Kind
    required: bool = False
    nullable: bool = True

    @property
    def wire_path(self) -> str:
        """As a violation names it."""
        return ".".join(("$", *self.path))


MEMBERS: Final = (
    Member(("id",), "string", required=True, nullable=False),
    Member(("callType",), "string", required=True, nullable=False),
    Member(("status",), "string", required=True, nullable=False),
    Member(("type",), "string", required=True, nullable=False),
    Member(("startedAt",), "time", required=True),
    Member(("endedAt",), "time", required=True),
    Member(("createdAt",), "time", required=True, nullable=False),
    Member(("contact",), "object", required=True),
    Member(("contact", "id"), "string"),
    Member(("contact", "firstName"), "string"),
    Member(("contact", "lastName"), "string"),
    Member(("contact", "isUnknown"), "boolean"),
    Member(("phoneNumber",), "object", required=True),
    Member(("phoneNumber", "value"), "string"),
    Member(("caller",), "object", required=True),
    Member(("caller", "firstName"), "string"),
    Member(("caller", "lastName"), "string"),
    Member(("callerPhoneNumber",), "object", required=True),
    Member(("callerPhoneNumber", "value"), "string"),
    Member(("phoneNumberId",), "string"),
    Member(("userProviderSid",), "string"),
    Member(("adminProviderSid",), "string"),
    Member(("providerConferenceId",), "string"),
    Member(("transferred",), "boolean"),
    Member(("updatedAt",), "time"),
    Member(("sequenceRunId",), "string"),
    Member(("sequenceId",), "string"),
    Member(("syncedWithCrmDate",), "time"),
    Member(("deletedAt",), "time"),
    Member(("organizationId",), "string"),
    Member(("organizationMembershipId",), "string"),
    Member(("managedPhoneNumberId",), "string"),
    Member(("notes",), "string"),
)
"""Every documented member, in the page's order."""

MISSING: Final = object()
"""Stands for the absence of a member where a value could stand."""


def put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set (or, with `MISSING`, take away) the member at `path`; a null parent becomes an object."""
    *parents, name = path
    for parent in parents:
        if not isinstance(document[parent], dict):
            document[parent] = {}
        document = document[parent]
    if value is MISSING:
        document.pop(name, None)
    else:
        document[name] = value


NO_TIMES: Final = (
    "",
    "yesterday",
    "1710925200",
    "2024-03-20",
    "2024-03-20T09:00:00",  # no offset
    "2024-03-20T09:00:00.000",
    "2024-03-20 09:00:00Z",  # no T
    "2024-03-20T09:00Z",  # no seconds
    "2024-03-20T09:00:00,000Z",
    "2024-03-20T09:00:00.Z",
    "20240320T090000Z",
    "2024-W12-3T09:00:00Z",
    "2024-03-20T09:00:00+0100",
    "2024-03-20T09:00:00+01",
    "2024-03-20T09:00:00+01:00:30",
    "2024-03-20T09:00:00+01:60",
    "2024-03-20T09:00:00+24:00",
    "2024-03-20T24:00:00Z",
    "2024-03-20T25:00:00Z",
    "2024-03-20T09:60:00Z",
    "2016-12-31T23:59:60Z",  # a leap second that there was
    "2024-02-30T09:00:00Z",
    "2023-02-29T09:00:00Z",
    "2024-13-01T09:00:00Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+00:01",  # in the year 0 of UTC
    "9999-12-31T23:59:59-00:01",  # in the year 10000 of UTC
    "+12024-03-20T09:00:00Z",
    "2024-03-20T09:00:00Z ",
    "2024-03-20T09:00:00Z\n",
    "202\N{ARABIC-INDIC DIGIT FOUR}-03-20T09:00:00Z",
    "2024-03-20T09:00:00\N{MINUS SIGN}01:00",
    "2024-03-20\ud800T09:00:00Z",
)
"""Strings that are no RFC 3339 time which a `datetime` can hold."""

WRONG: Final[dict[Kind, tuple[Any, ...]]] = {
    "string": (True, False, 0, 1, 1.5, [], ["a"], {}, {"id": "a"}),
    "boolean": (0, 1, 0.0, 1.0, "", "true", "1", [], {}),
    "time": (True, 0, 1710925200, 1710925200000, 1.5, [], {}, *NO_TIMES),
    "object": (True, False, 0, 1.5, "", "{}", [], [{}]),
}
"""For every kind, values that are not of it, also those that a coercing reader lets through."""


def breakages(member: Member) -> tuple[Any, ...]:
    """Every value (or `MISSING`) at this member that the contract does not allow."""
    nulls = () if member.nullable else (None,)
    absences = (MISSING,) if member.required else ()
    return (*WRONG[member.kind], *nulls, *absences)


# --- Strategies ----------------------------------------------------------------------------------


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value that survives a round through JSON text."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=10)
    )
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    )


@st.composite
def times(draw: st.DrawFn) -> str:
    """RFC 3339 times of all shapes that the codec reads."""
    day = draw(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))  # noqa: DTZ001 - the zone follows
    fraction = draw(st.just("") | st.just(".000") | st.from_regex(r"\.[0-9]{1,9}", fullmatch=True))
    zone = draw(
        st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:45", "-23:59"])
        | st.from_regex(r"[+-]([01][0-9]|2[0-3]):[0-5][0-9]", fullmatch=True)
    )
    separator = draw(st.sampled_from("Tt"))
    return day.strftime(f"{day.year:04}-%m-%d{separator}%H:%M:%S") + fraction + zone


def _values(member: Member) -> st.SearchStrategy[Any]:
    if member.kind == "object":
        return st.none() | _objects(member.path)
    known: dict[Kind, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=20),
        "boolean": st.booleans(),
        "time": times(),
    }
    call_types = st.sampled_from(["CALL_SESSION", "DIRECT_CALL", "VIDEO"])
    values = call_types if member.path == ("callType",) else known[member.kind]
    return st.none() | values if member.nullable else values


def _objects(path: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    members = [member for member in MEMBERS if member.path[:-1] == path]
    names = {member.path[-1] for member in members}
    documented = st.fixed_dictionaries(
        {member.path[-1]: _values(member) for member in members if member.required},
        optional={member.path[-1]: _values(member) for member in members if not member.required},
    )
    unknown_names = st.text(max_size=8).filter(lambda name: name not in names)
    unknown: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
        unknown_names, json_values(), max_size=3
    )
    return st.builds(lambda one, other: {**one, **other}, documented, unknown)


def call_documents() -> st.SearchStrategy[dict[str, Any]]:
    """Valid documents: unknown members at every level, nulls, absences, times of all shapes."""
    return _objects()


class ClockChange(tzinfo):
    """A zone with rules: UTC+2 until its clocks go back an hour at 03:00, then UTC+1, every day."""

    def utcoffset(self, value: datetime | None) -> timedelta:
        """Two hours before the change, one after it; `fold` tells the hour that comes twice."""
        assert value is not None
        early = value.hour < 2 or (value.hour == 2 and not value.fold)
        return timedelta(hours=2 if early else 1)

    def tzname(self, _: datetime | None) -> str:
        """Nothing that anybody reads."""
        return "test"

    def dst(self, _: datetime | None) -> timedelta:
        """Not told."""
        return timedelta(0)


def instants() -> st.SearchStrategy[datetime]:
    """Aware datetimes, in UTC, with an offset (of broken minutes too) or in a zone with rules."""
    offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
    zones = st.just(UTC) | offsets.map(timezone) | st.just(ClockChange())
    return st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001 - `timezones` gives the zone


def calls() -> st.SearchStrategy[Call]:
    """Calls as a user may make them, not only those that a document can give."""
    text = st.none() | st.text(max_size=8)
    flag = st.none() | st.booleans()
    time = st.none() | instants()
    names = st.text(max_size=8).map(lambda name: f"x{name}")  # no documented member begins with x
    extra: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
        names, json_values(), max_size=3
    )
    number = st.builds(PhoneNumber, value=text, extra=extra)
    return st.builds(
        Call,
        id=st.text(max_size=8),
        call_type=st.sampled_from(CallType) | st.sampled_from(["DIRECT_CALL", "VIDEO"]),
        status=st.text(max_size=8),
        type=st.text(max_size=8),
        started_at=time,
        ended_at=time,
        created_at=instants(),
        contact=st.builds(
            Contact, id=text, first_name=text, last_name=text, is_unknown=flag, extra=extra
        ),
        phone_number=number,
        caller=st.builds(Caller, first_name=text, last_name=text, extra=extra),
        caller_phone_number=number,
        admin_provider_sid=text,
        transferred=flag,
        deleted_at=time,
        notes=text,
        extra=extra,
    )


# --- The normal form -----------------------------------------------------------------------------

_TIME: Final = re.compile(r"(.{10})[Tt](.{8})(?:\.(\d+))?(.+)")


def normal_time(text: str) -> str:
    """The normal form of an RFC 3339 time, found by its letters alone."""
    match = _TIME.fullmatch(text)
    assert match is not None
    day, clock, fraction, zone = match.groups()
    digits = (fraction or "").ljust(6, "0")[:6]
    digits = digits.removesuffix("000")
    zone = "Z" if zone in {"z", "+00:00", "-00:00"} else zone
    return f"{day}T{clock}.{digits}{zone}"


def normal_form(document: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The written normal form of a valid document."""
    normal = dict(document)
    for member in (member for member in MEMBERS if member.path[:-1] == path):
        name = member.path[-1]
        value = document.get(name)
        if value is None:
            if not member.required:
                normal.pop(name, None)
        elif member.kind == "time":
            normal[name] = normal_time(value)
        elif member.kind == "object":
            normal[name] = normal_form(value, member.path) or None
    return normal
