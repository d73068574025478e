"""aiosonic."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiosonic import HTTPClient, TCPConnector
from aiosonic.pools import PoolConfig

from benchmarks.target import HEADERS, Run, Target, in_parallel
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from calls_async.models import Call


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One client whose pool is as large as needed, and whose connections live on."""
    pool = PoolConfig(size=target.width, max_conn_requests=None)
    client = HTTPClient(TCPConnector(pool_configs={":default": pool}))
    context = target.context()

    async def fetch(call_id: str) -> Call:
        response = await client.get(target.calls + call_id, headers=HEADERS, ssl=context)
        assert response.status_code == 200
        return decode_call(await response.content())

    try:
        yield lambda ids: in_parallel(ids, fetch, target.width)
    finally:
        await client.aclose()
