"""Outcomes and events: frozen values that pickle, and whose reprs stay short."""

from __future__ import annotations

import copy
import pickle
import weakref

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import events
from calls_async._codec import decode_call
from calls_async.errors import NotFoundError
from calls_async.outcomes import Failed, Fetched, fetched
from tests.documents import EXAMPLE_BODY

CALL = decode_call(EXAMPLE_BODY)
FETCHED = Fetched(id=CALL.id, call=CALL, raw=EXAMPLE_BODY, attempts=2, elapsed=0.5)
STATISTICS = events.Statistics(
    fetched=3,
    failed=1,
    requests=6,
    retries=2,
    hedges=0,
    throttled=1,
    in_flight=0,
    waiting=0,
    cool_down=0.0,
    pace=None,
    concurrency=20,
    max_concurrency=64,
    budget=500,
    outage=0.0,
    transport="lane",
)
VALUES = [
    FETCHED,
    events.CallStarted(at=1.0, call_id="x", index=0, serial=1),
    events.CallParked(at=1.0, call_id="x", reason=events.WaitReason.PACE, serial=1),
    events.AttemptStarted(at=1.0, call_id="x", attempt=1),
    events.AttemptCancelled(at=2.0, call_id="x", attempt=1, duration=1.0, serial=1),
    events.AttemptFinished(at=2.0, call_id="x", attempt=1, duration=1.0, status=200, error=None),
    events.CoolDownEntered(at=2.0, seconds=5.0),
    events.CallFinished(at=2.0, outcome=FETCHED),
    events.CallCancelled(at=2.0, call_id="x", serial=1),
    STATISTICS,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_outcomes_and_events_are_frozen_values(value):
    """They can be kept, compared and sent to another process, and not changed."""
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    field = attrs.fields(type(value))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, field, None)


ERROR = NotFoundError("no such call", status=404, call_id="x", attempts=1)


@pytest.mark.parametrize(
    "value",
    [
        Failed(id="x", error=ERROR, attempts=1, elapsed=0.5),
        events.RetryScheduled(at=1.0, call_id="x", attempt=1, delay=0.1, error=ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_carries_an_error_pickles_with_it(value):
    """Errors are only equal to themselves, so it is their text that is compared."""
    assert repr(pickle.loads(pickle.dumps(value))) == repr(value)


def test_an_outcome_s_index_is_zero_unless_it_is_one_of_many():
    """A single call is the first of its kind."""
    assert FETCHED.index == 0
    assert Failed(id="x", error=NotFoundError("no", status=404), attempts=0, elapsed=0.0).index == 0


def test_what_is_not_told_of_an_outcome_or_event_is_none_or_usual():
    """A server that names no request has named none; a request is a hedge only if it says so."""
    assert FETCHED.request_id is None
    started = events.AttemptStarted(at=1.0, call_id="x", attempt=1)
    assert started.hedge is False
    assert (started.serial, started.url, started.waited) == (0, "", 0.0)


def test_the_repr_of_a_fetched_call_leaves_the_bytes_out():
    """A log line is no place for the record as received."""
    assert "raw=" not in repr(FETCHED)
    assert "John" in repr(FETCHED)


@given(
    raw=st.binary(),
    index=st.integers(0),
    attempts=st.integers(1),
    elapsed=st.floats(0.0),
    request_id=st.none() | st.text(),
)
def test_the_fast_way_makes_the_same_outcome(raw, index, attempts, elapsed, request_id):
    """Nothing tells it from one that was made by its class: it is one."""
    plain = Fetched(
        id=CALL.id,
        index=index,
        call=CALL,
        raw=raw,
        attempts=attempts,
        elapsed=elapsed,
        request_id=request_id,
    )
    fast = fetched(CALL.id, index, CALL, raw, attempts, elapsed, request_id)
    assert type(fast) is Fetched
    assert fast == plain
    assert (hash(fast), repr(fast)) == (hash(plain), repr(plain))
    assert attrs.astuple(fast, recurse=False) == attrs.astuple(plain, recurse=False)
    assert pickle.dumps(fast) == pickle.dumps(plain)
    assert copy.copy(fast) == copy.deepcopy(fast) == attrs.evolve(fast) == plain
    assert weakref.ref(fast)() is fast
    assert not hasattr(fast, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        fast.index = 7
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del fast.index


def test_outcomes_are_told_apart_by_matching():
    """The two outcomes are all there are, and their attributes match by keyword."""
    match FETCHED:
        case Fetched(call=call):
            assert call is CALL
        case Failed():
            pytest.fail("a fetched call matched as a failed one")
