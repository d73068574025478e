"""The retry loop, and the only door to tenacity; the rule: the loop obeys the verdict.

Most calls need one attempt, and tenacity's loop costs more than all else that the client adds to a
call (see docs/explanation/decisions.md). So the first attempt runs bare; from the first failure on
a fresh `AsyncRetrying` loops and sleeps as the verdicts say: one for each call, because a shared
one mixes up the states of its callers.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_never

from calls_async._verdict import Done, Fail, Opinion, RetryIn, Verdict
from calls_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from calls_async.config import RetryPolicy
    from calls_async.errors import CallsError


async def until_settled(
    attempt: Callable[[], Awaitable[Verdict]], sleep: Callable[[float], Awaitable[Any]]
) -> Done | Fail:
    """Repeat `attempt` for as long as its verdict is `RetryIn`, sleeping as it says."""
    verdict = await attempt()
    if not isinstance(verdict, RetryIn):
        return verdict
    known: list[Verdict] = [verdict]

    async def step() -> Verdict:
        return known.pop() if known else await attempt()

    retrying = AsyncRetrying(
        retry=retry_if_result(_is_retry), wait=_as_told, stop=stop_never, sleep=sleep
    )
    settled: Done | Fail = await retrying(step)
    return settled


def _is_retry(verdict: Verdict) -> bool:
    return isinstance(verdict, RetryIn)


def _as_told(state: RetryCallState) -> float:
    assert state.outcome is not None  # noqa: S101 (tenacity asks after an attempt)
    delay: float = state.outcome.result().delay
    return delay


class Strategies:
    """The caller's own tenacity strategies, asked about the failures of one call.

    Args:
        policy: The policy that may hold some.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._state = RetryCallState(AsyncRetrying(), fn=None, args=(), kwargs={})

    @classmethod
    def of(cls, policy: RetryPolicy) -> Strategies | None:
        """The strategies of a policy; `None` if it has none, as most have."""
        if policy.retry is None and policy.stop is None and policy.wait is None:
            return None
        return cls(policy)

    async def opinion(self, error: CallsError, attempts: int) -> Opinion:
        """What they say of a failure. What a strategy raises is the caller's own and passes."""
        policy, state = self._policy, self._state
        state.attempt_number = attempts
        state.set_exception((type(error), error, error.__traceback__))
        retry = stop = wait = None
        if policy.retry is not None:
            retry = bool(await _answer(policy.retry(state)))
        if retry is False:
            return Opinion(retry=False)
        if policy.wait is not None:
            # tenacity asks `wait` before `stop`, which may look at `upcoming_sleep`.
            wait = _seconds(await _answer(policy.wait(state)))
            state.upcoming_sleep = wait
        if policy.stop is not None:
            stop = bool(await _answer(policy.stop(state)))
        return Opinion(retry=retry, stop=stop, wait=wait)

    def slept(self, seconds: float) -> None:
        """Note what the verdict made of it: strategies may look at `idle_for`."""
        self._state.idle_for += seconds


async def _answer(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


def _seconds(given: Any) -> float:
    # asyncio.sleep(nan) never returns, and a negative or endless wait is as little meant.
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise ConfigurationError(f"RetryPolicy(wait=...) returned {given!a}, no number of seconds")
    return seconds
