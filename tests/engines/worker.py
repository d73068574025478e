"""One process of a fleet: `python -m tests.engines.worker REDIS_URL RATE IDS PREFIX`.

It fetches so many ids, and prints one JSON document: the outcomes, and each slot that it was given
by the server's clock, which is that of this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

from calls_async import CallsClient, CallsError, Limits, Reservation
from calls_async.engines import redis as engine
from calls_async.engines._line import Reply
from calls_async.engines.redis import SharedPace

slots: list[float] = []
own: list[float] = []


class Telling(Reply):
    """A reply that notes the slots it gives, by the clock of the server."""

    @classmethod
    def of(cls, answer: Any) -> Reply:
        reply = Reply.of(answer)
        slots.extend(reply.now + reply.first + n * reply.step for n in range(reply.count))
        return reply


class Pace(SharedPace):
    """A pace that notes the slots it gives itself while Redis is away."""

    def _own_slots(self, *args: Any) -> Reservation:
        given = super()._own_slots(*args)
        first = time.time() + given.first
        own.extend(first + n * given.interval for n in range(given.count))
        return given


async def main(url: str, rate: float, number: int, prefix: str) -> None:
    """Fetch, and tell."""
    engine.Reply = Telling  # type: ignore[misc]
    ids = [f"{prefix}-{n}" for n in range(number)]
    pace = Pace(url, rate=rate)
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    sys.stdin.readline()
    async with CallsClient(pace=pace, limits=Limits(max_concurrency=200)) as client:
        brought = await client.gather_calls(ids, return_exceptions=True)
        statistics = pace.statistics()
        logging.getLogger("worker").debug("%r %r %r", client, pace, client.statistics())
    right = sum(
        not isinstance(call, CallsError) and call.id == call_id
        for call_id, call in zip(ids, brought, strict=True)
    )
    told = {"right": right, "slots": slots, "own": own, "kept": statistics.kept}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
