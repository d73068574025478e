"""pyreqwest: reqwest, from Rust, with its default runtime of one thread."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pyreqwest.client import ClientBuilder

from benchmarks.target import HEADERS, Run, Target, in_parallel
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from calls_async.models import Call


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One client whose pool is as large as needed."""
    builder = ClientBuilder().default_headers(HEADERS).pool_max_idle_per_host(target.width)
    builder = builder.timeout(timedelta(seconds=30)).no_proxy()
    if target.authority is not None:
        builder = builder.add_root_certificate_pem(target.authority.read_bytes())
    async with builder.build() as client:

        async def fetch(call_id: str) -> Call:
            response = await client.get(target.calls + call_id).build().send()
            assert response.status == 200
            return decode_call(bytes(await response.bytes()))

        yield lambda ids: in_parallel(ids, fetch, target.width)
