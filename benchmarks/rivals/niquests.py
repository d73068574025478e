"""niquests: requests with asyncio."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import niquests

from benchmarks.target import HEADERS, Run, Target, in_parallel
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from calls_async.models import Call


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One session whose pool is as large as needed, and which asks no authority for revocations."""
    async with niquests.AsyncSession(
        headers=HEADERS,
        pool_connections=1,
        pool_maxsize=target.width,
        verify=True if target.authority is None else str(target.authority),
        timeout=30,
        revocation_configuration=None,
    ) as session:
        session.trust_env = False  # else it looks the environment through for each request

        async def fetch(call_id: str) -> Call:
            response = await session.get(target.calls + call_id)
            assert response.status_code == 200
            body = response.content
            assert body is not None
            return decode_call(body)

        yield lambda ids: in_parallel(ids, fetch, target.width)
