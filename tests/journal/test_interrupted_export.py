"""`export_calls` that is cancelled again and again: nothing is left, and nothing is reported."""

from __future__ import annotations

import asyncio
import gc

import pytest

from calls_async.journal import Journal, export_calls
from calls_async.testing import fake_client
from tests.kit import call_ids, other_tasks, turns


async def arriving():
    for call_id in call_ids(10_000):
        yield call_id
        await asyncio.sleep(0)


@pytest.mark.parametrize("turn", [3, 10, 30])
@pytest.mark.parametrize("gap", [1, 2, 3])
async def test_impatient_cancelling_is_no_forgotten_exception(tmp_path, turn, gap):
    """The task that reads the ids is awaited all the same, and what it raises is looked at."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with fake_client() as client:
        with Journal.open(tmp_path / "calls.journal") as journal:
            job = asyncio.ensure_future(export_calls(client, arriving(), journal))
            for _ in range(6):
                await turns(turn if not job.cancelling() else gap)
                job.cancel()
            await asyncio.wait([job])
            assert job.cancelled()
            assert other_tasks() == set()
    del job  # it holds the frames of its end
    gc.collect()
    await turns(2)
    assert told == []
