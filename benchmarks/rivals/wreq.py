"""wreq: from Rust, with BoringSSL."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import wreq

from benchmarks.target import HEADERS, Run, Target, in_parallel
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from calls_async.models import Call


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One client whose pool is as large as needed."""
    trusted: dict[str, Any] = {} if target.authority is None else {"tls_verify": target.authority}
    client = wreq.Client(
        headers=HEADERS,
        pool_max_idle_per_host=target.width,
        http1_only=True,
        no_proxy=True,
        timeout=timedelta(seconds=30),
        **trusted,
    )

    async def fetch(call_id: str) -> Call:
        response = await client.get(target.calls + call_id)
        assert response.status.as_int() == 200
        return decode_call(bytes(await response.bytes()))

    try:
        yield lambda ids: in_parallel(ids, fetch, target.width)
    finally:
        client.close()
