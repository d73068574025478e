"""The plan: which request fails and how is decided by the id and the attempt alone."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import CallsError, DecodeError, structure_call
from calls_async.testing import PERMANENT_FAULTS, TRANSIENT_FAULTS, Break, Fate, Fault
from calls_async.testing.plan import Plan

IDS = [f"call-{number}" for number in range(10_000)]
ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def body_of(fault, call_id):
    return fault.body if isinstance(fault.body, bytes) else fault.body(call_id)


@given(ids, st.integers())
def test_the_same_id_and_seed_have_the_same_fate(call_id, seed):
    """A fate does not depend on the order of the requests or on the plan's age."""
    first = Plan(fault_share=0.4, permanent_share=0.3, seed=seed)
    second = Plan(fault_share=0.4, permanent_share=0.3, seed=seed)
    second.expected("another")
    assert first.expected(call_id) == second.expected(call_id)


def test_another_seed_chooses_other_ids():
    """The seed decides who is hit."""
    hit = [
        {i for i in IDS if Plan(fault_share=0.05, seed=seed).expected(i).faults} for seed in (1, 2)
    ]
    assert hit[0] != hit[1]


def test_shares_hit_that_share_of_the_ids_with_every_kind_of_fault():
    """Of 10,000 ids about 5% are flaky and 1% fail for good, and no kind of fault is left out."""
    plan = Plan(fault_share=0.05, permanent_share=0.01)
    fates = [plan.expected(call_id) for call_id in IDS]
    kinds = Counter(fate.kind for fate in fates)
    assert 425 <= kinds["flaky"] <= 575
    assert 65 <= kinds["permanent"] <= 135
    flaky = {fault for fate in fates if fate.kind == "flaky" for fault in fate.faults}
    assert flaky == set(TRANSIENT_FAULTS)
    permanent = {fault for fate in fates if fate.kind == "permanent" for fault in fate.faults}
    assert permanent == set(PERMANENT_FAULTS)


@given(ids)
def test_a_flaky_id_meets_one_or_two_different_faults(call_id):
    """Four attempts always bring the record, and another id's record never comes twice."""
    faults = Plan(fault_share=1.0).expected(call_id).faults
    assert 1 <= len(faults) <= 2
    assert len(set(faults)) == len(faults)


def test_the_kinds_of_transient_faults_can_be_chosen():
    """`fault_kinds` replaces what flaky ids meet."""
    plan = Plan(fault_share=1.0, fault_kinds=[Fault.reset])
    assert plan.expected("call-1") == Fate(faults=(Fault.reset,))


def test_a_script_is_played_once_and_then_the_record_follows():
    """A list of faults: one each for the first requests, nothing afterwards."""
    fate = Plan(faults={"call-1": [Fault.reset, Fault.status(500)]}).expected("call-1")
    assert fate.kind == "flaky"
    assert [fate.fault(attempt) for attempt in (1, 2, 3, 4)] == [
        Fault.reset,
        Fault.status(500),
        None,
        None,
    ]


def test_a_single_fault_repeats_for_ever():
    """A fault that is not in a list is permanent."""
    fate = Plan(faults={"call-1": Fault.status(403)}).expected("call-1")
    assert fate.kind == "permanent"
    assert {fate.fault(attempt) for attempt in (1, 2, 99)} == {Fault.status(403)}


def test_a_script_comes_before_a_missing_id_and_that_before_the_shares():
    """The more particular the order, the sooner it is obeyed."""
    plan = Plan(faults={"a": [], "b": [Fault.cut]}, missing={"a", "c"}, fault_share=1.0)
    assert plan.expected("a") == Fate()
    assert plan.expected("b") == Fate(faults=(Fault.cut,))
    assert plan.expected("c") == Fate(faults=(Fault.status(404),), permanent=True)
    assert plan.expected("d").kind == "flaky"


def test_without_orders_every_id_is_healthy():
    """A plan that was told nothing lets nothing fail."""
    assert Plan().expected("call-1").kind == "healthy"
    assert Plan().expected("call-1").fault(1) is None


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("option", ["fault_share", "permanent_share"])
def test_a_share_lies_between_0_and_1(option, share):
    """A share that cannot be one is refused when it is given, also later on."""
    with pytest.raises(ValueError, match=option):
        Plan(**{option: share})
    plan = Plan()
    with pytest.raises(ValueError, match=option):
        setattr(plan, option, share)


@pytest.mark.parametrize("script", [500, "reset", [500], None, [Fault.reset, "cut"]])
def test_a_script_consists_of_faults(script):
    """A script with anything else in it is refused when it is given, and the id is named."""
    with pytest.raises(TypeError, match="call-1"):
        Plan(faults={"call-1": script})


def test_there_is_a_ready_made_fault_for_every_break():
    """`Fault.reset` and the like are what their names say."""
    for how in Break:
        fault = getattr(Fault, how.value)
        assert (fault.name, fault.breaks) == (how.value, how)


def test_faults_are_values():
    """Two faults that do the same are equal, so that tests can compare them."""
    assert Fault.status(503, headers={"Retry-After": "1"}) == Fault.status(
        503, headers={"Retry-After": "1"}
    )
    assert Fault.status(503) != Fault.status(500)
    assert Fault.slow(1.0) != Fault.slow(2.0)


def test_a_status_is_told_as_a_problem_document_unless_a_body_is_given():
    """RFC 9457 is the default; a text is plain unless the headers say otherwise."""
    problem = Fault.status(529)
    assert dict(problem.headers) == {"Content-Type": "application/problem+json"}
    assert orjson.loads(problem.body)["status"] == 529
    text = Fault.status(502, body="Grüße")
    assert (text.body, text.headers[0][1]) == ("Grüße".encode(), "text/plain; charset=utf-8")
    html = Fault.status(502, body=b"<p>", headers={"content-type": "text/html"})
    assert html.headers == (("content-type", "text/html"),)


def test_bodies_are_wrong_in_the_way_that_their_names_say():
    """What stands in the record's place is refused by the client's reader, or is another's."""
    assert structure_call(orjson.loads(body_of(Fault.wrong_id, "call-1"))).id != "call-1"
    for fault in (Fault.invalid_json, Fault.not_json, Fault.empty):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(body_of(fault, "call-1"))
    with pytest.raises(DecodeError) as caught:
        structure_call(orjson.loads(body_of(Fault.bad_record, "call-1")))
    assert [v.path for v in caught.value.violations] == ["$.callType", "$.createdAt"]
    assert isinstance(caught.value, CallsError)
