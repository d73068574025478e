"""Jobs that fetch calls, in a SAQ worker on Redis: `saq examples.saq_worker.settings`."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from saq.queue.redis import RedisQueue

from calls_async import CallsClient, CallsError, ClientClosedError, Failed, Fetched, StoppedBy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from saq import Job, Worker

GRACE = float(os.environ.get("CALLS_GRACE", "20"))  # seconds for what is in flight at the end

queue = RedisQueue.from_url(os.environ.get("REDIS_URL", "redis://localhost"), name="calls")


# --- The client lives as long as the worker ------------------------------------------------------


async def startup(ctx: dict[str, Any]) -> None:
    """Make the client, and see to its end."""
    ctx["calls"] = CallsClient()  # CALLS_API_KEY, CALLS_BASE_URL
    ctx["drain"] = asyncio.create_task(drain(ctx["worker"], ctx["calls"]))


async def drain(worker: Worker[Any], client: CallsClient) -> None:
    """Let the client finish what it has begun, as soon as the worker is told to stop."""
    # In the hook for the end it would be too late: SAQ calls it when the jobs are cancelled.
    await worker.event.wait()
    await client.close(grace=GRACE)


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close the connections."""
    if "calls" in ctx:  # else there was no start
        await ctx["calls"].close()
        await ctx["drain"]


# --- A job fetches its ids -----------------------------------------------------------------------

THE_BATCH_ENDED = {StoppedBy.CLOSED, StoppedBy.KEY_REFUSED, StoppedBy.PATIENCE}


async def fetch_calls(ctx: dict[str, Any], *, ids: list[str]) -> dict[str, int]:
    """Fetch what no earlier run of this job has fetched, and write down each outcome at once."""
    job, redis = ctx["job"], queue.redis
    records, failures = f"calls:{job.key}", f"calls:{job.key}:failed"
    done = {*await redis.hkeys(records), *await redis.hkeys(failures)}
    left = [call_id for call_id in ids if call_id.encode() not in done]
    over: CallsError | None = None
    try:
        async with beating(job), ctx["calls"].stream_calls(left) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case Fetched(id=call_id, raw=raw):
                        await redis.hset(records, call_id, raw)
                    case Failed(error=error) if error.stopped_by in THE_BATCH_ENDED:
                        over = error  # it says nothing of this id: the next run asks again
                    case Failed(id=call_id, error=error):
                        await redis.hset(failures, call_id, f"{type(error).__name__}: {error}")
    except CallsError as error:
        over = error
    if over is not None:
        if isinstance(over, ClientClosedError):
            await taken_back(ctx["worker"])
        raise over
    return {"fetched": await redis.hlen(records), "failed": await redis.hlen(failures)}


async def taken_back(worker: Worker[Any]) -> None:
    """Wait for a worker that is being stopped to put the job back into the queue."""
    # SAQ does so with what it cancels at its end, whatever the job's `retries` are. A job that
    # raises instead is one that has failed, and comes back only if it has retries left.
    if worker.event.is_set():
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def beating(job: Job) -> AsyncIterator[None]:
    """Tell SAQ that the worker is alive, so that it takes the job away from a dead one only."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(job.heartbeat / 3)
            await job.update()

    beats = asyncio.create_task(beat())
    try:
        yield
    finally:
        beats.cancel()
        await asyncio.wait([beats])


settings = {
    "queue": queue,
    "functions": [fetch_calls],
    "startup": startup,
    "shutdown": shutdown,
    "concurrency": 4,
    "dequeue_timeout": 1.0,  # who waits for a job looks up so often, and takes none at the end
    "shutdown_grace_period_s": math.ceil(GRACE) + 1,  # longer than the client's
    "cancellation_hard_deadline_s": 5.0,
}
