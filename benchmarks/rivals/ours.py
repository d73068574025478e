"""The library itself; the rule: as a user has it, with all policies on.

The lane is what a client uses by itself. The ordinary transport is put in its place for comparison.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from benchmarks.target import KEY, UNSTEADY, Run, Target
from calls_async import CallsClient, Fetched, Limits
from calls_async._transport import SessionTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

Transport: TypeAlias = Literal["lane", "ordinary"]

WAYS: Final[tuple[Transport, ...]] = ("lane", "ordinary")


def client_of(target: Target, transport: Transport, **options: Any) -> CallsClient:
    """A client for this target."""
    options = {"limits": Limits(max_concurrency=target.width)} | options
    if transport == "lane":
        return CallsClient(KEY, base_url=target.url, ssl=target.context(), **options)
    ordinary = SessionTransport(
        base_url=target.url,
        max_body_bytes=Limits().max_body_bytes,
        headers={},
        user_agent="calls_async",
        ssl=target.context(),
    )
    return CallsClient._over(ordinary, api_key=KEY, base_url=target.url, **options)  # noqa: SLF001


@asynccontextmanager
async def opened(target: Target, transport: Transport) -> AsyncGenerator[CallsClient]:
    """A client that must not have failed or repeated anything: the server is healthy."""
    async with client_of(target, transport) as client:
        yield client
        seen = client.statistics()
    if seen.retries or seen.failed:
        raise RuntimeError(f"{UNSTEADY}: {seen.retries} retries, {seen.failed} failures")


@asynccontextmanager
async def get(target: Target, transport: Transport = "lane") -> AsyncGenerator[Run]:
    """`get_call`, one at a time."""
    async with opened(target, transport) as client:

        async def run(ids: Sequence[str]) -> list[Any]:
            return [await client.get_call(call_id) for call_id in ids]

        yield run


@asynccontextmanager
async def gather(target: Target, transport: Transport = "lane") -> AsyncGenerator[Run]:
    """`gather_calls`."""
    async with opened(target, transport) as client:
        yield client.gather_calls


@asynccontextmanager
async def stream(target: Target, transport: Transport = "lane") -> AsyncGenerator[Run]:
    """`stream_calls`, which keeps no call, so only the ids can be looked at afterwards."""
    async with opened(target, transport) as client:

        async def run(ids: Sequence[str]) -> list[Any]:
            came: list[Any] = [None] * len(ids)
            async with client.stream_calls(ids) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, Fetched):
                        came[outcome.index] = outcome.call.id
            return came

        yield run
