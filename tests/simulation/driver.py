"""Runs real clients against server models in virtual time, and writes down what happens.

The rule: nothing of the client is replaced but its transport (and, for the comparison, its pace).
What is simulated is the network and the server, so a result holds for the code that ships. Virtual
time and seeded randomness make every run repeatable to the last request.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import attrs
from multidict import CIMultiDict

from calls_async import CallsClient, Limits
from calls_async._wire import Answer
from calls_async.testing.clock import run_in_virtual_time
from calls_async.testing.records import record_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calls_async._pace import Pace
    from calls_async._secret import ApiKey
    from tests.simulation.servers import Server

SAMPLING = 0.1
"""Seconds between two readings of the clients' pace."""


@attrs.frozen
class Request:
    """One request as the server saw it."""

    at: float
    client: int
    accepted: bool


@attrs.define
class Recording:
    """What one run brought.

    Attributes:
        requests: Every request in the order of arrival.
        paces: (seconds, the first client's pace), read every `SAMPLING` seconds.
        finished: When each client had all its outcomes, in seconds.
        fetched: How many ids were fetched.
        failed: How many were not.
    """

    requests: list[Request] = attrs.field(factory=list)
    paces: list[tuple[float, float | None]] = attrs.field(factory=list)
    finished: list[float] = attrs.field(factory=list)
    fetched: int = 0
    failed: int = 0

    @property
    def duration(self) -> float:
        """Seconds until the last client was done."""
        return max(self.finished)

    @property
    def rejected(self) -> float:
        """The share of requests that were refused."""
        return sum(not request.accepted for request in self.requests) / len(self.requests)

    def goodput(self, since: float, until: float) -> float:
        """Accepted requests per second between two times."""
        return sum(r.accepted for r in self.requests if since <= r.at < until) / (until - since)

    def mean_pace(self, since: float, until: float) -> float | None:
        """The first client's mean pace between two times; `None` if it ended at full speed."""
        paces = [pace for at, pace in self.paces if since <= at < until]
        if not paces or paces[-1] is None:
            return None
        known = [pace for pace in paces if pace is not None]
        return sum(known) / len(known)


@attrs.define
class _Wire:
    """The way from one client to the server model, as a transport."""

    server: Server
    latency: float
    dice: random.Random
    recording: Recording
    client: int

    async def get(self, call_id: str, key: ApiKey, *, fresh: bool = False) -> Answer:  # noqa: ARG002
        await asyncio.sleep(self._half_way())
        now = asyncio.get_running_loop().time()
        reply = self.server.reply(now)
        accepted = reply.status == 200
        self.recording.requests.append(Request(now, self.client, accepted))
        await asyncio.sleep(self._half_way())
        return Answer(
            status=reply.status,
            headers=CIMultiDict(reply.headers),
            body=record_body(call_id) if accepted else b"",
        )

    async def close(self) -> None:
        pass

    def _half_way(self) -> float:
        return self.latency * self.dice.uniform(0.4, 0.6)


def simulate(
    server: Server,
    *,
    ids: int,
    clients: int = 1,
    latency: float = 0.002,
    seed: int = 1,
    pace: Callable[[], Pace] | None = None,
    **options: Any,
) -> Recording:
    """Let clients fetch ids from a server, and return what happened.

    Args:
        server: The model.
        ids: How many ids each client fetches.
        clients: How many clients there are, in one process but with nothing in common.
        latency: Mean seconds from a request to its answer; each half of the way varies by a fifth.
        seed: Of all randomness.
        pace: Makes the pace to be used in place of the client's own.
        **options: The clients' options.
    """
    recording = Recording()
    state = random.getstate()
    random.seed(seed)
    try:
        run_in_virtual_time(_run(recording, server, ids, clients, latency, seed, pace, options))
    finally:
        random.setstate(state)
    return recording


async def _run(  # noqa: PLR0917 (one call site, just above)
    recording: Recording,
    server: Server,
    ids: int,
    clients: int,
    latency: float,
    seed: int,
    pace: Callable[[], Pace] | None,
    options: dict[str, Any],
) -> None:
    dice = random.Random(seed)
    fleet: list[CallsClient] = []
    for number in range(clients):
        wire = _Wire(server, latency, dice, recording, number)
        # Twenty in flight is where the learnt concurrency starts.
        client = CallsClient._over(wire, **{"limits": Limits(max_concurrency=20)} | options)
        fleet.append(client)
        if pace is not None:
            client._core.bind()._gate._pace = pace()
    watch = asyncio.create_task(_watch(fleet[0], recording))
    async with asyncio.TaskGroup() as group:
        for client in fleet:
            group.create_task(_fetch_all(client, recording, [f"call-{n}" for n in range(ids)]))
    watch.cancel()
    for client in fleet:
        statistics = client.statistics()
        recording.fetched += statistics.fetched
        recording.failed += statistics.failed
        await client.close()


async def _fetch_all(client: CallsClient, recording: Recording, ids: Sequence[str]) -> None:
    async with client.stream_calls(ids) as outcomes:
        async for _ in outcomes:
            pass
    recording.finished.append(asyncio.get_running_loop().time())


async def _watch(client: CallsClient, recording: Recording) -> None:
    now = asyncio.get_running_loop().time
    while True:
        recording.paces.append((now(), client.statistics().pace))
        await asyncio.sleep(SAMPLING)
