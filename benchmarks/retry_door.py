"""What the retry loop costs a call that succeeds at once; the figure behind a decision.

Run it from the checkout: `python benchmarks/retry_door.py`. It prints microseconds of CPU per call
for each way to loop, interleaved and as the median of several rounds, and their ratio to a bare
await. Only the ratios mean anything on another machine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, retry, retry_if_result, stop_after_attempt

from calls_async._retry import until_settled
from calls_async._verdict import Fail
from calls_async.errors import CallsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 9
CALLS = 5_000
SETTLED = Fail(error=CallsError("settled"))


async def attempt() -> Fail:
    return SETTLED


async def bare() -> Any:
    return await attempt()


async def ours() -> Any:
    return await until_settled(attempt, asyncio.sleep)


async def fresh_retrying() -> Any:
    retrying = AsyncRetrying(retry=retry_if_result(lambda _: False), stop=stop_after_attempt(4))
    return await retrying(attempt)


SHARED = AsyncRetrying(retry=retry_if_result(lambda _: False), stop=stop_after_attempt(4))


async def shared_retrying() -> Any:
    return await SHARED(attempt)


@retry(retry=retry_if_result(lambda _: False), stop=stop_after_attempt(4))
async def decorated() -> Any:
    return SETTLED


WAYS: dict[str, Callable[[], Awaitable[Any]]] = {
    "bare await": bare,
    "until_settled (ours)": ours,
    "AsyncRetrying, one shared": shared_retrying,
    "AsyncRetrying, one a call": fresh_retrying,
    "the decorator": decorated,
}


async def measure(way: Callable[[], Awaitable[Any]]) -> float:
    """Microseconds of CPU per call."""
    began = time.process_time()
    for _ in range(CALLS):
        await way()
    return (time.process_time() - began) / CALLS * 1e6


async def main() -> None:
    rounds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            rounds[name].append(await measure(way))
    floor = statistics.median(rounds["bare await"])
    print(f"{'way':28}{'µs a call':>10}{'spread':>16}{'x bare':>9}")
    for name, figures in rounds.items():
        median = statistics.median(figures)
        spread = f"{min(figures):.2f} to {max(figures):.2f}"
        print(f"{name:28}{median:10.2f}{spread:>16}{median / floor:9.1f}")


if __name__ == "__main__":
    asyncio.run(main())
