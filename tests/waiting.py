"""Waiting in tests; the rule: for a condition, never for a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; 10 seconds without it are a failure."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is waited for is on the other end of a socket)
            await asyncio.sleep(0)
