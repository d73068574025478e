"""A job that is killed again and again: nothing is lost, and nothing committed is fetched again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter

import pytest

from calls_async.journal import Journal
from calls_async.journal._writer import OUTCOMES
from calls_async.testing import Fault, Ledger, Sandbox, record_body
from tests.kit import ROOT

CONCURRENCY = 16
WINDOW = 2 * CONCURRENCY  # ids on their way, and as many outcomes that wait for the job
QUICK = (Fault.reset, Fault.close, Fault.cut, Fault.empty, Fault.not_json, Fault.status(500))

JOB = f"""
import asyncio, os, sys
from calls_async import CallsClient, Limits
from calls_async.journal import Journal, export_calls

async def job(path, number, digest):
    ids = (f"call-{{position % (number - 7)}}" for position in range(number))
    with Journal.open(path) as journal:
        async with CallsClient(limits=Limits(max_concurrency={CONCURRENCY})) as client:
            await export_calls(client, ids, journal, digest=digest or None)

asyncio.run(job(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
"""


class Job:
    """A job in a process of its own, and what is known of it at each kill."""

    def __init__(self, sandbox, path, number, digest, draw):
        self.sandbox = sandbox
        self.path = path
        self.number = number
        self.digest = digest
        self.draw = draw
        self.committed = {}  # ids with a committed outcome, and their requests by then
        self.lost = Counter()  # ids that were answered, but whose outcome was lost, by kills
        self.losses = []

    async def start(self):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", JOB, self.path, str(self.number), self.digest,
            cwd=ROOT,
            env=os.environ
            | {"CALLS_API_KEY": self.sandbox.api_key, "CALLS_BASE_URL": self.sandbox.base_url},
        )  # fmt: skip

    async def killed(self, process, by, share):
        """Send the signal at a random moment of the run's beginning, or after its share of work."""
        if self.draw.random() < 0.2:
            wanted, delay = 0, self.draw.uniform(0.0, 0.5)
        else:
            wanted = len(self.sandbox.ledger) + self.draw.randrange(1, 2 * share)
            delay = self.draw.uniform(0.0, 0.06)
        # What is waited for is another process.
        while len(self.sandbox.ledger) < wanted and process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        await asyncio.sleep(delay)
        if process.returncode is None:
            process.send_signal(by)
        assert await process.wait() in (-by, 0)
        # What the process had sent is read by the server before this loop turns to us again, or
        # it never will be.
        while self.sandbox.ledger.in_flight:  # noqa: ASYNC110 (the sockets tell the server)
            await asyncio.sleep(0.002)
        self.look()

    def look(self):
        """Note what is committed now, and what was answered and is not."""
        ledger = self.sandbox.ledger
        settled = settled_ids(self.path) if self.path.exists() else set()
        assert settled >= self.committed.keys()  # committed means kept
        for call_id, requests in self.committed.items():
            assert ledger.requests_of(call_id) == requests  # and never fetched again
        self.committed |= {
            call_id: ledger.requests_of(call_id) for call_id in settled - self.committed.keys()
        }
        lost = {e.call_id for e in ledger.entries if e.status is not None} - settled
        lost = {call_id for call_id in lost if is_answered(ledger, call_id, self.sandbox)}
        self.losses.append(len(lost))
        self.lost.update(lost)


def settled_ids(path):
    with Journal.open(path, read_only=True) as journal:
        fetched = [record.id for record in journal.fetched()]
        failed = [record.id for record in journal.failed()]
        status = journal.status()
    settled = set(fetched) | set(failed)
    assert len(settled) == len(fetched) + len(failed)  # one final outcome
    assert (status.fetched, status.failed) == (len(fetched), len(failed))
    assert status.left == status.asked - len(settled)
    return settled


def answers(ledger):
    """How many requests of each id got their final answer."""
    return Counter(e.call_id for e in ledger.entries if e.fault is None)


def is_answered(ledger, call_id, sandbox):
    fate = sandbox.expected(call_id)
    needed = 1 if fate.permanent else len(fate.faults) + 1
    return ledger.requests_of(call_id) >= needed


async def survive(path, number, kills, *, by, restarts=False, digest="", seed=0):
    """Run a job to its end through so many kills; how many outcomes each of them cost."""
    draw = random.Random(seed)
    async with Sandbox(
        fault_share=0.03,
        permanent_share=0.05,
        fault_kinds=QUICK,
        seed=seed,
        ledger=Ledger(keep=4 * number),
    ) as sandbox:
        job = Job(sandbox, path, number, digest, draw)
        share = number // (kills + 1)
        for _ in range(kills):
            process = await job.start()
            await job.killed(process, by, share)
            if restarts:
                await sandbox.stop()
                await sandbox.start()
        process = await job.start()
        assert await process.wait() == 0
        job.look()
        check_end(job, kills)
    return job.losses[:-1]


def check_end(job, kills):
    """What must hold when the job has come to its end."""
    sandbox = job.sandbox
    wanted = [f"call-{position}" for position in range(job.number - 7)]
    with Journal.open(job.path, read_only=True) as journal:
        status = journal.status()
        fetched = {record.id: record for record in journal.fetched()}
        failed = {record.id: record for record in journal.failed()}
        assert list(journal.left()) == []
    assert [status.asked, status.left] == [len(wanted), 0]
    for index, call_id in enumerate(wanted):
        if sandbox.expected(call_id).permanent:
            assert failed[call_id].index == index
            assert not failed[call_id].retryable
        else:
            assert fetched[call_id].raw == record_body(call_id)
            assert fetched[call_id].index == index
    # An id was asked for again only where a kill had lost its answer.
    for call_id, number in answers(sandbox.ledger).items():
        assert number - 1 <= job.lost[call_id]
    assert all(loss <= 2 * WINDOW + 2 * OUTCOMES for loss in job.losses[:kills])
    assert job.losses[-1] == 0
    assert [p.name for p in job.path.parent.iterdir()] == [job.path.name]
    assert sandbox.api_key.encode() not in job.path.read_bytes()


@pytest.mark.parametrize(
    ("number", "kills"),
    [(1_500, 5), pytest.param(50_000, 50, marks=pytest.mark.slow)],
    ids=["short", "full"],
)
async def test_a_job_survives_sigkill(tmp_path, number, kills):
    """Killed at random moments and restarted, every id has one outcome, and the right one."""
    losses = await survive(tmp_path / "calls.journal", number, kills, by=signal.SIGKILL)
    print("outcomes lost at each kill:", losses)  # noqa: T201 (the full form's figures)


@pytest.mark.parametrize(
    ("number", "kills"),
    [(400, 2), pytest.param(50_000, 50, marks=pytest.mark.slow)],
    ids=["short", "full"],
)
async def test_a_job_survives_sigterm_and_a_server_that_restarts(tmp_path, number, kills):
    """The same holds for SIGTERM, with a known source, and when the server starts anew."""
    path = tmp_path / "calls.journal"
    await survive(path, number, kills, by=signal.SIGTERM, restarts=True, digest="sha256:ids")
