"""The verdict over all inputs: what no mix of failure, hint, policy and opinion can break."""

from __future__ import annotations

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calls_async._headers import LONGEST_WAIT, Budget, Hint
from calls_async._secret import ApiKey
from calls_async._verdict import (
    BATCH_ATTEMPTS,
    BATCH_THROTTLED_ATTEMPTS,
    Done,
    Fail,
    Fault,
    Opinion,
    Progress,
    RetryIn,
    assess,
    judge,
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
    ProtocolError,
    RateLimitedError,
    ServerError,
    StoppedBy,
    TLSError,
)
from tests.documents import EXAMPLE_BODY

CALL_ID = "123e4567-e89b-12d3-a456-426614174000"
KEY = ApiKey("sk_live_q7Wz9Kx2mV4t")

seconds = st.floats(0.0, 200.0)
counts = st.integers(1, 12)
flags = st.booleans()
said = st.none() | flags

errors = st.sampled_from(
    [
        AnswerTooLargeError("huge"),
        AttemptTimeoutError("slow"),
        AuthenticationError("no", status=401),
        ConnectError("refused"),
        DeadlineExceededError("late"),
        DecodeError("contract"),
        DecodeError("no JSON", document_readable=False),
        MismatchedCallError("another's", received_id="other"),
        NotFoundError("no", status=404),
        ProtocolError("cut"),
        RateLimitedError("slow down", status=429),
        RateLimitedError("slow down", status=503),
        ServerError("sick", status=500),
        ServerError("never", status=501),
        TLSError("expired"),
    ]
)
budgets = st.builds(Budget, remaining=st.integers(0, 5), reset=st.none() | seconds)
hints = st.builds(
    Hint,
    wait=st.none() | seconds | st.floats(0.0, LONGEST_WAIT),
    budgets=st.lists(budgets, max_size=2).map(tuple),
    should_retry=said,
)
faults = st.builds(Fault, error=errors, hint=hints)
policies = st.builds(
    RetryPolicy,
    max_attempts=counts,
    max_throttled_attempts=counts,
    backoff_base=seconds,
    throttle_backoff_base=seconds,
    backoff_factor=st.floats(1.0, 10.0),
    max_backoff=seconds,
    max_server_wait=seconds,
)
opinions = st.just(Opinion()) | st.builds(
    Opinion, retry=said, stop=said, wait=st.none() | seconds | st.floats(0.0, 1e300)
)
draws = st.floats(0.0, 1.0)


@st.composite
def progresses(draw):
    """How far a call may be: its attempts are transient, throttled, probes or renewals."""
    transient = draw(st.integers(0, BATCH_ATTEMPTS + 2))
    throttled, probes, renewals = (draw(st.integers(0, 12)) for _ in range(3))
    return Progress(
        call_id=CALL_ID,
        attempts=max(1, transient + throttled + probes + renewals),
        transient=transient,
        throttled=throttled,
        probes=probes,
        elapsed=draw(seconds),
        left=draw(st.floats(-10.0, 200.0) | st.just(1e12)),
        in_batch=draw(flags),
        mismatched=draw(flags),
        key_renewed=draw(st.sampled_from([False, False, False, True])),
    )


cases = st.tuples(faults, progresses(), policies, draws, opinions)


def verdict_on(case):
    fault, progress, policy, rnd, opinion = case
    return judge(fault, progress, policy, rnd=rnd, opinion=opinion)


def is_throttled(fault):
    return isinstance(fault.error, RateLimitedError)


# --- What judge never does -----------------------------------------------------------------------


@given(case=cases)
def test_a_retry_never_comes_sooner_than_the_server_asked(case):
    """The delay is never below the hint, nor below the call's own backoff."""
    verdict = verdict_on(case)
    if isinstance(verdict, RetryIn):
        assert verdict.delay >= (case[0].hint.wait or 0.0)
        assert verdict.delay >= verdict.counted >= 0.0
        waits_with_all = case[1].in_batch and is_throttled(case[0])
        assert waits_with_all or verdict.delay in {verdict.counted, case[0].hint.wait}


@given(case=cases)
def test_a_retry_never_goes_beyond_the_counts(case):
    """Unless the caller's own `stop` replaces them, each kind of failure has its count.

    A batch puts up with more of them for an id than a policy for single calls allows.
    """
    fault, progress, policy, _, opinion = case
    if isinstance(verdict_on(case), RetryIn) and opinion.stop is None:
        if is_throttled(fault):
            most = policy.max_throttled_attempts
            assert progress.throttled < max(most, BATCH_THROTTLED_ATTEMPTS * progress.in_batch)
        elif progress.key_renewed:
            counted = progress.transient + progress.throttled + progress.probes
            assert progress.attempts - counted <= policy.max_attempts
        elif progress.in_batch:
            assert progress.transient < max(policy.max_attempts, BATCH_ATTEMPTS)
        else:
            assert progress.transient < policy.max_attempts


@given(case=cases)
def test_a_retry_never_crosses_the_deadline(case):
    """What counts is less than what is left: the whole wait alone, the backoff in a batch."""
    _, progress, _, _, _ = case
    verdict = verdict_on(case)
    if isinstance(verdict, RetryIn):
        counted = verdict.counted if progress.in_batch else verdict.delay
        assert counted < progress.left


@given(case=cases)
def test_a_retry_never_waits_longer_for_the_server_than_the_policy_says(case):
    """Except at a batch's gate, where all wait together."""
    fault, progress, policy, _, _ = case
    if isinstance(verdict_on(case), RetryIn) and not (progress.in_batch and is_throttled(fault)):
        assert (fault.hint.wait or 0.0) <= policy.max_server_wait


@given(case=cases)
def test_a_drawn_backoff_never_exceeds_the_policy_s_cap(case):
    """Jitter only ever shortens."""
    _, _, policy, _, opinion = case
    verdict = verdict_on(case)
    if isinstance(verdict, RetryIn) and opinion.wait is None:
        assert verdict.counted <= policy.max_backoff


@given(case=cases)
def test_in_a_batch_a_transient_backoff_leaves_time_for_the_tries_left(case):
    """It is never more than its share, so that an id does not run out of time before attempts."""
    fault, progress, policy, _, opinion = case
    drawn = opinion.wait is None and not is_throttled(fault)
    verdict = verdict_on(case)
    if isinstance(verdict, RetryIn) and progress.in_batch and drawn:
        left = max(policy.max_attempts, BATCH_ATTEMPTS) - progress.transient
        assert verdict.counted <= progress.left / max(1, left + 1)


@given(case=cases)
def test_a_no_is_a_no(case):
    """What the server, `retry` or `stop` refuses is not tried again, but for a new key."""
    fault, progress, _, _, opinion = case
    retried = isinstance(verdict_on(case), RetryIn)
    refused = fault.hint.should_retry is False or opinion.retry is False
    if opinion.stop or (refused and not progress.key_renewed):
        assert not retried


@given(case=cases)
def test_what_repeats_is_only_tried_again_if_somebody_says_so(case):
    """Without a word of the server's or the caller's, and without a new key, it is final."""
    fault, progress, _, _, opinion = case
    silent = fault.hint.should_retry is None and opinion.retry is None
    if silent and not fault.error.retryable and not progress.key_renewed:
        assert isinstance(verdict_on(case), Fail)


@given(case=cases)
def test_a_refused_key_always_stops_the_batch(case):
    """A 401 that is final, whatever the reason, is told as a refused key, and nothing else is."""
    fault, progress, _, _, _ = case
    verdict = verdict_on(case)
    refused = isinstance(fault.error, AuthenticationError)
    if isinstance(verdict, Fail) and not progress.key_renewed:
        assert (verdict.error.stopped_by is StoppedBy.KEY_REFUSED) == refused


# --- What judge always does ----------------------------------------------------------------------


@given(case=cases)
def test_a_failure_has_a_reason_and_a_retry_has_none(case):
    """`stopped_by` is set exactly where there is no further try."""
    verdict = verdict_on(case)
    assert isinstance(verdict, Fail) == (verdict.error.stopped_by is not None)


@given(case=cases)
def test_the_error_is_the_failure_and_says_how_far_the_call_was(case):
    """Class and content stay; id, attempts and time are the call's."""
    fault, progress, _, _, _ = case
    error = verdict_on(case).error
    assert type(error) is type(fault.error)
    told = {"call_id", "attempts", "elapsed", "stopped_by"}
    for field in attrs.fields(type(error)):
        if field.name not in told:
            assert getattr(error, field.name) == getattr(fault.error, field.name)
    assert error.call_id == progress.call_id
    assert error.attempts == progress.attempts
    assert error.elapsed == progress.elapsed


@given(case=cases)
def test_throttling_asks_everyone_for_the_silence_that_it_names(case):
    """And no other failure does, unless budgets come with it; nobody's own backoff is in it."""
    fault, _, _, _, _ = case
    verdict = verdict_on(case)
    for_all = is_throttled(fault) or fault.hint.budgets
    assert verdict.cool_down == ((fault.hint.wait or 0.0) if for_all else 0.0)


@given(case=cases)
def test_the_same_input_has_the_same_verdict(case):
    """There is no state, no clock and no dice inside."""
    one, other = verdict_on(case), verdict_on(case)
    assert type(one) is type(other)
    assert one.cool_down == other.cool_down
    assert repr(one.error) == repr(other.error)


# --- Monotony ------------------------------------------------------------------------------------


@given(case=cases, more=seconds)
def test_more_time_never_ends_a_call(case, more):
    """What is tried again with little time left is tried again with more."""
    fault, progress, policy, rnd, opinion = case
    richer = attrs.evolve(progress, left=progress.left + more)
    if isinstance(verdict_on(case), RetryIn):
        assert isinstance(verdict_on((fault, richer, policy, rnd, opinion)), RetryIn)


@given(case=cases)
def test_one_more_attempt_never_ends_a_call(case):
    """What is tried again under a policy is tried again under a more generous one."""
    fault, progress, policy, rnd, opinion = case
    generous = attrs.evolve(
        policy,
        max_attempts=policy.max_attempts + 1,
        max_throttled_attempts=policy.max_throttled_attempts + 1,
        max_server_wait=policy.max_server_wait + 1.0,
    )
    if isinstance(verdict_on(case), RetryIn):
        assert isinstance(verdict_on((fault, progress, generous, rnd, opinion)), RetryIn)


@given(case=cases, shorter=draws)
def test_a_shorter_hint_never_ends_a_call(case, shorter):
    """Asking for less patience cannot cost the call."""
    fault, progress, policy, rnd, opinion = case
    assume(fault.hint.wait is not None)
    less = attrs.evolve(fault, hint=attrs.evolve(fault.hint, wait=fault.hint.wait * shorter))
    if isinstance(verdict_on(case), RetryIn):
        assert isinstance(verdict_on((less, progress, policy, rnd, opinion)), RetryIn)


# --- assess --------------------------------------------------------------------------------------

values = st.text(max_size=20) | st.integers(-5, 10**12).map(str) | st.just("true")
names = st.sampled_from(
    ["Retry-After", "RateLimit", "x-should-retry", "Date", "x-request-id", "location", "X-Other"]
)
bodies = st.binary(max_size=60) | st.sampled_from([EXAMPLE_BODY, b"null", b"{}", EXAMPLE_BODY[:9]])
answers = st.builds(
    Answer,
    status=st.just(200) | st.integers(100, 599),
    headers=st.lists(st.tuples(names, values), max_size=6).map(CIMultiDict),
    body=bodies,
)


@given(came=answers, call_id=st.sampled_from([CALL_ID, "another"]))
def test_only_a_200_with_the_record_asked_for_is_done(came, call_id):
    """Reading an answer is total, and nothing else passes for a call."""
    found = assess(call_id, came, now=1.7e9, scrub=KEY.scrub)
    wanted = came.status == 200 and came.body == EXAMPLE_BODY and call_id == CALL_ID
    assert isinstance(found, Done) == wanted
    if isinstance(found, Fault):
        assert isinstance(
            judge(
                found,
                Progress(
                    call_id=call_id, attempts=1, transient=1, throttled=0, elapsed=0.0, left=30.0
                ),
                RetryPolicy(),
                rnd=0.5,
            ),
            RetryIn | Fail,
        )
