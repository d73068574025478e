"""httpx; it needs sniffio beside it: without, each lock looks for an event loop the slow way.

Its pool (httpcore's) looks at all connections for every request, and for each idle one of them at
all of them again, so that what a call costs grows with the calls at once. No option changes that.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from benchmarks.target import HEADERS, Run, Target, in_parallel
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from calls_async.models import Call


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One client whose pool is as large as needed."""
    limits = httpx.Limits(max_connections=target.width, max_keepalive_connections=target.width)
    verify = target.context() or True
    async with httpx.AsyncClient(
        headers=HEADERS, limits=limits, verify=verify, timeout=30, trust_env=False
    ) as client:

        async def fetch(call_id: str) -> Call:
            response = await client.get(target.calls + call_id)
            assert response.status_code == 200
            return decode_call(response.content)

        yield lambda ids: in_parallel(ids, fetch, target.width)
