"""The sandbox's records: any id has one, always the same, and as varied as real ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from calls_async import structure_call, unstructure_call
from calls_async.testing import make_record, record_body

PAGE = json.loads((Path(__file__).parents[1] / "data" / "call.json").read_text(encoding="utf-8"))
REQUIRED = {
    "id", "callType", "status", "type", "startedAt", "endedAt", "createdAt",
    "contact", "phoneNumber", "caller", "callerPhoneNumber",
}  # fmt: skip
MANY = [make_record(f"call-{number}") for number in range(1000)]

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(ids)
def test_any_id_has_a_record_that_keeps_the_contract(call_id):
    """Every record is accepted by the client's own reader and carries the id asked for."""
    call = structure_call(make_record(call_id))
    assert call.id == call_id
    assert structure_call(unstructure_call(call)) == call


@given(ids)
def test_the_body_is_the_record_in_compact_json(call_id):
    """What is sent is the record, without any white space between its parts."""
    body = record_body(call_id)
    assert body == orjson.dumps(make_record(call_id))


def test_a_record_is_the_same_on_every_machine():
    """A record depends on its id alone: this digest holds for every Python version."""
    bodies = b"\n".join(record_body(f"call-{number}") for number in range(100))
    assert hashlib.sha256(bodies).hexdigest() == (
        "046883bffee061ce2f973261c1358ee48dd3bc3d840287233316a5c5413d757c"
    )


def test_a_record_is_a_new_document_each_time():
    """A caller may change a record without changing anybody else's."""
    make_record("call-1")["caller"]["firstName"] = "Mallory"
    assert make_record("call-1")["caller"]["firstName"] != "Mallory"


def test_every_documented_member_occurs_and_no_other():
    """The records have all of the page's members and nothing that it does not name."""
    assert {name for record in MANY for name in record} == set(PAGE)
    contacts = [record["contact"] for record in MANY if record["contact"]]
    assert {name for contact in contacts for name in contact} == set(PAGE["contact"])


def test_required_members_are_always_there_and_the_others_are_missing_now_and_then():
    """Real-life documents: what the page does not call required is sometimes left out."""
    always = set.intersection(*(set(record) for record in MANY))
    assert always == REQUIRED


def test_null_occurs_exactly_where_the_contract_lets_it():
    """Now and then a contact, a number or a time is null, as in real documents."""
    nullable = {name for record in MANY for name, value in record.items() if value is None}
    assert nullable == {
        "startedAt", "contact", "phoneNumber", "adminProviderSid", "syncedWithCrmDate", "deletedAt",
    }  # fmt: skip


def test_records_are_varied():
    """A thousand ids bring several hundred calls, both directions and every kind of person."""
    assert len({json.dumps(record | {"id": ""}) for record in MANY}) > 700
    assert {record["type"] for record in MANY} == {"inbound", "outbound"}
    assert {record["callType"] for record in MANY} == {"CALL_SESSION", "DIRECT_CALL"}
    assert {record["contact"]["isUnknown"] for record in MANY if record["contact"]} == {True, False}
    assert len({record["caller"]["lastName"] for record in MANY}) > 20
    # Members drawn last are as varied as the first: the dice do not run out of digits.
    assert len({record.get("managedPhoneNumberId") for record in MANY}) > 100
    assert len({record["sequenceId"] for record in MANY if "sequenceId" in record}) > 100


def test_the_times_of_a_record_are_in_order():
    """A call is created, taken, ended, and only then updated."""
    for record in MANY:
        times = [record["createdAt"], record["startedAt"], record["endedAt"]]
        times.append(record.get("updatedAt"))
        known = [time for time in times if time is not None]
        assert known == sorted(known)
