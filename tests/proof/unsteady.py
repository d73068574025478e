"""A sandbox that is never the same for long, in a process of its own.

The rule: it goes through `Weather` over and over, and meanwhile some ids meet faults and some fail
for ever, as the sandbox's plan draws them. Its memory is not the client's, so it runs apart.

`python -m tests.proof.unsteady` writes its URL and serves until its input ends, which it also does
when whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from enum import Enum
from itertools import count, cycle
from typing import TYPE_CHECKING, Final

from calls_async.testing import Ledger, Sandbox
from tests.kit import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LASTS: Final = 2.0
"""Seconds until the weather changes."""
AWAY: Final = 0.3
"""Seconds for which it is away when it restarts."""
LIMIT: Final = 200.0
"""Requests a second, where there is a limit."""


class Weather(Enum):
    """What a server may be like, in this order."""

    CALM = "answers at once"
    LIMITED = "has a rate limit"
    RESTARTED = "was away, and all connections are gone"
    SLOW = "answers late"
    ROTATED = "accepts the next key, and it alone"


def numbered_key(number: int) -> str:
    """The keys that it accepts, one after the other, from 0; none of them comes again."""
    return f"sk_test_of_the_soak_{number}"


@asynccontextmanager
async def unsteady_server() -> AsyncIterator[str]:
    """The URL of one that runs in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # aiohttp's server complains of its own shutdown
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
        if process.returncode is not None:
            raise RuntimeError("the server did not live to the end")
    finally:
        process.stdin.close()
        await process.wait()


async def _change(sandbox: Sandbox) -> None:
    keys = map(numbered_key, count())
    sandbox.api_keys = (next(keys),)
    for weather in cycle(Weather):
        sandbox.max_rate = LIMIT if weather is Weather.LIMITED else None
        sandbox.latency = (0.01, 0.15) if weather is Weather.SLOW else (0.0, 0.01)
        if weather is Weather.RESTARTED:
            await sandbox.stop()
            await asyncio.sleep(AWAY)
            await sandbox.start()
        if weather is Weather.ROTATED:
            sandbox.api_keys = (next(keys),)
        await asyncio.sleep(LASTS)


async def _serve() -> None:
    sandbox = Sandbox(fault_share=0.1, permanent_share=0.02, ledger=Ledger(keep=0))
    async with sandbox:
        sys.stdout.write(f"{sandbox.base_url}\n")
        sys.stdout.flush()
        changing = asyncio.create_task(_change(sandbox))
        await asyncio.to_thread(sys.stdin.read)
        changing.cancel()
        await asyncio.wait([changing])


if __name__ == "__main__":
    asyncio.run(_serve())
