"""The codec, place by place; the laws over generated documents are in `tests/property`."""

from __future__ import annotations

import json
import tracemalloc
from codecs import BOM_UTF8
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import attrs
import orjson
import pytest

from calls_async import _codec
from calls_async._codec import decode_call, structure_call, unstructure_call
from calls_async.errors import DecodeError
from calls_async.models import NO_EXTRA, Call, Caller, CallType, Contact, PhoneNumber
from tests.documents import (
    EXAMPLE_BODY,
    MEMBERS,
    MISSING,
    NO_TIMES,
    Member,
    breakages,
    example,
    put,
)

UUID = "123e4567-e89b-12d3-a456-4266141740{:02}"

SMALLEST: dict[str, Any] = {
    "id": "a",
    "callType": "DIRECT_CALL",
    "status": "completed",
    "type": "inbound",
    "startedAt": None,
    "endedAt": None,
    "createdAt": "2024-03-20T08:55:00.000Z",
    "contact": None,
    "phoneNumber": None,
    "caller": None,
    "callerPhoneNumber": None,
}
"""The least that the contract allows."""


NO_SUCH_TIME = "must be a time that exists, without leap second, in the years 1 to 9999 of UTC"


def at(hour: int, minute: int) -> datetime:
    return datetime(2024, 3, 20, hour, minute, tzinfo=UTC)


def refusal(document: object) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        structure_call(document)
    return caught.value


def refused_body(body: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode_call(body)
    error = caught.value
    assert error.raw == body
    # orjson's and cattrs' errors hold the text, in which a server may have echoed the key.
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


# --- The page's example --------------------------------------------------------------------------


def test_the_pages_example_structures() -> None:
    """Every member of the page's example arrives with its type."""
    assert decode_call(EXAMPLE_BODY) == Call(
        id=UUID.format(0),
        call_type=CallType.CALL_SESSION,
        status="completed",
        type="outbound",
        started_at=at(9, 0),
        ended_at=at(9, 15),
        created_at=at(8, 55),
        contact=Contact(id=UUID.format(0), first_name="John", last_name="Doe", is_unknown=False),
        phone_number=PhoneNumber(value="+33612345678"),
        caller=Caller(first_name="Alice", last_name="Martin"),
        caller_phone_number=PhoneNumber(value="+33612345678"),
        phone_number_id=UUID.format(2),
        user_provider_sid="CA123456789",
        admin_provider_sid="CA987654321",
        provider_conference_id="CF123456789",
        transferred=False,
        updated_at=at(9, 16),
        sequence_run_id=UUID.format(3),
        sequence_id=UUID.format(10),
        synced_with_crm_date=at(9, 15),
        deleted_at=at(9, 15),
        organization_id=UUID.format(4),
        organization_membership_id=UUID.format(5),
        managed_phone_number_id=UUID.format(6),
        notes="Call notes here",
    )


def test_the_pages_example_comes_back_as_it_was() -> None:
    """The example is in the normal form: it unstructures to itself, in the page's order."""
    assert json.dumps(unstructure_call(decode_call(EXAMPLE_BODY))) == json.dumps(example())


# --- Nulls and absences --------------------------------------------------------------------------


def test_the_smallest_document_structures() -> None:
    """Absent optional members and null objects read `None`, safely at every depth."""
    call = structure_call(SMALLEST)
    assert call.started_at is None
    assert call.contact.first_name is None
    assert call.contact == Contact()
    assert call.phone_number == call.caller_phone_number == PhoneNumber()
    assert call.caller == Caller()
    assert call.notes is None
    assert unstructure_call(call) == SMALLEST


def test_null_objects_share_one_instance() -> None:
    """A null nested object costs no object of its own."""
    call = structure_call(SMALLEST)
    assert call.phone_number is call.caller_phone_number
    assert structure_call(SMALLEST).contact is call.contact


@pytest.mark.parametrize(
    "member", [m for m in MEMBERS if m.nullable], ids=lambda member: member.wire_path
)
def test_null_reads_none_and_is_written_in_the_normal_form(member: Member) -> None:
    """An optional null is absent afterwards; a required one stays null."""
    document = example()
    put(document, member.path, None)
    again = unstructure_call(structure_call(document))
    if not member.required:
        put(document, member.path, MISSING)
        if document[member.path[0] if len(member.path) == 2 else "id"] == {}:
            document[member.path[0]] = None  # an object without members is null
    assert again == document


# --- Violations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "value"),
    [(member, value) for member in MEMBERS for value in breakages(member)],
    ids=lambda part: part.wire_path if isinstance(part, Member) else ascii(part)[:30],
)
def test_any_single_breakage_names_its_path_and_no_other(member: Member, value: object) -> None:
    """A wrong type, a missing required member or a refused null is one violation, at its path."""
    document = example()
    put(document, member.path, value)
    error = refusal(document)
    assert [violation.path for violation in error.violations] == [member.wire_path]
    assert error.document_readable
    assert not error.retryable


def test_all_violations_are_collected_with_their_types() -> None:
    """One error tells every place, what must be there and what was, in the page's order."""
    document = example() | {"transferred": 1, "caller": [], "createdAt": "today", "notes": 1.5}
    document["contact"] = {"isUnknown": "no", "id": {}, "new": 1}
    document["phoneNumber"] = {"value": False}
    document["updatedAt"] = "2024-03-20T24:00:00Z"
    document["deletedAt"] = "2016-12-31T23:59:60Z"
    document["sequenceId"] = object()
    document["callType"] = None
    del document["status"]
    error = refusal(document)
    assert list(map(str, error.violations)) == [
        "$.callType: must be a string, not null",
        "$.status: is required, but missing",
        "$.createdAt: must be a time as in RFC 3339, with Z or an offset",
        "$.contact.id: must be a string, not an object",
        "$.contact.isUnknown: must be a boolean, not a string",
        "$.phoneNumber.value: must be a string, not a boolean",
        "$.caller: must be an object, not an array",
        "$.transferred: must be a boolean, not a number",
        "$.updatedAt: must be a time as in RFC 3339, with Z or an offset",
        "$.sequenceId: must be a string, not object",
        f"$.deletedAt: {NO_SUCH_TIME}",
        "$.notes: must be a string, not a number",
    ]
    assert error.message == (
        "The record breaks the contract: $.callType: must be a string, not null (and 11 more)"
    )


@pytest.mark.parametrize(
    ("broken", "more"), [(("id",), ""), (("id", "type"), " (and 1 more)")], ids=["one", "two"]
)
def test_a_message_tells_the_first_violation_and_how_many_follow(
    broken: tuple[str, ...], more: str
) -> None:
    """One line for a log; all of them are in `violations`."""
    message = refusal(example() | dict.fromkeys(broken, 1)).message
    assert message == f"The record breaks the contract: $.id: must be a string, not a number{more}"


def test_a_message_says_what_is_wrong_with_a_time() -> None:
    """Whether it is none at all, not in the form, or one that does not exist."""
    problems = {
        1: "must be a time, not a number",
        "2024-03-20": "must be a time as in RFC 3339, with Z or an offset",
        "\u0662024-03-20T09:00:00Z": "must be a time as in RFC 3339, with Z or an offset",
        "2024-02-30T09:00:00Z": NO_SUCH_TIME,
    }
    for value, problem in problems.items():
        (violation,) = refusal(example() | {"createdAt": value}).violations
        assert violation.problem == problem


@pytest.mark.parametrize("document", [None, True, 0, 1.5, "", "{}", [], [{}]])
def test_a_document_that_is_no_object_is_a_violation_at_the_root(document: object) -> None:
    """JSON that is no object breaks the contract at `$`, parsed or as a body."""
    for error in (refusal(document), refused_body(json.dumps(document).encode())):
        assert [violation.path for violation in error.violations] == ["$"]
        assert error.document_readable
        assert error.call_id is None


@pytest.mark.parametrize(("document_id", "call_id"), [("a", "a"), (1, None), (None, None)])
def test_the_error_carries_the_id_if_there_is_one(document_id: object, call_id: str | None) -> None:
    """`call_id` is the document's id where that is a string."""
    assert refusal({"id": document_id}).call_id == call_id


def test_a_refused_body_is_within_reach() -> None:
    """A body that breaks the contract is the error's `raw`, with nothing foreign chained to it."""
    error = refused_body(b'{"id": "a"}')
    assert error.call_id == "a"
    assert len(error.violations) == 10
    assert refusal({"id": "a"}).raw == b""


def test_values_are_never_quoted() -> None:
    """A server may echo the key in any member, so a violation tells types only."""
    document = dict.fromkeys(example(), "sk_live_echo")
    error = refusal(document | {"transferred": "sk_live_echo", "id": 1})
    assert "sk_live_echo" not in str(error) + repr(error)


# --- Times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "normal"),
    [
        ("2024-03-20T09:00:00Z", at(9, 0), "2024-03-20T09:00:00.000Z"),
        ("2024-03-20t09:00:00z", at(9, 0), "2024-03-20T09:00:00.000Z"),
        ("2024-03-20T09:00:00.0Z", at(9, 0), "2024-03-20T09:00:00.000Z"),
        ("2024-03-20T09:00:00+00:00", at(9, 0), "2024-03-20T09:00:00.000Z"),
        ("2024-03-20T09:00:00-00:00", at(9, 0), "2024-03-20T09:00:00.000Z"),
        ("2024-03-20T10:00:00+01:00", at(9, 0), "2024-03-20T10:00:00.000+01:00"),
        ("2024-03-20T08:59:00.5-00:01", at(9, 0), "2024-03-20T08:59:00.500-00:01"),
        ("2024-03-20T09:00:00.000001Z", at(9, 0), "2024-03-20T09:00:00.000001Z"),
        # More digits than a datetime holds are cut, not rounded: no call is lost over them.
        ("2024-03-20T09:00:00.1239999999Z", at(9, 0), "2024-03-20T09:00:00.123999Z"),
        ("2024-03-20T09:00:00.9999999Z", at(9, 0), "2024-03-20T09:00:00.999999Z"),
        ("2024-02-29T23:59:59.999Z", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), None),
        ("0001-01-01T00:00:00.000Z", datetime.min.replace(tzinfo=UTC), None),
        ("0001-01-01T23:59:00.000+23:59", datetime.min.replace(tzinfo=UTC), None),
        (
            "9999-12-31T23:59:59.999999Z",
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
            None,
        ),
    ],
)
def test_a_time_is_the_same_point_and_has_a_normal_form(
    text: str, value: datetime, normal: str | None
) -> None:
    """RFC 3339 in all its shapes; written with milliseconds and `Z`, or what the value has."""
    call = structure_call(SMALLEST | {"createdAt": text})
    assert call.created_at.tzinfo is not None
    assert timedelta(0) <= call.created_at - value < timedelta(seconds=1)
    assert unstructure_call(call)["createdAt"] == (normal or text)


def test_an_offset_is_kept() -> None:
    """A time with an offset still has it."""
    call = structure_call(SMALLEST | {"createdAt": "2024-03-20T10:00:00.000+05:30"})
    assert call.created_at.tzinfo == timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize("text", NO_TIMES)
def test_a_string_that_is_no_time_is_one_violation(text: str) -> None:
    """No naive, partial, impossible or otherwise written time passes, on any Python version."""
    error = refusal(SMALLEST | {"createdAt": text})
    assert [violation.path for violation in error.violations] == ["$.createdAt"]


# --- Unknown members -----------------------------------------------------------------------------


def test_unknown_members_are_kept_at_every_level_and_come_back() -> None:
    """What the page does not name is in `extra`, and in the document again; even one so named."""
    document = example() | {"extra": 1, "aNew": [1, {"b": None}], "call_type": "x", "": 0}
    for name in ("contact", "phoneNumber", "caller", "callerPhoneNumber"):
        document[name] |= {"extra": {"extra": name}}
    call = structure_call(document)
    assert call.extra == {"extra": 1, "aNew": [1, {"b": None}], "call_type": "x", "": 0}
    assert call.caller_phone_number.extra == {"extra": {"extra": "callerPhoneNumber"}}
    assert unstructure_call(call) == document


def test_a_nested_object_of_unknown_members_alone_is_an_object() -> None:
    """Only an object without any member is null in the normal form."""
    document = SMALLEST | {"contact": {"new": None}, "caller": {}, "phoneNumber": {"value": None}}
    again = unstructure_call(structure_call(document))
    assert again == SMALLEST | {"contact": {"new": None}}


def test_an_unstructured_call_shares_nothing_with_the_call() -> None:
    """Who changes the document does not change the call."""
    call = structure_call(SMALLEST | {"tags": [1]})
    document = unstructure_call(call)
    document["tags"].append(2)
    assert call.extra == {"tags": [1]}


def test_a_name_that_is_no_string_is_a_violation() -> None:
    """JSON has no such names; a Python document may, and they are refused where they stand."""
    assert [str(v) for v in refusal(SMALLEST | {1: 1}).violations] == [
        "$: must have only strings as names"
    ]
    document = SMALLEST | {"contact": {None: 1}}
    assert [v.path for v in refusal(document).violations] == ["$.contact"]


@pytest.mark.parametrize(
    "body",
    [EXAMPLE_BODY, BOM_UTF8 + EXAMPLE_BODY, json.dumps(SMALLEST | {"new": 1}).encode()],
    ids=["the example", "a byte order mark", "absences and news"],
)
def test_no_valid_record_needs_the_slow_pass(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for records that break the contract, whose violations it collects."""
    by_hooks = _codec._explain(orjson.loads(body.removeprefix(BOM_UTF8)), Call)
    monkeypatch.setattr(_codec, "_explain", None)
    assert decode_call(body) == structure_call(json.loads(body)) == by_hooks
    assert _codec._structure.__code__.co_filename == "<reader of calls_async.models.Call>"


def test_a_record_without_unknown_members_has_nothing_of_its_own_for_them() -> None:
    """All such records share one empty mapping, also where members are absent."""
    assert structure_call(SMALLEST).extra is structure_call(example()).extra is NO_EXTRA


def test_a_dict_of_another_class_is_an_object() -> None:
    """It is read like any other, and what it lacks is a violation."""
    assert structure_call(OrderedDict(SMALLEST)) == structure_call(SMALLEST)
    document = OrderedDict(SMALLEST | {"contact": OrderedDict(firstName="A", new=1)})
    assert structure_call(document).contact == Contact(first_name="A", extra={"new": 1})
    del document["createdAt"]
    assert [str(v) for v in refusal(document).violations] == [
        "$.createdAt: is required, but missing"
    ]


def test_documents_hold_plain_strings() -> None:
    """A member of an enum is written as the `str` that JSON has, not as the member."""

    class Video(StrEnum):
        VIDEO = "VIDEO"

    call = structure_call(SMALLEST)
    for call_type in (CallType.DIRECT_CALL, Video.VIDEO):
        document = unstructure_call(attrs.evolve(call, call_type=call_type))
        assert document["callType"] == call_type.value
        assert type(document["callType"]) is str


# --- Bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html><body>502 Bad Gateway</body></html>",
        EXAMPLE_BODY[:-3],
        EXAMPLE_BODY[:100],
        EXAMPLE_BODY + b"x",
        b'{"id": "a",}',
        b"{'id': 'a'}",
        b'{"id": NaN}',
        b'{"id": Infinity}',
        b'{"id": -Infinity}',
        b'{"id": 01}',
        b'{"id": "a\nb"}',
        b"\x00",
        b'{"id": "\xff"}',  # not UTF-8
        b'{"id": "\xed\xa0\x80"}',  # a surrogate, encoded as UTF-8 must not
        '{"id": "a"}'.encode("utf-16"),
        '{"id": "é"}'.encode("latin-1"),
        BOM_UTF8,
        BOM_UTF8 * 2 + b"{}",
    ],
)
def test_what_is_no_json_document_is_told_apart(body: bytes) -> None:
    """Empty, HTML, cut, not UTF-8, NaN: not a JSON document, so asking again may help."""
    error = refused_body(body)
    assert not error.document_readable
    assert error.retryable
    assert error.violations == ()
    assert error.message.startswith("The body is no JSON document: ")
    assert " column " in error.message


@pytest.mark.parametrize(
    "body",
    [
        rb'{"id": "\ud800"}',  # a lone surrogate
        rb'{"\udfff": 1}',
        b'{"new": ' + b"9" * 10_000 + b"}",  # more digits than int() takes
        b'{"new": 1e400}',
        b'{"new": ' + b"[" * 1_100 + b"]" * 1_100 + b"}",
        b"[" * 500_000 + b"]" * 500_000,
    ],
    ids=ascii,
)
def test_legal_json_that_cannot_be_held_is_not_asked_for_again(body: bytes) -> None:
    """JSON that the fast parser refuses is a DecodeError that no second try would change."""
    error = refused_body(body)
    assert error.document_readable
    assert not error.retryable
    assert error.message.startswith("The body is JSON that cannot be held: ")


def test_a_byte_order_mark_is_skipped() -> None:
    """RFC 8259 (8.1) lets a reader ignore it, and no call is lost over it."""
    assert decode_call(BOM_UTF8 + EXAMPLE_BODY) == decode_call(EXAMPLE_BODY)


def test_of_duplicate_members_the_last_wins() -> None:
    """At every level, documented or not."""
    body = b'{"notes": 1, "notes": "a", "new": 1, "new": 2, ' + EXAMPLE_BODY.lstrip()[1:]
    call = decode_call(body.replace(b'"Call notes here"', b'"first", "notes": "last"'))
    assert call.notes == "last"
    assert call.extra == {"new": 2}


def test_deep_unknown_members_are_kept() -> None:
    """As deep as the parser goes."""
    body = EXAMPLE_BODY.rstrip()[:-1] + b', "deep": ' + b"[" * 1_000 + b"]" * 1_000 + b"}"
    depth, value = 0, decode_call(body).extra["deep"]
    while value:
        depth, value = depth + 1, value[0]
    assert depth == 999


def test_unknown_members_are_held_once() -> None:
    """What a large answer holds is not copied on the way: that doubled its memory and more."""

    def peak(read: Any) -> tuple[int, Any]:
        tracemalloc.start()
        try:
            held = read(body)
            return tracemalloc.get_traced_memory()[1], held
        finally:
            tracemalloc.stop()

    body = json.dumps(example() | {"x": [[[]]] * 10_000}).encode()
    decode_call(body)  # what is made once is made
    once, _ = peak(orjson.loads)
    ours, _ = peak(decode_call)
    assert ours < 1.2 * once


def test_a_kept_call_takes_less_memory_than_a_kept_dict() -> None:
    """At most six tenths of what orjson's dicts of the same records take."""
    bodies = [EXAMPLE_BODY.replace(b"123e4567", b"%08x" % number) for number in range(500)]
    sizes = []  # of so many that what Python keeps of its dicts for the next ones does not count
    for read in (decode_call, orjson.loads):
        read(EXAMPLE_BODY)
        tracemalloc.start()
        kept = [read(body) for body in bodies]
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(kept) == len(bodies)
    assert sizes[0] < 0.6 * sizes[1]
