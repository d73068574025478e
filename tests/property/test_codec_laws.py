"""The laws of the codec, each over generated documents or calls."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calls_async import _codec
from calls_async._codec import decode_call, structure_call, unstructure_call
from calls_async._quick import A_TIME, are_usual, usual_times
from calls_async.errors import DecodeError
from calls_async.models import Call, copied
from tests.documents import (
    EXAMPLE_BODY,
    MEMBERS,
    NO_TIMES,
    breakages,
    call_documents,
    calls,
    json_values,
    normal_form,
    put,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@given(call_documents())
def test_unstructure_of_structure_is_the_normal_form(document: dict[str, Any]) -> None:
    """`unstructure(structure(document)) == document`, up to the written normal form."""
    assert unstructure_call(structure_call(document)) == normal_form(document)


@given(call_documents())
def test_the_normal_form_is_a_fixed_point(document: dict[str, Any]) -> None:
    """What was written once is written the same way ever after."""
    normal = normal_form(document)
    assert unstructure_call(structure_call(normal)) == normal


@given(calls() | call_documents().map(structure_call))
def test_structure_of_unstructure_is_the_call(call: Call) -> None:
    """`structure(unstructure(call)) == call`, always, and the hashes agree."""
    again = structure_call(unstructure_call(call))
    assert again == call
    assert hash(again) == hash(call)


@given(calls())
def test_a_call_survives_json_text(call: Call) -> None:
    """The unstructured document is plain JSON: its text decodes to the same call."""
    assert decode_call(json.dumps(unstructure_call(call)).encode()) == call


@given(calls())
def test_a_call_survives_pickle_and_copies(call: Call) -> None:
    """`pickle`, `copy` and `deepcopy` give an equal call with an equal hash."""
    for again in (pickle.loads(pickle.dumps(call)), copy.copy(call), copy.deepcopy(call)):
        assert again == call
        assert hash(again) == hash(call)


@given(call_documents())
def test_decode_reads_what_structure_reads(document: dict[str, Any]) -> None:
    """A body is the call of its document."""
    assert decode_call(json.dumps(document).encode()) == structure_call(document)


@given(call_documents(), st.data())
def test_one_breakage_names_its_path_and_no_other(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """A single wrong type, missing member or refused null is a violation at its path alone."""
    member = data.draw(st.sampled_from(MEMBERS))
    put(document, member.path, data.draw(st.sampled_from(breakages(member))))
    with pytest.raises(DecodeError) as caught:
        structure_call(document)
    assert [violation.path for violation in caught.value.violations] == [member.wire_path]


@given(call_documents(), st.data())
def test_many_breakages_name_all_their_paths(document: dict[str, Any], data: st.DataObject) -> None:
    """All violations are collected, in the page's order, and no others."""
    broken = data.draw(st.sets(st.sampled_from(MEMBERS), min_size=1))
    # A nested object that is itself wrong has no members that could be.
    broken = {m for m in broken if not any(o.path == m.path[:-1] for o in broken)}
    for member in MEMBERS:
        if member in broken:
            put(document, member.path, data.draw(st.sampled_from(breakages(member))))
    with pytest.raises(DecodeError) as caught:
        structure_call(document)
    expected = [member.wire_path for member in MEMBERS if member in broken]
    assert [violation.path for violation in caught.value.violations] == expected


@given(json_values())
def test_structure_is_total(document: object) -> None:
    """No JSON value but a call's record passes, and none raises anything else."""
    with pytest.raises(DecodeError):
        structure_call(document)


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.integers(0, len(EXAMPLE_BODY)).map(lambda cut: EXAMPLE_BODY[:cut])
    | st.tuples(st.integers(0, len(EXAMPLE_BODY)), st.binary(max_size=3)).map(
        lambda change: EXAMPLE_BODY[: change[0]] + change[1] + EXAMPLE_BODY[change[0] + 1 :]
    )
)
def test_decode_is_total(body: bytes) -> None:
    """Whatever the bytes are: a call, or a `DecodeError` that holds them."""
    try:
        call = decode_call(body)
    except DecodeError as error:
        assert error.raw == body  # noqa: PT017 - either outcome is right
    else:
        assert structure_call(unstructure_call(call)) == call


# --- The quick pass and the hooks ----------------------------------------------------------------


class OddString(str):
    """A string as no parser makes it."""

    __slots__ = ()


class OddObject(dict[str, Any]):
    """An object as no parser makes it, and whose copies are none either."""

    def copy(self) -> OddObject:
        """Another one."""
        return OddObject(self)


def told(read: Callable[[], Call]) -> object:
    """All that can be told of a call, its equal values of other types too; or of the refusal."""
    try:
        call = read()
    except DecodeError as error:
        return type(error), str(error), error.violations, error.call_id, error.raw
    records = [call, call.contact, call.phone_number, call.caller, call.caller_phone_number]
    names = [(record, field) for record in records for field in type(record).__slots__[:-1]]
    # A time's repr tells its zone.
    values = [(field, getattr(record, field)) for record, field in names]
    return call, [(name, type(value), repr(value)) for name, value in values]


@given(call_documents(), st.data())
def test_the_quick_pass_reads_what_the_hooks_read(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """The same value, or the same error with the same violations, of whatever is in a document."""
    for member in data.draw(st.lists(st.sampled_from(MEMBERS), max_size=2)):
        odd = st.sampled_from((*breakages(member), OddString("a"), OddString(A_TIME), OddObject()))
        put(document, member.path, data.draw(odd | times() | json_values()))
    if data.draw(st.booleans()):
        document = OddObject(document)
    by_hooks = told(lambda: _codec._explained(copied(document), raw=b""))
    assert told(lambda: structure_call(document)) == by_hooks


@given(calls())
def test_the_quick_pass_reads_the_normal_form_by_itself(call: Call) -> None:
    """What this library writes is never left to the slow pass."""
    assert _codec._structure(unstructure_call(call), Call) == call


def read_by_hook(text: str) -> object:
    try:
        return repr(_codec._read_time(text, datetime))
    except _codec._RefusedError:
        return None


def read_quickly(text: str) -> object:
    try:
        return repr(datetime.fromisoformat(text))
    except ValueError:
        return None


LETTERS = (
    *"0123459Zz:-+.,T tW|",
    "\N{ARABIC-INDIC DIGIT FOUR}",
    "\N{FULLWIDTH DIGIT ONE}",
    "\ud800",
)


def judge(text: str) -> bool:
    """Whether a text is in the usual form; if it is, both ways of reading it must agree."""
    usual = are_usual((text,), usual_times(1))
    if usual:
        assert read_quickly(text) == read_by_hook(text)
    return usual


def test_a_usual_time_with_two_other_letters_is_read_as_the_hooks_read_it() -> None:
    """Every pair of places of a time, with every pair of letters that mean something in times."""
    seen = 0
    for base in ("2024-03-20T09:00:00.000Z", "2023-12-31T23:59:59.999Z"):
        for one, other in itertools.combinations(range(len(base)), 2):
            for first, then in itertools.product(LETTERS, repeat=2):
                text = base[:one] + first + base[one + 1 : other] + then + base[other + 1 :]
                seen += judge(text)
    assert seen > 1_000


@given(
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", fullmatch=True
    )
)
@example("0001-01-01T00:00:00.000Z")
@example("9999-12-31T23:59:59.999Z")
@example("2024-12-31T20:00:00.000Z")
def test_all_digits_in_the_usual_form_are_read_as_the_hooks_read_them(text: str) -> None:
    """Days and hours that do not exist are refused by both; hour 24 alone is not usual."""
    assert judge(text) == (text[11:13] != "24")


@given(times() | st.sampled_from(NO_TIMES) | st.text())
def test_any_text_that_is_usual_is_read_as_the_hooks_read_it(text: str) -> None:
    """Whatever the form accepts, both ways of reading accept or refuse alike."""
    judge(text)


def test_every_hour_and_minute_is_read_as_the_hooks_read_it() -> None:
    """All two-digit numbers, in the places of the month, day, hour, minute and second."""
    for place in (5, 8, 11, 14, 17):
        for number in range(100):
            judge(f"{A_TIME[:place]}{number:02}{A_TIME[place + 2 :]}")
