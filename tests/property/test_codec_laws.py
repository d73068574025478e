"""The laws of the codec, each over generated documents or calls."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async._codec import decode_call, structure_call, unstructure_call
from calls_async.errors import DecodeError
from tests.documents import (
    EXAMPLE_BODY,
    MEMBERS,
    breakages,
    call_documents,
    calls,
    json_values,
    normal_form,
    put,
)

if TYPE_CHECKING:
    from calls_async.models import Call


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
