"""Runs real clients against server models in virtual time, and writes down what happens.

The rule: nothing of the client is replaced but its transport (and, for the comparison, its pace).
What is simulated is the network and the server, so a result holds for the code that ships. Virtual
time and seeded randomness make every run repeatable to the last request.

Two ways to ask: `simulate` lets each client fetch a batch, as fast as the client will; `arrive` has
independent `get_call`s come at a steady mean rate, whether or not the earlier ones are answered.
"""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from multidict import CIMultiDict

from calls_async import CallsClient, Limits
from calls_async._wire import Answer
from calls_async.errors import CallsError, ConnectError, TransportError
from calls_async.testing.clock import run_in_virtual_time
from calls_async.testing.fake import relayed
from calls_async.testing.records import record_body
from tests.fleets import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping

    from calls_async._pace import Pace
    from calls_async._secret import ApiKey
    from calls_async._transport import Next
    from tests.fleets import Line
    from tests.simulation.servers import Server

SAMPLING = 0.1
"""Seconds between two readings of the clients' pace and concurrency."""


@attrs.define
class Request:
    """One request.

    Attributes:
        at: When it reached the server, or would have.
        client: Whose it is.
        accepted: Whether it brought its record.
        answered: When the client had the record or a refusal; `None` if it gave up before.
    """

    at: float
    client: int
    accepted: bool = False
    answered: float | None = None


@attrs.define
class Recording:
    """What one run brought.

    Attributes:
        requests: Every request in the order of arrival.
        asked: When each `get_call` of `arrive` was called.
        paces: (seconds, the first client's pace), read every `SAMPLING` seconds.
        concurrencies: (seconds, requests that the first client may have in flight), likewise.
        finished: When each client had all its outcomes, in seconds.
        fetched: How many ids were fetched.
        failed: How many were not.
        lost: The errors of those.
    """

    requests: list[Request] = attrs.field(factory=list)
    asked: list[float] = attrs.field(factory=list)
    paces: list[tuple[float, float | None]] = attrs.field(factory=list)
    concurrencies: list[tuple[float, int]] = attrs.field(factory=list)
    finished: list[float] = attrs.field(factory=list)
    fetched: int = 0
    failed: int = 0
    lost: list[CallsError] = attrs.field(factory=list)

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
    name: ClassVar[str] = "simulation"

    async def get(
        self,
        call_id: str,
        key: ApiKey,  # noqa: ARG002 (the protocol's)
        headers: Mapping[str, str] | None = None,  # noqa: ARG002
        *,
        fresh: bool = False,  # noqa: ARG002
    ) -> Answer | TransportError:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._half_way())
        request = Request(loop.time(), self.client)
        self.recording.requests.append(request)
        reply = self.server.reply(request.at)
        if reply.after == math.inf:
            await loop.create_future()  # until the client gives up
        await asyncio.sleep(reply.after + self._half_way())
        request.answered = loop.time()
        if reply.status is None:
            return ConnectError("connection refused")
        request.accepted = reply.status == 200
        return Answer(
            status=reply.status,
            headers=CIMultiDict(reply.headers),
            body=record_body(call_id) if request.accepted else b"",
        )

    async def relay(self, call_id: str, key: ApiKey, following: Next) -> Answer | TransportError:
        return await relayed(self, call_id, key, following)

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
    concurrency: Callable[[int], Any] | None = None,
    shared: Line | None = None,
    **options: Any,
) -> Recording:
    """Let clients fetch ids from a server, and return what happened.

    Args:
        server: The model.
        ids: How many ids each client fetches.
        clients: How many clients there are, in one process but with nothing in common.
        latency: Mean seconds of the way to the server and back; each half varies by a fifth.
        seed: Of all randomness.
        pace: Makes the pace to be used in place of the client's own.
        concurrency: Makes the limit of concurrency to be used in place of the client's own, from
            the highest that is allowed.
        shared: The line that all of them take their slots from; `None`: each is on its own.
        **options: The clients' options.
    """
    fleet = _Fleet(server, latency, random.Random(seed), pace, concurrency, options, shared)

    async def run() -> None:
        members = [fleet.client() for _ in range(clients)]
        await fleet.watched(_fetch_all(client, fleet.recording, ids) for client in members)

    with _seeded(seed):
        run_in_virtual_time(run())
    return fleet.recording


def arrive(
    server: Server,
    *,
    rate: float,
    seconds: float,
    latency: float = 0.002,
    seed: int = 1,
    **options: Any,
) -> Recording:
    """Let independent `get_call`s of one client arrive at a server, and return what happened.

    Args:
        server: The model.
        rate: Calls per second, on average; they come as chance has it (a Poisson process).
        seconds: How long they keep coming.
        latency: See `simulate`.
        seed: Of all randomness.
        **options: The client's options.
    """
    fleet = _Fleet(server, latency, random.Random(seed), None, None, options)

    async def run() -> None:
        client = fleet.client()
        await fleet.watched([_call_now_and_then(client, fleet, rate, seconds)])

    with _seeded(seed):
        run_in_virtual_time(run())
    return fleet.recording


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    """The client's own jitter comes from the module's dice."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@attrs.define
class _Fleet:
    """The clients of one run, which have nothing in common but the server, and maybe a pace."""

    server: Server
    latency: float
    dice: random.Random
    pace: Callable[[], Pace] | None
    concurrency: Callable[[int], Any] | None
    options: dict[str, Any]
    shared: Line | None = None
    recording: Recording = attrs.field(factory=Recording)
    clients: list[CallsClient] = attrs.field(factory=list)

    def client(self) -> CallsClient:
        """One more client."""
        wire = _Wire(self.server, self.latency, self.dice, self.recording, len(self.clients))
        # Twenty in flight is where the learnt concurrency starts.
        options = {"limits": Limits(max_concurrency=20)} | self.options
        if self.shared is not None:
            options["pace"] = Member(self.shared)
        client = CallsClient._over(wire, **options)
        self.clients.append(client)
        throttle = client._core.bind()
        if self.pace is not None:
            throttle._gate._pace = self.pace()
        if self.concurrency is not None:
            throttle._concurrency = self.concurrency(options["limits"].max_concurrency)
        return client

    async def watched(self, work: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Do the work, write down the first client's state meanwhile, and close all clients."""
        watch = asyncio.create_task(_watch(self.clients[0], self.recording))
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(part)
        watch.cancel()
        for client in self.clients:
            statistics = client.statistics()
            self.recording.fetched += statistics.fetched
            self.recording.failed += statistics.failed
            await client.close()


async def _fetch_all(client: CallsClient, recording: Recording, ids: int) -> None:
    wanted = [f"call-{n}" for n in range(ids)]
    for brought in await client.gather_calls(wanted, return_exceptions=True):
        if isinstance(brought, CallsError):
            recording.lost.append(brought)
    recording.finished.append(asyncio.get_running_loop().time())


async def _call_now_and_then(
    client: CallsClient, fleet: _Fleet, rate: float, seconds: float
) -> None:
    loop, recording = asyncio.get_running_loop(), fleet.recording

    async def call(number: int) -> None:
        try:
            await client.get_call(f"call-{number}")
        except CallsError as error:
            recording.lost.append(error)

    async with asyncio.TaskGroup() as group:
        while loop.time() < seconds:
            group.create_task(call(len(recording.asked)))
            recording.asked.append(loop.time())
            await asyncio.sleep(fleet.dice.expovariate(rate))
    recording.finished.append(loop.time())


async def _watch(client: CallsClient, recording: Recording) -> None:
    now = asyncio.get_running_loop().time
    while True:
        statistics = client.statistics()
        recording.paces.append((now(), statistics.pace))
        recording.concurrencies.append((now(), statistics.concurrency))
        await asyncio.sleep(SAMPLING)
