"""The soak's parts: one round of its use comes to rest, and its verdict sees what grows."""

from __future__ import annotations

import random

import attrs
import pytest

from calls_async import CallsClient
from calls_async.testing import Fault, Sandbox
from tests.kit import open_sockets, other_tasks
from tests.proof.soak import IMPATIENT, LIMITS, ROOMS, Keyring, Row, Sample, Worker
from tests.proof.unsteady import numbered_key
from tests.waiting import until

STEADY = Sample(memory=50.0, objects=40_000, descriptors=20, timers=2, tasks=0)
QUICK = (Fault.reset, Fault.cut, Fault.wrong_id, Fault.not_json, Fault.status(500))


async def test_a_round_comes_to_rest():
    """Whatever was left, cancelled or closed in the middle: no task stays, and no socket."""
    sockets = open_sockets()
    async with Sandbox(
        fault_share=0.2, permanent_share=0.05, fault_kinds=QUICK, api_keys=[numbered_key(1)]
    ) as sandbox:
        keyring = Keyring()

        def opened():
            return CallsClient(
                keyring.provider(), base_url=sandbox.base_url, timeouts=IMPATIENT, limits=LIMITS
            )

        async with opened() as client:
            worker = Worker(client=client, open_other=opened, dice=random.Random(1))
            await worker.round()
            statistics = client.statistics()
            await until(lambda: sandbox.ledger.in_flight == 0)
    await until(lambda: not other_tasks())
    assert open_sockets() == sockets
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    assert not worker.foreign + worker.wrong
    assert {"record", "cancelled", "streams that were left", "NotFoundError"} <= set(worker.ends)
    assert keyring.number == 1


@pytest.mark.parametrize("name", ROOMS)
def test_what_grows_is_seen(name):
    """A figure that grows by a quarter of its room in each sample fails the soak."""
    step = max(ROOMS[name].most(getattr(STEADY, name)) - getattr(STEADY, name), 1) / 4
    samples = [
        attrs.evolve(STEADY, **{name: getattr(STEADY, name) + number * step})
        for number in range(30)
    ]
    assert Row.of(name, samples).grows


@pytest.mark.parametrize("name", [name for name in ROOMS if name != "tasks"])
def test_what_only_fills_up_is_none(name):
    """Caches that fill in the first third, and a single outlier, do not fail it."""
    low, high = (attrs.evolve(STEADY, **{name: getattr(STEADY, name) * by}) for by in (0.5, 3.0))
    assert not Row.of(name, [low] * 10 + [STEADY] * 15 + [high] + [STEADY] * 4).grows


def test_a_single_task_is_too_many():
    """One task at one moment of rest fails it."""
    samples = [STEADY] * 29 + [attrs.evolve(STEADY, tasks=1)]
    assert Row.of("tasks", samples).grows
