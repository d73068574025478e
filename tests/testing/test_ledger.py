"""The ledger: exact counters for ever, entries as far back as they are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async.testing import Ledger


def enter(ledger, call_id="call-1", *, status=200, fault=None):
    return ledger.begin(
        at=1.5,
        path=f"/v1/calls/{call_id}",
        call_id=call_id,
        status=status,
        fault=fault,
        key_accepted=True,
        fresh=False,
    )


def test_an_entry_says_everything_about_its_request():
    """Number, time, path, id, attempt and what was decided are kept together."""
    ledger = Ledger()
    enter(ledger, "other")
    request_id = enter(ledger, status=None, fault="reset")
    entry = ledger.entries[1]
    assert (entry.number, entry.at, entry.path) == (2, 1.5, "/v1/calls/call-1")
    assert (entry.call_id, entry.attempt, entry.status, entry.fault) == (
        "call-1",
        1,
        None,
        "reset",
    )
    assert entry.request_id == request_id == "req-2"


def test_requests_are_counted_by_status_by_fault_and_by_id():
    """The three questions that tests ask, answered from one place."""
    ledger = Ledger()
    enter(ledger)
    enter(ledger, status=503, fault="status 503")
    enter(ledger, "call-2", status=503, fault="status 503")
    enter(ledger, None, status=404)
    assert len(ledger) == 4
    assert ledger.by_status == {200: 1, 503: 2, 404: 1}
    assert ledger.by_fault == {"status 503": 2}
    assert (ledger.requests_of("call-1"), ledger.requests_of("call-2")) == (2, 1)
    assert ledger.requests_of("never asked for") == 0
    assert ledger.entries[3].attempt == 0


def test_what_is_in_flight_is_counted_with_its_peak():
    """A request is in flight from its arrival until it is over."""
    ledger = Ledger()
    enter(ledger)
    enter(ledger)
    ledger.end()
    enter(ledger)
    assert (ledger.in_flight, ledger.max_in_flight) == (2, 2)
    assert repr(ledger) == "<Ledger of 3 requests, 2 in flight>"


@given(st.integers(1, 5), st.lists(st.sampled_from("abc"), max_size=20))
def test_the_latest_entries_are_kept_and_the_counters_stay_exact(keep, asked):
    """Memory is bounded, and an attempt is right as long as the one before it is kept."""
    ledger = Ledger(keep=keep)
    for call_id in asked:
        enter(ledger, call_id)
    assert len(ledger) == len(asked)
    assert ledger.by_status.get(200, 0) == len(asked)
    assert [entry.call_id for entry in ledger.entries] == asked[-keep:]
    assert set(ledger._latest) == set(asked[-keep:])
    for before, entry in zip(ledger.entries, ledger.entries[1:], strict=False):
        if before.call_id == entry.call_id:
            assert entry.attempt == before.attempt + 1


def test_a_ledger_may_keep_no_entries_at_all():
    """Counters alone: it says so when it is asked for more."""
    ledger = Ledger(keep=0)
    assert enter(ledger) == "req-1"
    assert (len(ledger), ledger.entries) == (1, ())
    with pytest.raises(ValueError, match="keeps no entries"):
        ledger.requests_of("call-1")


def test_a_negative_number_of_entries_is_refused():
    """`keep` is a number of entries."""
    with pytest.raises(ValueError, match="keep"):
        Ledger(keep=-1)
