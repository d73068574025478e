"""The records: what they hold, and that they are values."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, assert_never

import attrs
import pytest

from calls_async import models
from calls_async._codec import decode_call, structure_call
from calls_async.models import Call, Caller, CallType, Contact, Extra, PhoneNumber
from tests.documents import EXAMPLE_BODY, MEMBERS, ClockChange, example

CALL = decode_call(EXAMPLE_BODY)
UNKNOWN: dict[str, Any] = {"tags": ["a", {"b": [1]}], "score": 1}
RECORDS = [Contact, PhoneNumber, Caller]


# --- The members ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "path"),
    [
        (Call, ()),
        (Contact, ("contact",)),
        (PhoneNumber, ("phoneNumber",)),
        (PhoneNumber, ("callerPhoneNumber",)),
        (Caller, ("caller",)),
    ],
)
def test_every_documented_member_is_a_field(
    cls: type[attrs.AttrsInstance], path: tuple[str, ...]
) -> None:
    """A class has the page's members, in the page's order, and `extra`; no others."""
    documented = [member.path[-1] for member in MEMBERS if member.path[:-1] == path]
    assert list(models.wire_names(cls).values()) == documented
    assert [field.name for field in attrs.fields(cls)] == [*models.wire_names(cls), "extra"]


def test_only_what_the_page_requires_must_be_given() -> None:
    """A member without a default is one that the page requires."""
    names = models.wire_names(Call)
    fields = attrs.fields_dict(Call)
    required = [wire for name, wire in names.items() if fields[name].default is attrs.NOTHING]
    assert required == [member.path[0] for member in MEMBERS if member.required]


@pytest.mark.parametrize("cls", [Call, *RECORDS])
def test_every_member_is_described_with_an_example(cls: type) -> None:
    """Each documented member has its docstring below it, with an example (objects show theirs)."""
    body = inspect.getsource(cls)
    for name in models.wire_names(cls):
        _, _, after = body.partition(f"\n    {name}: ")
        annotation, _, doc = after.partition('\n    """')
        assert "\n" not in annotation
        assert "Example: `" in doc.split('"""', 1)[0] or annotation in {
            "Contact",
            "PhoneNumber",
            "Caller",
        }


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [CALL, CALL.contact, CALL.phone_number, CALL.caller])
def test_records_are_frozen_and_slotted(record: Any) -> None:
    """No member can be set, none can be added."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.extra = {}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.brand_new = 1
    assert not hasattr(record, "__dict__")


def test_records_compare_by_value() -> None:
    """Equal members make equal records with equal hashes; any other member makes another record."""
    other = decode_call(EXAMPLE_BODY)
    assert other is not CALL
    assert other == CALL
    assert hash(other) == hash(CALL)
    for field in attrs.fields(Call):
        value = {"x": 1} if field.name == "extra" else None
        values = {f.name: getattr(CALL, f.name) for f in attrs.fields(Call)} | {field.name: value}
        if field.name == "created_at":
            values["created_at"] = CALL.started_at
        assert Call(**values) != CALL, field.name


def test_a_kept_call_is_well_below_a_dict() -> None:
    """A call and its records take less than half of the parsed document's dicts."""

    def size(*parts: Any) -> int:
        return sum(map(sys.getsizeof, parts))

    document = example()
    dicts = size(document, *(value for value in document.values() if isinstance(value, dict)))
    objects = size(CALL, CALL.contact, CALL.caller, CALL.phone_number, CALL.caller_phone_number)
    assert objects < dicts / 2


# --- CallType ------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", CallType)
def test_a_known_call_type_is_its_member(member: CallType) -> None:
    """Given as a plain string, a known type is the member: identity and `isinstance` tell it."""
    call = attrs.evolve(CALL, call_type=member.value)
    assert call.call_type is member
    assert pickle.loads(pickle.dumps(call)).call_type is member


def test_an_unknown_call_type_is_kept_as_its_string() -> None:
    """The enum is open: an unknown value is the plain `str`, and the enum does not grow."""
    call = structure_call(example() | {"callType": "VIDEO"})
    assert call.call_type == "VIDEO"
    assert type(call.call_type) is str
    assert [member.value for member in CallType] == ["CALL_SESSION", "DIRECT_CALL"]
    assert pickle.loads(pickle.dumps(call)) == copy.deepcopy(call) == call


@pytest.mark.parametrize(
    ("wire", "told"), [("CALL_SESSION", "session"), ("DIRECT_CALL", "direct"), ("VIDEO", "VIDEO")]
)
def test_a_match_over_call_types_is_exhaustive_with_a_str(wire: str, told: str) -> None:
    """Type checkers see that both members are not all, and `str` catches the rest."""
    call_type = structure_call(example() | {"callType": wire}).call_type
    match call_type:
        case CallType.CALL_SESSION:
            seen = "session"
        case CallType.DIRECT_CALL:
            seen = "direct"
        case str():
            seen = call_type
        case _:  # pragma: no cover - never
            assert_never(call_type)
    assert seen == told


# --- Times ---------------------------------------------------------------------------------------

NOON = datetime(2024, 3, 20, 12)  # noqa: DTZ001 - the naive time is under test
TIME_FIELDS = [
    "started_at",
    "ended_at",
    "created_at",
    "updated_at",
    "synced_with_crm_date",
    "deleted_at",
]


@pytest.mark.parametrize("field", TIME_FIELDS)
def test_a_naive_time_is_refused(field: str) -> None:
    """Every time of a call is aware, however the call is made."""
    change: dict[str, Any] = {field: NOON}
    with pytest.raises(ValueError, match="2024-03-20T12:00:00 has no time zone"):
        attrs.evolve(CALL, **change)


@pytest.mark.parametrize(
    "value",
    [
        datetime(1, 1, 1, 0, 59, tzinfo=timezone(timedelta(hours=1))),
        datetime(9999, 12, 31, 23, 0, tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_a_time_that_utc_does_not_have_is_refused(value: datetime) -> None:
    """A time whose point in UTC is before year 1 or after year 9999 is a ValueError."""
    with pytest.raises(ValueError, match="outside of the years 1 to 9999"):
        attrs.evolve(CALL, created_at=value)


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        (UTC, timedelta(0)),
        (timezone(timedelta(0), "Greenwich"), timedelta(0)),
        (timezone(timedelta(hours=-3)), timedelta(hours=-3)),
        (timezone(timedelta(minutes=9, seconds=21)), timedelta(0)),
        (ClockChange(), timedelta(hours=1)),
    ],
)
def test_a_time_keeps_its_point_and_has_a_fixed_offset(zone: timezone, offset: timedelta) -> None:
    """A zone becomes the offset it has at that point; broken minutes become UTC."""
    given = NOON.replace(tzinfo=zone)
    kept = attrs.evolve(CALL, created_at=given).created_at
    assert kept - given == timedelta(0)
    assert kept.utcoffset() == offset
    assert type(kept.tzinfo) is timezone


def test_broken_minutes_become_utc_itself() -> None:
    """Not the machine's own zone, which may be at the same offset."""
    zone = timezone(timedelta(minutes=9, seconds=21))
    assert attrs.evolve(CALL, created_at=NOON.replace(tzinfo=zone)).created_at.tzinfo is UTC


# --- Unknown members -----------------------------------------------------------------------------


@pytest.mark.parametrize("record", [CALL, Contact(), PhoneNumber(), Caller()])
def test_no_unknown_members_cost_nothing(record: Any) -> None:
    """All records without unknown members share one empty mapping, copies and pickles too."""
    empty = Contact().extra
    assert len(empty) == 0
    for again in (record, copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert again.extra is empty
    assert attrs.evolve(record, extra={}).extra is empty


@pytest.mark.parametrize("record", [CALL, Contact(), PhoneNumber(), Caller()])
def test_unknown_members_are_part_of_equality_not_of_the_hash(record: Any) -> None:
    """Unhashable values in `extra` do not matter to the hash; to equality they do."""
    other = attrs.evolve(record, extra=UNKNOWN)
    assert other != record
    assert other == attrs.evolve(record, extra=copy.deepcopy(UNKNOWN))
    assert hash(other) == hash(record)
    assert len({other, record}) == 2


@pytest.mark.parametrize("record", [CALL, Contact(), PhoneNumber(), Caller()])
def test_unknown_members_pickle_copy_and_evolve(record: Any) -> None:
    """`extra` survives everything that its record survives."""
    other = attrs.evolve(record, extra=UNKNOWN)
    for again in (pickle.loads(pickle.dumps(other)), copy.copy(other), copy.deepcopy(other)):
        assert again == other
        assert again.extra == UNKNOWN
    assert attrs.evolve(other).extra is other.extra
    assert attrs.evolve(other, extra={}) == record


def test_unknown_members_cannot_be_changed() -> None:
    """Neither the mapping nor a list or an object within, nor what it was made from."""
    source = copy.deepcopy(UNKNOWN)
    extra: Any = Contact(extra=source).extra
    with pytest.raises(TypeError):
        extra["new"] = 1
    with pytest.raises(TypeError):
        del extra["tags"]
    with pytest.raises(AttributeError):
        extra.new = 1
    extra["tags"].append("b")
    extra["tags"][1]["b"].append(2)
    source["tags"][1]["b"].append(3)
    source.clear()
    assert extra == UNKNOWN


def test_unknown_members_read_like_a_dict() -> None:
    """`extra` is a mapping: it iterates, counts, gets, compares with a dict and prints."""
    extra = Extra(UNKNOWN)
    assert list(extra) == ["tags", "score"]
    assert len(extra) == 2
    assert extra["score"] == extra.get("score") == 1
    assert "none" not in extra
    assert extra == UNKNOWN
    assert extra != {"score": 1}
    assert repr(extra) == "Extra({'tags': ['a', {'b': [1]}], 'score': 1})"
    assert attrs.asdict(Contact(extra=UNKNOWN))["extra"] == UNKNOWN


def test_unknown_members_may_be_nested_deeper_than_the_stack() -> None:
    """Depth alone does not break a record."""
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    extra = Contact(extra={"deep": deep}).extra
    depth, value = 0, extra["deep"]
    while value:
        depth, value = depth + 1, value[0]
    assert depth == sys.getrecursionlimit() * 2


DEEP = {
    "arrays": b"[" * 1_022 + b"]" * 1_022,
    "objects": b'{"a":' * 1_022 + b"1" + b"}" * 1_022,
    "both": b'[{"a":' * 511 + b"1" + b"}]" * 511,
}


@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP.keys())
def test_a_record_as_deep_as_the_parser_goes_is_like_any_other(deep: bytes) -> None:
    """It copies, pickles, compares and prints, although Python's own ways are recursive."""
    body = EXAMPLE_BODY.rstrip()[:-1] + b', "deep": ' + deep + b', "next": 1}'
    call = decode_call(body)
    again = [copy.copy(call), copy.deepcopy(call), decode_call(body)]
    again += [pickle.loads(pickle.dumps(call, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in again:
        assert other == call
        assert list(other.extra) == ["deep", "next"]
    assert call != decode_call(body.replace(deep, deep.replace(b"1", b"2").replace(b"[]", b"[0]")))
    assert call.extra != {"deep": [], "next": 1}
    assert len(repr(call)) > 500


def test_a_record_too_deep_to_print_says_so() -> None:
    """A repr is asked for by those who look for a fault; it must not be another one."""
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    assert repr(Extra.over({"deep": deep})) == "Extra(<1 members, nested too deep to be shown>)"
    while deep:  # to free it all at once would recurse as well
        deep = deep.pop()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": [1]}, {"a": [1, 1]}),
        ({"a": [1]}, {"a": {"0": 1}}),
        ({"a": {}}, {"a": []}),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 1}}),
        ({"a": None}, {}),
    ],
)
def test_extra_is_equal_to_what_its_dict_is_equal_to(one: Any, other: Any) -> None:
    """It compares as Python's dicts do."""
    assert (Extra(one) == Extra(other)) == (Extra(one) == other) == (one == other)
    assert Extra(one) != list(one)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.wire_path)
def test_a_documented_member_cannot_hide_in_extra(member: Any) -> None:
    """It would be written twice, so that one value would be lost: a ValueError that names it."""
    record: Any = CALL
    for name in member.path[:-1]:
        names = {wire: field for field, wire in models.wire_names(type(record)).items()}
        record = getattr(record, names[name])
    with pytest.raises(ValueError, match=rf"documented members: \['{member.path[-1]}'\]"):
        attrs.evolve(record, extra={member.path[-1]: None, "other": 1})


def test_a_record_prints_as_it_is_made() -> None:
    """The repr of a record names every member."""
    assert repr(Caller(first_name="A")) == "Caller(first_name='A', last_name=None, extra=Extra({}))"
    assert json.loads(EXAMPLE_BODY)["id"] in str(CALL)


def test_unknown_members_are_compared_with_any_mapping():
    """They are one, and equal what holds the same members."""
    assert Extra({"new": [1]}) == MappingProxyType({"new": [1]})
    assert Extra({"new": [1]}) != MappingProxyType({"new": [2]})
    assert Extra({}) != []


def test_a_copy_of_unknown_members_is_the_same():
    """Nothing can change them, so there is nothing to copy, however deep they are nested."""
    extra = Extra({"new": [1]})
    assert copy.copy(extra) is extra
    assert copy.deepcopy(extra) is extra


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}),
        ({"a": [1], "b": [2]}, {"a": [0], "b": [2]}),
        ({"a": [1]}, {"a": {"0": 1}}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": []}, {"a": {}}),
    ],
)
def test_unknown_members_differ_wherever_they_differ(one, other):
    """In the first place and in the last, at every depth, and by the kind of container."""
    assert Extra(one) != Extra(other)
    assert Extra(one) == Extra(copy.deepcopy(one))
    assert pickle.loads(pickle.dumps(Extra(one))) == Extra(one)


def test_deep_unknown_members_are_equal_and_come_back():
    """Deeper than Python's own comparison and pickling go."""
    deep = [1]
    for _ in range(20_000):
        deep = [deep]
    extra = Extra({"deep": deep})
    assert extra == Extra({"deep": deep})
    assert pickle.loads(pickle.dumps(extra)) == extra
