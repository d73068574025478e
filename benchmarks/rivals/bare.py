"""aiohttp alone; the rule: get, read, `orjson.loads`, and nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from benchmarks.target import HEADERS, Run, Target, in_parallel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def bare(target: Target) -> AsyncGenerator[Run]:
    """One session; a pool as large as needed."""
    connector = aiohttp.TCPConnector(limit=target.width, ssl=target.context() or True)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def fetch(call_id: str) -> Any:
            async with session.get(target.calls + call_id) as response:
                return orjson.loads(await response.read())

        yield lambda ids: in_parallel(ids, fetch, target.width)
