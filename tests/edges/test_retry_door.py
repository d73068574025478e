"""The door to tenacity: the loop obeys the verdict, and the caller's strategies are asked."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import tenacity
from tenacity.asyncio import retry_if_exception as retry_if_exception_async

from calls_async import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    StoppedBy,
    TransportError,
)
from calls_async._retry import Strategies, until_settled
from calls_async._verdict import NO_OPINION, Fail, Opinion, RetryIn
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import in_virtual_time

ERROR = ServerError("oops", status=500)
AGAIN = RetryIn(delay=2.5, counted=1.0, error=ERROR)
ENOUGH = Fail(error=ERROR)


# --- The loop ------------------------------------------------------------------------------------


class Attempts:
    """Attempts with these verdicts, and the sleeps between them."""

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)
        self.slept = []

    async def attempt(self):
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, BaseException):
            raise verdict
        return verdict

    async def sleep(self, seconds):
        self.slept.append(seconds)


@pytest.mark.parametrize("retries", [0, 1, 2, 50])
async def test_the_loop_obeys_the_verdict(retries):
    """It repeats while the verdict is `RetryIn`, sleeps as told, and returns what settles it."""
    attempts = Attempts(*[AGAIN] * retries, ENOUGH)
    assert await until_settled(attempts.attempt, attempts.sleep) is ENOUGH
    assert attempts.verdicts == []
    assert attempts.slept == [2.5] * retries


@pytest.mark.parametrize("raised", [ValueError("theirs"), asyncio.CancelledError(), SystemExit()])
@pytest.mark.parametrize("before", [[], [AGAIN], [AGAIN, AGAIN]])
async def test_what_an_attempt_raises_passes_at_once(raised, before):
    """tenacity never catches, repeats or wraps it."""  # noqa: D403 (its name)
    attempts = Attempts(*before, raised, ENOUGH)
    with pytest.raises(type(raised)) as caught:
        await until_settled(attempts.attempt, attempts.sleep)
    assert caught.value is raised
    assert attempts.verdicts == [ENOUGH]


async def test_each_call_has_a_loop_of_its_own():
    """Calls at the same time do not mix their verdicts up."""

    async def one(delay):
        attempts = Attempts(*[RetryIn(delay=delay, counted=0.0, error=ERROR)] * 5, ENOUGH)

        async def sleep(seconds):
            await attempts.sleep(seconds)
            await asyncio.sleep(0)

        await until_settled(attempts.attempt, sleep)
        return attempts.slept

    assert await asyncio.gather(*[one(n) for n in range(50)]) == [[n] * 5 for n in range(50)]


# --- Strategies, asked one by one ----------------------------------------------------------------


def opinion_of(**strategies):
    """What strategies say of a first failure."""
    asked = Strategies.of(RetryPolicy(**strategies))
    assert asked is not None
    return asked.opinion(ERROR, 1)


def test_a_policy_without_strategies_costs_nothing():
    """Where none is given, none is asked, and no state is kept for them."""
    assert Strategies.of(RetryPolicy()) is None


async def later(answer):
    await asyncio.sleep(0)
    return answer


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        ({"stop": tenacity.stop_after_attempt(1)}, Opinion(stop=True)),
        ({"stop": tenacity.stop_after_attempt(2)}, Opinion(stop=False)),
        ({"wait": tenacity.wait_fixed(3)}, Opinion(wait=3.0)),
        ({"retry": tenacity.retry_if_exception_type(ServerError)}, Opinion(retry=True)),
        ({"retry": tenacity.retry_if_exception_type(NotFoundError)}, Opinion(retry=False)),
        ({"retry": tenacity.retry_if_not_exception_type(ServerError)}, Opinion(retry=False)),
        ({"retry": tenacity.retry_if_result(bool)}, Opinion(retry=False)),
        ({"retry": tenacity.retry_always}, Opinion(retry=True)),
        ({"wait": lambda _: later(2)}, Opinion(wait=2.0)),
        ({"stop": lambda _: later(1)}, Opinion(stop=True)),
        ({"retry": retry_if_exception_async(lambda _: later(answer=True))}, Opinion(retry=True)),
        (
            {"retry": lambda _: True, "stop": lambda _: False, "wait": lambda _: 0},
            Opinion(retry=True, stop=False, wait=0.0),
        ),
    ],
)
async def test_a_strategy_is_asked_as_tenacity_would(strategies, said):
    """Ready-made, plain or async: each gives its part of the opinion, and the rest is none."""
    assert await opinion_of(**strategies) == said != NO_OPINION


async def test_a_strategy_sees_what_tenacity_would_show_it():
    """The state has the failure, the attempt, the time already slept and the next sleep."""
    seen = []

    def look(state):
        seen.append((state.outcome.exception(), state.attempt_number, state.idle_for))
        return 4.0

    def stop(state):
        seen.append(state.upcoming_sleep)
        return False

    strategies = Strategies.of(RetryPolicy(wait=look, stop=stop))
    await strategies.opinion(ERROR, 1)
    strategies.slept(4.5)
    await strategies.opinion(ERROR, 2)
    assert seen == [(ERROR, 1, 0.0), 4.0, (ERROR, 2, 4.5), 4.0]


async def test_without_a_retry_nothing_else_is_asked():
    """Where `retry` says no, neither `wait` nor `stop` has a say."""
    asked = []
    await opinion_of(retry=lambda _: False, wait=asked.append, stop=asked.append)
    assert asked == []


@pytest.mark.parametrize("wait", [float("nan"), float("inf"), -1, 10**400, None, "soon"])
async def test_a_wait_that_is_no_time_is_refused(wait):
    """`asyncio.sleep(nan)` would never return; what is no number of seconds is an error."""
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\(wait=...\)"):
        await opinion_of(wait=lambda _: wait)


# --- Strategies, in the client -------------------------------------------------------------------

BUSY = Fault.status(503, headers={"Retry-After": "5"})


async def failure(faults, *, timeout=None, **strategies):
    """How `get_call` fails, and the times of its requests."""
    transport = FakeTransport(faults={"call-1": faults})
    async with fake_client(transport, retry=RetryPolicy(**strategies)) as client:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the tests look at it)
            await client.get_call("call-1", timeout=timeout)
    return caught.value, [entry.at for entry in transport.ledger.entries]


@in_virtual_time
async def test_stop_replaces_the_counts():
    """`stop_after_attempt` ends the call where the policy's own counts would not, and later."""
    error, times = await failure(
        Fault.status(500), stop=tenacity.stop_after_attempt(7), max_attempts=1
    )
    assert isinstance(error, ServerError)
    assert len(times) == error.attempts == 7
    assert error.stopped_by is StoppedBy.STRATEGY


@in_virtual_time
async def test_wait_replaces_the_backoff():
    """`wait_fixed` is the wait, without jitter."""
    _, times = await failure(Fault.status(500), wait=tenacity.wait_fixed(3))
    assert times == [0.0, 3.0, 6.0, 9.0]


@in_virtual_time
async def test_a_strategy_is_told_how_long_the_call_has_slept():
    """`idle_for` is the time slept between the attempts of this call, hints included."""
    idle = []

    def wait(state):
        idle.append(state.idle_for)
        return 3.0

    await failure([Fault.status(500), BUSY, Fault.status(404)], wait=wait)
    assert idle == pytest.approx([0.0, 3.0, 8.0])


@in_virtual_time
async def test_retry_replaces_the_set_of_retried_failures():
    """What would be final is tried again if the strategy says so, and the other way round."""
    strategy = tenacity.retry_if_exception_type(NotFoundError)
    error, times = await failure(Fault.status(404), retry=strategy)
    assert (type(error), len(times)) == (NotFoundError, 4)
    error, times = await failure(Fault.reset, retry=strategy)
    assert isinstance(error, TransportError)
    assert (len(times), error.stopped_by) == (1, StoppedBy.STRATEGY)


@in_virtual_time
async def test_the_servers_hints_still_bind():
    """A strategy's wait is no shorter than what the server asked for."""
    _, times = await failure(
        BUSY, wait=tenacity.wait_fixed(0.1), stop=tenacity.stop_after_attempt(3)
    )
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(gaps) == 2
    assert all(5.0 <= gap <= 7.0 for gap in gaps)  # the silence, and a place in the learnt pace


@in_virtual_time
async def test_the_servers_no_still_binds():
    """`x-should-retry: false` ends the call whatever a strategy says."""
    never = Fault.status(503, headers={"x-should-retry": "false"})
    error, times = await failure(never, retry=tenacity.retry_always)
    assert (len(times), error.stopped_by) == (1, StoppedBy.SERVER)


@in_virtual_time
async def test_the_cap_on_hints_still_binds():
    """A server that asks for too much is not waited for, whatever a strategy says."""
    long = Fault.status(429, headers={"Retry-After": "1000"})
    error, times = await failure(long, retry=tenacity.retry_always, timeout=5000)
    assert isinstance(error, RateLimitedError)
    assert (len(times), error.stopped_by) == (1, StoppedBy.SERVER_WAIT)


@in_virtual_time
async def test_the_deadline_still_binds():
    """No sleep starts that would cross it, and no strategy outlives it."""
    error, times = await failure(
        Fault.status(500), wait=tenacity.wait_fixed(4), stop=tenacity.stop_never, timeout=10
    )
    assert times == [0.0, 4.0, 8.0]
    assert error.stopped_by is StoppedBy.DEADLINE
    error, _ = await failure(Fault.stall, retry=tenacity.retry_always, timeout=15)
    assert isinstance(error, DeadlineExceededError)


@in_virtual_time
async def test_a_refused_key_is_a_refused_key_to_a_batch():
    """Whatever strategy ends the call: a batch hears that the key was refused, and ends."""
    transport = FakeTransport(api_keys=["sk_test_other"])
    policy = RetryPolicy(retry=lambda _: False)
    async with fake_client(transport, retry=policy, api_key="sk_test_mine") as client:
        mixed = await client.gather_calls(map(str, range(500)), return_exceptions=True)
    assert {type(error) for error in mixed} == {AuthenticationError}
    assert len(transport.ledger) <= 128


class TheirsError(Exception):
    """Raised by a caller's strategy."""


def raising(_):
    raise TheirsError


async def raising_later(_):
    await asyncio.sleep(0)
    raise TheirsError


@pytest.mark.parametrize("strategy", [raising, raising_later])
@pytest.mark.parametrize("option", ["stop", "wait", "retry"])
@in_virtual_time
async def test_what_a_strategy_raises_passes_as_it_is(option, strategy):
    """It is the caller's own code: its exception is theirs to see, unwrapped and at once."""
    error, times = await failure(Fault.status(500), **{option: strategy})
    assert type(error) is TheirsError
    assert len(times) == 1


@in_virtual_time
async def test_a_strategy_that_raises_keeps_no_permit():
    """After it the client works on, and nothing is in flight."""
    async with fake_client(
        FakeTransport(faults={"bad": Fault.status(500)}), retry=RetryPolicy(stop=raising)
    ) as client:
        with pytest.raises(TheirsError):
            await client.get_call("bad")
        assert client.statistics().in_flight == 0
        assert (await client.get_call("good")).id == "good"
