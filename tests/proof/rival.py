"""The page that anybody would write with aiohttp and tenacity; it is here to be compared with.

It is told what the client is told: the time for an attempt, and four attempts with a backoff that
begins at 0.05 s and has jitter. It retries whatever aiohttp raises, every status from 500 on, and
429. Nothing in it is meant to be bad.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import aiohttp
from tenacity import (
    retry,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from calls_async import structure_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calls_async import Call
    from tests.proof.road import Came


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, aiohttp.ClientResponseError) and error.status != 200:
        return error.status >= 500 or error.status == 429
    return isinstance(error, aiohttp.ClientError | TimeoutError)


@retry(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(multiplier=0.05, max=20),
    reraise=True,
)
async def fetch(session: aiohttp.ClientSession, call_id: str) -> Call:
    """One call."""
    async with session.get(f"/v1/calls/{call_id}") as response:
        response.raise_for_status()
        return structure_call(await response.json())


async def fetch_all(
    base_url: str, api_key: str, ids: Sequence[str], *, attempt: float, width: int | None
) -> Came:
    """All calls at once, or so many at a time.

    Args:
        base_url: Where the server is.
        api_key: The key.
        ids: The ids.
        attempt: Seconds for one attempt.
        width: How many calls are on their way at most; `None`: all, and aiohttp's pool of 100
            connections is what they wait for, while the time of their attempt runs.
    """
    room: Any = nullcontext() if width is None else asyncio.Semaphore(width)

    async def one(call_id: str) -> Call:
        async with room:
            return await fetch(session, call_id)

    async with aiohttp.ClientSession(
        base_url,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=aiohttp.ClientTimeout(total=attempt),
    ) as session:
        results = await asyncio.gather(*map(one, ids), return_exceptions=True)
    return list(enumerate(results))
