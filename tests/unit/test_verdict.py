"""The verdict, as tables: every status, every hint, every count, every reason to stop."""

from __future__ import annotations

import json
import pickle
import traceback
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from multidict import CIMultiDict

from calls_async._headers import LONGEST_WAIT, NO_HINT, Budget, Hint
from calls_async._secret import ApiKey
from calls_async._verdict import (
    BATCH_ATTEMPTS,
    BATCH_THROTTLED_ATTEMPTS,
    BODY_EXCERPT,
    Done,
    Fail,
    Fault,
    Opinion,
    Progress,
    RetryIn,
    assess,
    judge,
    request_id_of,
)
from calls_async._wire import Answer
from calls_async.config import RetryPolicy
from calls_async.errors import (
    AnswerTooLargeError,
    AttemptTimeoutError,
    AuthenticationError,
    ConnectError,
    DeadlineExceededError,
    DecodeError,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    ServerError,
    StatusError,
    StoppedBy,
    TLSError,
    TransportError,
)
from tests.documents import EXAMPLE_BODY

CALL_ID = "123e4567-e89b-12d3-a456-426614174000"
NOW = 1_700_000_000.0
SECRET = "q7Wz9Kx2mV4t"
KEY = ApiKey(f"sk_live_{SECRET}")

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "aws_standard_retry.json").read_text("utf-8")
)

EVERY_STATUS = range(100, 600)
RETRIED = {408, 425, 429, 500, 502, 503, 504, *range(520, 525), 529}
NAMED = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    429: RateLimitedError,
}


def answer(status=200, body=b"", **fields):
    """An answer; `_` in a field's name stands for `-`."""
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    return Answer(status=status, headers=headers, body=body)


def assessed(came, *, call_id=CALL_ID, now=NOW, scrub=KEY.scrub):
    return assess(call_id, came, now=now, scrub=scrub)


def progress(**changes):
    """A call whose first attempt has just failed, with plenty of time left."""
    usual = {
        "call_id": CALL_ID,
        "attempts": 1,
        "transient": 1,
        "throttled": 1,
        "elapsed": 0.5,
        "left": 1e12,
    }
    return Progress(**(usual | changes))


def judged(came, policy=RetryPolicy(), *, rnd=1.0, opinion=Opinion(), **changes):  # noqa: B008 (frozen)
    """The verdict on what came, as the client would reach it."""
    found = came if isinstance(came, Fault) else assessed(came)
    assert isinstance(found, Fault)
    return judge(found, progress(**changes), policy, rnd=rnd, opinion=opinion)


def stopped(*args, **options):
    """Why there is no further try; `None` if there is one."""
    verdict = judged(*args, **options)
    assert isinstance(verdict, Fail) == (verdict.error.stopped_by is not None)
    return verdict.error.stopped_by


# --- What an attempt brought: statuses -----------------------------------------------------------

HINTS = {
    "none": {},
    "now": {"Retry-After": "0"},
    "soon": {"Retry-After": "7"},
    "beyond the cap": {"Retry-After": "121"},
    "spent": {"RateLimit": '"a";r=0;t=9'},
    "not spent": {"RateLimit": '"a";r=5;t=9'},
    "unreadable": {"Retry-After": "soon"},
    "do": {"x-should-retry": "true"},
    "do not": {"x-should-retry": "false"},
}
WAITS = {"now": 0.0, "soon": 7.0, "beyond the cap": 121.0, "spent": 9.0}


def test_the_fields_of_a_silent_answer_are_not_looked_through():
    """What the transport knows is not found out once more."""
    told = answer(429, retry_after="7")
    assert assessed(told).hint.wait == 7.0
    assert assessed(told._replace(silent=True)).hint is NO_HINT


def expected_class(status, hint):
    if status in NAMED:
        return NAMED[status]
    if status == 503 and hint in WAITS:
        return RateLimitedError
    if 300 <= status < 400:
        return RedirectError
    return ServerError if status >= 500 else StatusError


@pytest.mark.parametrize("hint", HINTS)
def test_every_status_but_200_is_an_error_of_its_class(hint):
    """The class follows from the status alone, but for 503, which a time to wait makes throttling.

    The server's wait is told as seconds and as a time.
    """
    for status in EVERY_STATUS:
        if status == 200:
            continue
        fault = assessed(answer(status, b"why", **HINTS[hint], **{"x-request-id": "r-1"}))
        error = fault.error
        assert type(error) is expected_class(status, hint), status
        assert error.status == status
        assert error.request_id == "r-1"
        assert error.body == "why"
        wait = WAITS.get(hint, 0.0 if hint == "not spent" and status < 400 else None)
        assert error.retry_after == fault.hint.wait == wait
        at = None if wait is None else datetime.fromtimestamp(NOW + wait, UTC)
        assert error.retry_at == at
        assert error.stopped_by is None


@pytest.mark.parametrize(
    "policy", [RetryPolicy(), RetryPolicy(max_server_wait=8.0)], ids=["usual", "impatient"]
)
@pytest.mark.parametrize("in_batch", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("hint", HINTS)
def test_every_status_is_retried_or_not_as_the_design_lists_it(hint, in_batch, policy):
    """All statuses against all hints: what is listed is tried again, the server's word first."""
    for status in EVERY_STATUS:
        if status == 200:
            continue
        throttled = expected_class(status, hint) is RateLimitedError
        wait = WAITS.get(hint, 0.0)
        if hint == "do not":
            expected = StoppedBy.SERVER
        elif hint != "do" and status not in RETRIED:
            expected = StoppedBy.FINAL
        elif wait > policy.max_server_wait and not (throttled and in_batch):
            expected = StoppedBy.SERVER_WAIT
        else:
            expected = None
        if status == 401 and expected is not None:
            expected = StoppedBy.KEY_REFUSED
        came = answer(status, **HINTS[hint])
        verdict = judged(came, policy, in_batch=in_batch)
        assert verdict.error.stopped_by is expected, status
        if isinstance(verdict, RetryIn):
            backoff = policy.throttle_backoff_base if throttled else policy.backoff_base
            assert verdict.counted == (0.0 if throttled and in_batch else backoff)
            assert verdict.delay == max(backoff, wait)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "the server answered 404 Not Found"),
        (429, "the server answered 429 Too Many Requests"),
        (503, "the server answered 503 Service Unavailable"),
        (302, "the server answered 302 Found"),
        (520, "the server answered 520"),
        (529, "the server answered 529"),
        (599, "the server answered 599"),
    ],
)
def test_a_status_is_told_with_its_phrase_where_it_has_one(status, message):
    """520 and its like are nobody's standard, but proxies send them."""
    assert assessed(answer(status)).error.message == message


def test_throttling_is_told_like_any_other_status():
    """The message of a 503 that names a time has its status and phrase as well."""
    error = assessed(answer(503, **{"Retry-After": "7"})).error
    assert error.message == "the server answered 503 Service Unavailable"


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_beyond_the_standard_is_final(status):
    """Nobody knows what it means, so nobody can know that trying again helps."""
    assert type(assessed(answer(status)).error) is StatusError
    assert stopped(answer(status)) is StoppedBy.FINAL


def test_a_redirect_is_an_error_that_says_where_to():
    """It is not followed; who configures the base URL sees where the server points."""
    error = assessed(answer(308, location="https://new.example/v1/calls/x")).error
    assert isinstance(error, RedirectError)
    assert error.location == "https://new.example/v1/calls/x"
    assert assessed(answer(304)).error.location is None


def test_a_body_is_kept_in_part():
    """The beginning of an error page is enough to recognise it; what is no UTF-8 is replaced."""
    error = assessed(answer(500, b"\xff" + b"x" * 10_000)).error
    assert error.body == "\ufffd" + "x" * 499
    assert len(error.body) == BODY_EXCERPT
    assert assessed(answer(500)).error.body == ""


def test_a_wait_beyond_all_calendars_still_has_a_time():
    """Waits saturate before the calendar ends."""
    error = assessed(answer(429, **{"Retry-After": "9" * 300})).error
    assert error.retry_after == LONGEST_WAIT
    assert error.retry_at == datetime.fromtimestamp(NOW + LONGEST_WAIT, UTC)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (200, b"<html>"), (200, EXAMPLE_BODY)],
    ids=["no 200", "no document", "another's record"],
)
def test_whatever_an_answer_is_its_status_and_hint_are_passed_on(status, body):
    """The gate has to hear of them, also where the answer is of no use to the call."""
    fault = assessed(answer(status, body, **{"Retry-After": "7"}), call_id="mine")
    assert (fault.status, fault.hint) == (status, Hint(wait=7.0))


def test_a_date_in_an_answer_that_has_none_itself_is_read_by_our_clock():
    """Without `Date`, nothing else tells how far away the named time is."""
    later = datetime.fromtimestamp(NOW + 30, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert assessed(answer(429, **{"Retry-After": later})).hint == Hint(wait=30.0)


# --- What an attempt brought: documents ----------------------------------------------------------


def test_a_200_with_the_record_asked_for_is_done():
    """The call, and the answer that it came in."""
    came = answer(body=EXAMPLE_BODY, **{"x-request-id": "r-1"})
    done = assessed(came)
    assert isinstance(done, Done)
    assert done.call.id == CALL_ID
    assert done.call.contact.first_name == "John"
    assert done.answer is came
    assert done.hint == NO_HINT


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        (
            {"RateLimit": '"a";r=0;t=30'},
            Hint(wait=30.0, budgets=(Budget(remaining=0, reset=30.0),)),
        ),
        ({"RateLimit": '"a";r=3;t=30'}, Hint(wait=0.0, budgets=(Budget(remaining=3, reset=30.0),))),
        ({"Retry-After": "5"}, Hint(wait=5.0)),
        ({"Retry-After": "86400"}, Hint(wait=86_400.0)),
        ({"x-should-retry": "false"}, Hint(should_retry=False)),
    ],
)
def test_a_hint_on_a_successful_answer_never_fails_the_call(fields, hint):
    """It is for the calls that come after, so it is passed on whole to the gate."""
    done = assessed(answer(body=EXAMPLE_BODY, **fields))
    assert isinstance(done, Done)
    assert done.hint == hint


def test_no_other_status_brings_a_call():
    """A record in a 201, a 206 or an error page is no answer to what was asked."""
    for status in EVERY_STATUS:
        if status != 200:
            assert isinstance(assessed(answer(status, EXAMPLE_BODY)), Fault)


NO_JSON = [b"", b"<html>", EXAMPLE_BODY[:-9], b"\xff\xfe", b"NaN", b"\x00"]
OTHER_JSON = [b"null", b"[]", b"{}", b'"text"', b'{"id":"' + CALL_ID.encode() + b'"}']
OTHER_JSON += [EXAMPLE_BODY.replace(b'"John"', b'"\\ud800"')]


@pytest.mark.parametrize("body", NO_JSON)
def test_a_body_that_is_no_json_is_tried_again(body):
    """It may be a proxy's page or a cut answer."""
    came = answer(body=body, **{"x-request-id": "r-1"})
    fault = assessed(came)
    assert isinstance(fault.error, DecodeError)
    assert not fault.error.document_readable
    assert fault.error.raw == body
    assert fault.error.request_id == "r-1"
    assert stopped(came) is None


@pytest.mark.parametrize("body", OTHER_JSON)
def test_a_document_that_breaks_the_contract_is_not_tried_again(body):
    """It would be the same again, and the error names every violation."""
    came = answer(body=body)
    error = assessed(came).error
    assert type(error) is DecodeError
    assert error.document_readable
    assert error.raw == body
    assert error.request_id is None
    assert stopped(came) is StoppedBy.FINAL


def test_another_id_s_record_never_reaches_the_user():
    """It is an error that says whose record it is; the record itself is evidence and no call."""
    fault = assessed(answer(body=EXAMPLE_BODY, **{"x-request-id": "r-1"}), call_id="mine")
    error = fault.error
    assert isinstance(error, MismatchedCallError)
    assert error.received_id == CALL_ID
    assert error.raw == EXAMPLE_BODY
    assert error.request_id == "r-1"
    assert error.message == f"the answer is the record of call '{CALL_ID}'"


@pytest.mark.parametrize("asked", [CALL_ID.upper(), CALL_ID + " ", CALL_ID[:-1], ""])
def test_ids_are_compared_to_the_letter(asked):
    """An id that is merely alike is another id."""
    assert isinstance(assessed(answer(body=EXAMPLE_BODY), call_id=asked), Fault)


def test_a_monstrous_id_does_not_make_a_monstrous_message():
    """The message quotes the beginning; the field has more of it."""
    body = EXAMPLE_BODY.replace(CALL_ID.encode(), b"x" * 10_000, 1)
    error = assessed(answer(body=body)).error
    assert len(error.message) < 200
    assert error.received_id == "x" * 10_000


def test_what_kept_the_answer_from_arriving_passes_as_it_is():
    """The transport has said what happened already."""
    error = ConnectError("refused")
    assert assessed(error) == Fault(error=error, status=None, hint=NO_HINT)


# --- The key stays out ---------------------------------------------------------------------------


@pytest.mark.parametrize("echoed", [f"sk_live_{SECRET}", SECRET, f"Bearer sk_live_{SECRET}"])
def test_no_error_holds_a_key_that_the_server_echoes(echoed):
    """Body, request id, location, record: wherever the key comes back, the error is without it."""
    fields = {"x-request-id": echoed, "location": f"/login?key={echoed}"}
    bodies = [
        echoed.encode(),
        b"x" * (BODY_EXCERPT - 20) + echoed.encode(),  # cut in two by the excerpt
        f'{{"id": "{echoed}"}}'.encode(),
        EXAMPLE_BODY.replace(CALL_ID.encode(), echoed.encode(), 1),
        EXAMPLE_BODY.replace(CALL_ID.encode(), b"x" * 75 + echoed.encode(), 1),
    ]
    for status in (200, 204, 302, 400, 401, 404, 429, 500, 503, 520):
        for body in bodies:
            fault = assessed(answer(status, body, **fields))
            error = judge(fault, progress(), RetryPolicy(), rnd=1.0).error
            told = f"{fault!r} {error} {error!r} {error.args!r} {attrs.asdict(error)!r}"
            for start in range(len(SECRET) - 5):
                assert SECRET[start : start + 6] not in told
            assert SECRET.encode() not in pickle.dumps(error)
            assert SECRET not in "".join(traceback.format_exception(error))


def test_odd_bytes_in_a_header_pass_as_they_are():
    """What is no UTF-8 arrives as lone surrogates, and even that is no reason to fail."""
    error = assessed(answer(302, location="/\udcff", **{"x-request-id": "\ud800é"})).error
    assert (error.location, error.request_id) == ("/\udcff", "\ud800é")
    assert pickle.loads(pickle.dumps(error)).location == "/\udcff"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (None, None),
        ("r-1", "r-1"),
        (f"r-{SECRET}-1", "r-***-1"),
        (f"r-{SECRET[:9]}", "r-***"),
        (f"\udcff{SECRET}", "\udcff***"),
    ],
)
def test_a_request_id_is_shown_without_the_key(said, shown):
    """The server's name for a request, of which what holds some of the key is masked."""
    came = answer() if said is None else answer(**{"X-Request-ID": said})
    assert request_id_of(came, KEY.scrub) == shown


# --- Transient failures --------------------------------------------------------------------------

UNREADABLE = DecodeError("no JSON", document_readable=False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransportError("unexpected"), None),
        (ConnectError("refused"), None),
        (ProtocolError("cut"), None),
        (AttemptTimeoutError("slow"), None),
        (UNREADABLE, None),
        (TLSError("expired"), StoppedBy.FINAL),
        (AnswerTooLargeError("huge"), StoppedBy.FINAL),
        (DecodeError("contract"), StoppedBy.FINAL),
        (AuthenticationError("no", status=401), StoppedBy.KEY_REFUSED),
        (PermissionDeniedError("no", status=403), StoppedBy.FINAL),
        (NotFoundError("no", status=404), StoppedBy.FINAL),
        (RedirectError("no", status=301), StoppedBy.FINAL),
        (DeadlineExceededError("late"), StoppedBy.DEADLINE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_pass_is_tried_again_and_what_repeats_is_not(error, expected):
    """Certificates, contracts, refusals and redirects repeat; lost connections may not."""
    assert stopped(Fault(error=error)) is expected


@pytest.mark.parametrize("max_attempts", [1, 2, 4, 20])
def test_transient_failures_end_after_the_policy_s_attempts(max_attempts):
    """The first attempt is counted, and throttled answers are not."""
    policy = RetryPolicy(max_attempts=max_attempts, max_throttled_attempts=1)
    for nth in range(1, max_attempts + 3):
        expected = StoppedBy.ATTEMPTS if nth >= max_attempts else None
        assert stopped(answer(500), policy, transient=nth, throttled=99) is expected


@pytest.mark.parametrize(("max_attempts", "most"), [(1, 20), (4, 20), (20, 20), (21, 21)])
def test_a_batch_puts_up_with_twenty_transient_failures_of_an_id(max_attempts, most):
    """Its patience ends an outage; a policy may ask for more attempts, but not for fewer."""
    assert BATCH_ATTEMPTS == 20
    policy = RetryPolicy(max_attempts=max_attempts)
    for nth in range(1, most + 3):
        expected = StoppedBy.ATTEMPTS if nth >= most else None
        assert stopped(answer(500), policy, transient=nth, in_batch=True) is expected


@pytest.mark.parametrize(("max_throttled", "most"), [(1, 50), (10, 50), (51, 51)])
def test_a_batch_puts_up_with_fifty_throttled_answers_for_an_id(max_throttled, most):
    """Where many clients share a limit, an id may be refused many times while others are not."""
    assert BATCH_THROTTLED_ATTEMPTS == 50
    policy = RetryPolicy(max_throttled_attempts=max_throttled)
    for nth in range(1, most + 3):
        expected = StoppedBy.THROTTLED_ATTEMPTS if nth >= most else None
        assert stopped(answer(429), policy, throttled=nth, in_batch=True) is expected


def test_a_batch_does_not_raise_the_count_of_renewals():
    """A provider that mints keys for ever is stopped there as well."""
    policy = RetryPolicy(max_attempts=2)
    renewed = {"attempts": 4, "transient": 1, "throttled": 0, "key_renewed": True}
    assert stopped(answer(401), policy, in_batch=True, **renewed) is StoppedBy.KEY_REFUSED


def test_a_probe_counts_for_nothing():
    """It was the batch's question and not the id's: neither a failure nor a renewal of the key."""
    policy = RetryPolicy(max_attempts=2)
    about = {"attempts": 9, "transient": 1, "throttled": 1, "in_batch": True}
    assert stopped(answer(500), policy, probes=7, **about) is None
    assert stopped(answer(401), policy, probes=5, key_renewed=True, **about) is None
    assert stopped(answer(401), policy, probes=4, key_renewed=True, **about) is not None


@pytest.mark.parametrize("came", [answer(429), answer(503, **{"Retry-After": "1"})], ids=str)
@pytest.mark.parametrize("max_attempts", [1, 2, 10])
def test_throttled_answers_are_counted_apart(came, max_attempts):
    """429, and 503 with a hint, have a count of their own, and transient failures are not in it."""
    policy = RetryPolicy(max_attempts=1, max_throttled_attempts=max_attempts)
    for nth in range(1, max_attempts + 3):
        expected = StoppedBy.THROTTLED_ATTEMPTS if nth >= max_attempts else None
        assert stopped(came, policy, throttled=nth, transient=99) is expected


def test_a_503_without_a_hint_is_a_transient_failure():
    """It says that the server is sick, not that it is asked too often."""
    policy = RetryPolicy(max_attempts=2)
    assert stopped(answer(503), policy, transient=2) is StoppedBy.ATTEMPTS
    assert judged(answer(503), policy).counted == policy.backoff_base


# --- Delays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["steps"])[:60])
def test_the_published_cases_are_followed_but_for_the_quota(case):
    """Delay by delay, with the jitter at 1, until the case ends or runs out of its quota."""
    rules = VECTORS["rules"] | case
    policy = RetryPolicy(
        max_attempts=rules["max_attempts"],
        max_throttled_attempts=rules["max_attempts"],
        backoff_base=rules["base_transient_s"],
        throttle_backoff_base=rules["base_throttle_s"],
        backoff_factor=rules["factor"],
        max_backoff=rules["max_backoff_s"],
    )
    ends = {"max attempts": StoppedBy.ATTEMPTS, "not retryable": StoppedBy.FINAL}
    for nth, (status, expected, _quota) in enumerate(case["steps"], start=1):
        if expected in ("ok", "quota"):
            break
        verdict = judged(answer(int(status)), policy, transient=nth, throttled=nth)
        if isinstance(expected, str):
            assert verdict.error.stopped_by is ends[expected]
        else:
            assert isinstance(verdict, RetryIn)
            assert verdict.delay == pytest.approx(expected)


def test_the_published_delays_by_attempt_hold():
    """The ceiling doubles from attempt to attempt, up to the cap, and does not overflow."""
    policy = RetryPolicy(max_attempts=10_000, max_throttled_attempts=10_000)
    for nth, expected in enumerate(VECTORS["delays_by_attempt"], start=1):
        assert judged(answer(500), policy, transient=nth).delay == pytest.approx(expected)
    far = VECTORS["no_overflow"]
    assert judged(answer(429), policy, throttled=far["attempt"]).delay == far["expect"]
    assert judged(answer(429), policy, throttled=9_999).delay == far["expect"]


@pytest.mark.parametrize("rnd", [0.0, 0.25, 1.0])
def test_jitter_draws_from_the_whole_backoff(rnd):
    """A third transient failure waits up to 0.2 s, a third throttled one up to 4 s."""
    assert judged(answer(500), transient=3, rnd=rnd).delay == pytest.approx(0.2 * rnd)
    assert judged(answer(429), throttled=3, rnd=rnd).delay == pytest.approx(4.0 * rnd)


@pytest.mark.parametrize("left", [30.0, 2.0])
def test_in_a_batch_the_time_left_is_shared_among_the_tries_left(left):
    """However unlucky the draws, an id's twenty attempts fit into its time."""
    for nth in range(1, BATCH_ATTEMPTS):
        verdict = judged(answer(500), transient=nth, in_batch=True, left=left)
        assert isinstance(verdict, RetryIn)
        assert verdict.counted == min(0.05 * 2 ** (nth - 1), left / (BATCH_ATTEMPTS - nth + 1))
        left -= verdict.counted
    assert left > 0.0


def test_past_the_counted_tries_the_time_left_is_for_one_more():
    """A `stop` of the caller's own may allow more tries than the batch counts on."""
    policy = RetryPolicy(backoff_base=20.0)
    more = {"in_batch": True, "transient": BATCH_ATTEMPTS + 5, "opinion": Opinion(stop=False)}
    assert judged(answer(500), policy, left=8.0, rnd=0.5, **more).counted == 4.0


def test_a_throttled_backoff_and_a_single_call_s_are_not_shared_out():
    """Few attempts need no sharing: the backoff is the policy's, and the deadline may end them."""
    assert judged(answer(429), throttled=3, in_batch=True, left=3.0).delay == 4.0
    assert stopped(answer(429), throttled=4, left=5.0) is StoppedBy.DEADLINE
    assert judged(answer(500), transient=3, left=0.201).counted == 0.2


@pytest.mark.parametrize(
    ("wait", "backoff", "delay"), [(7.0, 1.0, 7.0), (0.5, 1.0, 1.0), (0.0, 1.0, 1.0)]
)
def test_a_hint_is_a_floor_under_the_backoff(wait, backoff, delay):
    """The longer of the two is waited; which part is the server's stays known."""
    verdict = judged(Fault(error=RateLimitedError("", status=429), hint=Hint(wait=wait)))
    assert isinstance(verdict, RetryIn)
    assert (verdict.counted, verdict.delay) == (backoff, delay)


# --- The server's word ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ServerError("", status=500), UNREADABLE, ConnectError("")])
def test_a_server_that_says_no_is_obeyed(error):
    """`x-should-retry: false` ends the call, whatever the failure and the caller's strategies."""
    fault = Fault(error=error, hint=Hint(should_retry=False))
    assert stopped(fault) is StoppedBy.SERVER
    assert stopped(fault, opinion=Opinion(retry=True, stop=False)) is StoppedBy.SERVER


@pytest.mark.parametrize("status", [400, 404, 409, 418, 501])
def test_a_server_that_says_yes_is_obeyed_within_the_counts(status):
    """`x-should-retry: true` makes any failure transient, and no more than that."""
    came = answer(status, **{"x-should-retry": "true"})
    assert stopped(came, transient=3) is None
    assert stopped(came, transient=4) is StoppedBy.ATTEMPTS


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize(
    ("wait", "alone"), [(119.9, None), (120.0, None), (120.1, StoppedBy.SERVER_WAIT)]
)
def test_a_call_alone_does_not_wait_longer_than_the_cap(wait, alone, in_batch):
    """Past the cap it fails at once and says when to come back; a batch's gate knows, and waits."""
    came = answer(429, **{"retry-after-ms": str(round(wait * 1000))})
    verdict = judged(came, in_batch=in_batch)
    assert verdict.error.stopped_by is (None if in_batch else alone)
    assert verdict.cool_down == verdict.error.retry_after == wait
    assert verdict.error.retry_at == datetime.fromtimestamp(NOW + wait, UTC)


def test_who_never_waits_for_a_server_still_retries():
    """Without a hint there is no wait of the server's, and a hint of nothing is none either."""
    policy = RetryPolicy(max_server_wait=0.0)
    assert stopped(answer(500), policy) is None
    assert stopped(answer(429, **{"Retry-After": "0"}), policy) is None
    assert stopped(answer(429, **{"Retry-After": "1"}), policy) is StoppedBy.SERVER_WAIT


def test_a_wait_that_is_no_throttling_is_capped_in_a_batch_too():
    """A 500 with a long `Retry-After` closes nobody's gate, so nobody else would wait for it."""
    came = answer(500, **{"Retry-After": "121"})
    assert stopped(came, in_batch=True) is StoppedBy.SERVER_WAIT


@pytest.mark.parametrize(
    ("came", "cool_down"),
    [
        (answer(429, **{"Retry-After": "7"}), 7.0),
        (answer(503, **{"Retry-After": "7"}), 7.0),
        (answer(429, **{"Retry-After": "0"}), 0.0),
        (answer(429), 0.0),  # for how long the gate is closed then, is its own rule
        (answer(500), 0.0),
        (answer(503), 0.0),
        (answer(500, **{"Retry-After": "7"}), 0.0),
        (answer(404), 0.0),
        (answer(404, RateLimit='"a";r=0;t=9'), 9.0),
        (answer(500, RateLimit='"a";r=0;t=9'), 9.0),
        (answer(404, RateLimit='"a";r=4;t=9'), 0.0),
        (ConnectError("refused"), 0.0),
    ],
    ids=str,
)
def test_throttling_and_spent_budgets_silence_everyone(came, cool_down):
    """Only what speaks of all requests asks all for silence; a sick answer speaks for itself."""
    assert judged(came).cool_down == cool_down
    assert judged(came, in_batch=True).cool_down == cool_down


@pytest.mark.parametrize("throttled", [1, 10])
def test_a_failed_call_tells_the_gate_as_well(throttled):
    """That this call gives up does not end the silence that the server asked for."""
    verdict = judged(answer(429, **{"Retry-After": "7"}), throttled=throttled)
    assert isinstance(verdict, Fail) == (throttled == 10)
    assert verdict.cool_down == 7.0


# --- The deadline --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "expected"), [(7.001, None), (7.0, StoppedBy.DEADLINE), (-1.0, StoppedBy.DEADLINE)]
)
def test_no_wait_crosses_the_deadline(left, expected):
    """A wait that would use up the time is not begun; the last failure is the error."""
    verdict = judged(answer(429, **{"Retry-After": "7"}), left=left)
    assert verdict.error.stopped_by is expected
    assert isinstance(verdict.error, RateLimitedError)


def test_in_a_batch_only_failures_count_against_the_time():
    """The server's wait, and all that follows on a throttled answer, is the batch's patience's."""
    hinted = answer(500, **{"Retry-After": "7"})
    assert judged(hinted, left=0.06, in_batch=True).counted < 0.06
    assert stopped(hinted, left=0.0, in_batch=True) is StoppedBy.DEADLINE
    for came in (answer(429), answer(429, **{"Retry-After": "7"})):
        assert judged(came, left=0.001, in_batch=True).counted == 0.0


def test_a_deadline_that_has_passed_is_final_whatever_anybody_says():
    """There is no time left to try anything in."""
    fault = Fault(error=DeadlineExceededError("late"), hint=Hint(should_retry=True))
    assert stopped(fault, opinion=Opinion(retry=True, stop=False)) is StoppedBy.DEADLINE


# --- Another id's record, a refused key ----------------------------------------------------------

MISMATCH = MismatchedCallError("another's", received_id="other")


@pytest.mark.parametrize("should_retry", [None, True])
def test_another_id_s_record_is_asked_again_once(should_retry):
    """Once, on a fresh connection; a header that came with the wrong record changes nothing."""
    fault = Fault(error=MISMATCH, hint=Hint(should_retry=should_retry))
    assert stopped(fault) is None
    assert stopped(fault, mismatched=True) is StoppedBy.FINAL
    assert stopped(fault, mismatched=True, opinion=Opinion(retry=True)) is None


@pytest.mark.parametrize(
    ("hint", "opinion"),
    [
        (NO_HINT, Opinion()),
        (Hint(should_retry=False), Opinion()),
        (Hint(should_retry=True), Opinion(stop=True)),
        (NO_HINT, Opinion(retry=False)),
        (NO_HINT, Opinion(retry=True, stop=True)),
        (Hint(wait=121.0, should_retry=True), Opinion()),
    ],
)
def test_a_refused_key_is_the_reason_whatever_else_speaks_against_another_try(hint, opinion):
    """A batch stops on this reason, and must not go on sending a refused key."""
    fault = Fault(error=AuthenticationError("no", status=401), hint=hint)
    assert stopped(fault, opinion=opinion) is StoppedBy.KEY_REFUSED


def test_a_refused_key_may_be_tried_again_if_somebody_says_so():
    """The server's word and the caller's strategy are obeyed, within the counts."""
    asked = answer(401, **{"x-should-retry": "true"})
    assert stopped(asked) is None
    assert stopped(answer(401), opinion=Opinion(retry=True)) is None
    assert stopped(asked, transient=4) is StoppedBy.KEY_REFUSED


@pytest.mark.parametrize("should_retry", [None, False])
def test_a_new_key_is_tried_at_once(should_retry):
    """It is another request: no backoff, no count of transient failures, no earlier advice."""
    fault = Fault(error=AuthenticationError("no", status=401), hint=Hint(should_retry=should_retry))
    verdict = judged(fault, key_renewed=True, attempts=5, transient=4, throttled=0)
    assert isinstance(verdict, RetryIn)
    assert (verdict.counted, verdict.delay) == (0.0, 0.0)


@pytest.mark.parametrize("max_attempts", [1, 4])
def test_renewals_are_counted_as_well(max_attempts):
    """A provider that mints a key each time it is asked does not make an endless loop."""
    policy = RetryPolicy(max_attempts=max_attempts)
    for renewals in range(1, max_attempts + 3):
        spent = {"attempts": 5 + renewals, "transient": 2, "throttled": 3}
        expected = StoppedBy.KEY_REFUSED if renewals > max_attempts else None
        assert stopped(answer(401), policy, key_renewed=True, **spent) is expected


def test_a_new_key_does_not_stop_the_clock():
    """Hints, deadline and the caller's `stop` bind it as they bind every try."""
    came = answer(401, **{"Retry-After": "7"})
    assert judged(came, key_renewed=True).delay == 7.0
    assert stopped(came, key_renewed=True, left=7.0) is StoppedBy.DEADLINE
    assert stopped(answer(401), key_renewed=True, left=0.0) is StoppedBy.DEADLINE
    assert stopped(came, key_renewed=True, opinion=Opinion(stop=True)) is StoppedBy.STRATEGY
    long = answer(401, **{"Retry-After": "121"})
    assert stopped(long, key_renewed=True) is StoppedBy.SERVER_WAIT


# --- The caller's own strategies -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("came", "opinion", "expected"),
    [
        # `retry` replaces the set of retried failures.
        (answer(404), Opinion(retry=True), None),
        (answer(500), Opinion(retry=False), StoppedBy.STRATEGY),
        (answer(429), Opinion(retry=False), StoppedBy.STRATEGY),
        (answer(404, **{"x-should-retry": "true"}), Opinion(retry=False), StoppedBy.STRATEGY),
        # `stop` replaces the counts, and only them.
        (answer(500), Opinion(stop=True), StoppedBy.STRATEGY),
        (answer(429), Opinion(stop=True), StoppedBy.STRATEGY),
        (answer(404), Opinion(stop=False), StoppedBy.FINAL),
        (answer(404), Opinion(retry=True, stop=False), None),
        (answer(404), Opinion(retry=True, stop=True), StoppedBy.STRATEGY),
    ],
)
def test_the_caller_s_strategies_are_obeyed(came, opinion, expected):
    """Each replaces its part of the policy and leaves the others."""
    assert stopped(came, opinion=opinion) is expected


@pytest.mark.parametrize("status", [500, 429])
def test_a_stop_of_the_caller_s_own_knows_no_counts(status):
    """As long as it says "go on", the policy's counts do not end the call."""
    spent = {"attempts": 999, "transient": 999, "throttled": 999}
    assert stopped(answer(status), opinion=Opinion(stop=False), **spent) is None
    assert stopped(answer(status), opinion=Opinion(retry=True), **spent) is not None


@pytest.mark.parametrize(("wait", "delay"), [(0.0, 7.0), (3.0, 7.0), (8.0, 8.0)])
def test_a_wait_of_the_caller_s_own_replaces_the_backoff_and_not_the_hint(wait, delay):
    """It is not drawn from and not capped, but the server is never asked sooner than it said."""
    verdict = judged(answer(429, **{"Retry-After": "7"}), rnd=0.5, opinion=Opinion(wait=wait))
    assert isinstance(verdict, RetryIn)
    assert (verdict.counted, verdict.delay) == (wait, delay)


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_wait_of_the_caller_s_own_does_not_cross_the_deadline(in_batch):
    """The deadline still binds, alone and in a batch."""
    slow = Opinion(retry=True, stop=False, wait=30.0)
    assert stopped(answer(500), opinion=slow, left=30.0, in_batch=in_batch) is StoppedBy.DEADLINE
    assert stopped(answer(500), opinion=slow, left=30.1, in_batch=in_batch) is None


# --- The error that comes out --------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 500])
def test_the_error_says_how_far_the_call_was(status):
    """Retried or final, it carries the id asked for, the attempts and the time; notes stay."""
    fault = assessed(answer(status))
    fault.error.add_note("seen")
    verdict = judged(fault, attempts=3, elapsed=1.25, transient=2)
    error = verdict.error
    assert (error.call_id, error.attempts, error.elapsed) == (CALL_ID, 3, 1.25)
    assert error.message == fault.error.message
    assert error.__notes__ == [type(error).remedy, "seen"]
    assert fault.error.attempts == 0


def test_the_cause_of_a_failure_stays_with_it():
    """What the system said about a connection is still there at the end."""
    refusal = ConnectError("refused")
    refusal.__cause__ = ConnectionRefusedError(111, "refused")
    assert judged(Fault(error=refusal)).error.__cause__ is refusal.__cause__


def test_a_record_s_own_id_does_not_pass_for_the_one_asked_for():
    """A document that breaks the contract may name any id; the error carries the caller's."""
    body = EXAMPLE_BODY.replace(CALL_ID.encode(), b"other", 1).replace(b'"John"', b"5")
    assert assessed(answer(body=body)).error.call_id == CALL_ID


# --- Values --------------------------------------------------------------------------------------


def test_verdicts_are_frozen_values():
    """What was decided does not change on its way to who acts on it."""
    error = NotFoundError("no", status=404)
    done = assessed(answer(body=EXAMPLE_BODY))
    for value in (Fail(error=error), RetryIn(delay=1.0, counted=1.0, error=error)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.cool_down = 9.0
    with pytest.raises(AttributeError):
        done.hint = NO_HINT
    assert Fault(error=error).hint == NO_HINT == Hint(wait=None, budgets=(), should_retry=None)


def test_what_is_not_said_is_nothing():
    """Who leaves a field out means no status, no hint, no silence, and the first and usual case."""
    error = NotFoundError("no", status=404)
    call = assessed(answer(body=EXAMPLE_BODY)).call
    assert Done(call, answer()) == Done(call, answer(), NO_HINT)
    assert Fault(error=error) == Fault(error=error, status=None, hint=NO_HINT)
    assert Fail(error=error) == Fail(error=error, cool_down=0.0)
    retry = {"delay": 1.0, "counted": 1.0, "error": error}
    assert RetryIn(**retry) == RetryIn(**retry, cool_down=0.0)
    usual = {"in_batch": False, "mismatched": False, "key_renewed": False, "probes": 0}
    assert progress() == progress(**usual)


def test_an_answer_s_repr_is_short():
    """Headers and body may hold anything."""
    assert repr(answer(500, b"secret", x_secret="secret")) == "Answer(status=500)"
