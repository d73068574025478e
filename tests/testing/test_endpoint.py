"""The endpoint without its wire: key, rate and plan, in this order."""

from __future__ import annotations

import orjson
import pytest

from calls_async.testing import SANDBOX_KEY, Fault, Ledger, make_record
from calls_async.testing.endpoint import Endpoint


def ask(endpoint, call_id="call-1", *, key=SANDBOX_KEY, at=0.0, scheme="Bearer"):
    return endpoint.receive(
        at=at,
        path=f"/v1/calls/{call_id}",
        call_id=call_id,
        authorization=None if key is None else f"{scheme} {key}",
        fresh=False,
    )


def test_a_healthy_id_gets_its_record():
    """Without orders to the contrary, the answer is a 200 with the record."""
    action = ask(Endpoint())
    assert (action.status, action.delay, action.breaks) == (200, 0.0, None)
    assert orjson.loads(action.body) == make_record("call-1")
    assert dict(action.headers)["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("key", "scheme"), [(None, ""), ("sk_test_other", "Bearer"), (SANDBOX_KEY, "Basic"), ("", "")]
)
def test_without_a_known_key_the_answer_is_401(key, scheme):
    """A request without a key, with another one or in another scheme is refused, and counted."""
    endpoint = Endpoint()
    action = ask(endpoint, key=key, scheme=scheme)
    assert action.status == 401
    assert dict(action.headers)["WWW-Authenticate"] == "Bearer"
    assert orjson.loads(action.body)["status"] == 401
    assert [entry.key_accepted for entry in endpoint.ledger.entries] == [False]


def test_several_keys_are_accepted_and_may_be_changed():
    """Keys can be rotated under a running client."""
    endpoint = Endpoint(api_keys=["sk_test_old", "sk_test_new"])
    assert endpoint.api_key == "sk_test_old"
    assert {ask(endpoint, key=key).status for key in endpoint.api_keys} == {200}
    endpoint.api_keys = ["sk_test_new"]
    assert ask(endpoint, key="sk_test_old").status == 401


def test_no_key_is_in_the_ledger_or_in_a_repr():
    """The ledger says whether the key was accepted, never which one it was."""
    endpoint = Endpoint(api_keys=["sk_test_hidden"])
    ask(endpoint, key="sk_test_hidden")
    ask(endpoint, key="sk_live_wrong")
    told = f"{endpoint.ledger.entries} {endpoint!r}"
    assert "hidden" not in told
    assert "wrong" not in told


def test_above_the_rate_the_answer_is_429_with_the_time_to_come_back():
    """The limit may be set, changed and lifted while the endpoint is in use."""
    endpoint = Endpoint(max_rate=0.1, burst=1)
    assert ask(endpoint).status == 200
    action = ask(endpoint, at=1.0)
    assert action.status == 429
    headers = dict(action.headers)
    assert headers["Retry-After"] == "9"
    assert headers["RateLimit"] == '"sandbox";r=0;t=9'
    assert headers["RateLimit-Policy"] == '"sandbox";q=1;w=10'
    endpoint.max_rate = None
    assert ask(endpoint, at=1.0).status == 200


def test_what_is_left_is_announced_on_every_answer_if_that_is_asked_for():
    """`announce` puts the RateLimit fields on answers that are no 429, too."""
    assert "RateLimit" not in dict(ask(Endpoint(max_rate=5)).headers)
    headers = dict(ask(Endpoint(max_rate=5, announce=True)).headers)
    assert headers["RateLimit"] == '"sandbox";r=9;t=1'
    assert "Retry-After" not in headers


def test_what_is_turned_away_does_not_use_up_a_fault():
    """A script is about the requests that reach it, so that it is never hidden by a limit."""
    endpoint = Endpoint(faults={"call-1": [Fault.status(500)]}, max_rate=1.0, burst=1)
    assert ask(endpoint, key="sk_test_other").status == 401
    ask(endpoint, "other")
    assert ask(endpoint).status == 429
    assert [ask(endpoint, at=at).status for at in (1.0, 2.0)] == [500, 200]


def test_a_break_has_no_status_in_the_ledger():
    """No whole answer is to arrive, so there is no status to count."""
    endpoint = Endpoint(faults={"call-1": [Fault.cut]})
    assert ask(endpoint).breaks == "cut"
    assert endpoint.ledger.by_status == {None: 1}
    assert endpoint.ledger.by_fault == {"cut": 1}


def test_latency_is_added_to_what_a_fault_holds_back():
    """A slow answer from a distant server is later than either alone."""
    endpoint = Endpoint(latency=0.5, faults={"call-1": [Fault.slow(2.0)]})
    assert [ask(endpoint).delay, ask(endpoint).delay] == [2.5, 0.5]


def test_latency_of_a_range_differs_from_id_to_id_and_stays_the_same_for_each():
    """Drawn by the id, within the range."""
    endpoint = Endpoint(latency=(0.1, 0.2))
    delays = [ask(endpoint, f"call-{number}").delay for number in range(100)]
    assert delays == [ask(endpoint, f"call-{number}").delay for number in range(100)]
    assert len(set(delays)) > 90
    assert 0.1 <= min(delays) < 0.11
    assert 0.19 < max(delays) < 0.2


@pytest.mark.parametrize(
    "options",
    [
        {"latency": -1.0},
        {"latency": (2.0, 1.0)},
        {"max_rate": 0},
        {"burst": 0},
        {"api_keys": ()},
        {"api_keys": "sk_test_x"},
        {"fault_kinds": ()},
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(options):
    """A wrong option is an error of the test that gives it, not of the server under load."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Endpoint(**options)


def test_healthy_ids_leave_nothing_behind():
    """However many ids are asked for, only the counters and the flaky ids' faults are kept."""
    endpoint = Endpoint(ledger=Ledger(keep=0), fault_share=0.1)
    hundred = [f"call-{number}" for number in range(100)]
    for call_id in hundred:
        ask(endpoint, call_id)
    flaky = {call_id for call_id in hundred if endpoint.expected(call_id).kind == "flaky"}
    assert set(endpoint._met) == flaky
    assert (len(endpoint.ledger), endpoint.ledger.entries) == (100, ())
