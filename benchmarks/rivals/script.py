"""What a competent user writes today; the rule: nothing in it is slower than in good examples.

aiohttp with a session and a pool as large as needed, the tenacity decorator, a default cattrs
converter that reads JSON with orjson, `asyncio.gather` with a semaphore.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from cattrs.gen import make_dict_structure_fn, override
from cattrs.preconf.orjson import make_converter
from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from benchmarks.target import HEADERS, Run, Target
from calls_async.models import Call, CallType

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


converter = make_converter()  # which reads times by `datetime.fromisoformat`
converter.register_structure_hook(CallType | str, lambda value, _: str(value))


@converter.register_structure_hook_factory(attrs.has)
def structure_record(cls: Any) -> Any:
    names = {field.name: override(rename=camel_case(field.name)) for field in attrs.fields(cls)}
    names["extra"] = override(omit=True)
    return make_dict_structure_fn(cls, converter, **names)


@retry(
    retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(multiplier=0.05, max=20),
    reraise=True,
)
async def fetch(session: aiohttp.ClientSession, url: str) -> Call:
    async with session.get(url) as response:
        response.raise_for_status()
        return converter.loads(await response.read(), Call)


@asynccontextmanager
async def script(target: Target) -> AsyncGenerator[Run]:
    """The script, whose session stays open between batches."""
    connector = aiohttp.TCPConnector(limit=target.width, ssl=target.context() or True)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=connector, headers=HEADERS, timeout=timeout
    ) as session:

        async def run(ids: Sequence[str]) -> list[Call]:
            semaphore = asyncio.Semaphore(target.width)

            async def one(call_id: str) -> Call:
                async with semaphore:
                    return await fetch(session, target.calls + call_id)

            return await asyncio.gather(*(one(call_id) for call_id in ids))

        yield run
