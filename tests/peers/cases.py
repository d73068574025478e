"""What the client must reach against nginx's limits, as cases that measure themselves in real time.

Two things are told apart. What is exact (every id fetched, each with its own record, every request
counted as nginx counted it) must hold in every run. Times and shares depend on the machine too:
they are measured here and judged by `python -m tests.peers`, never by a test.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from calls_async import CallsClient, Fetched
from tests.kit import call_ids
from tests.peers.nginx import record, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.peers.nginx import Logged, Nginx

KEY: Final = "sk_test_peer"
RATE: Final = 50.0
"""Requests a second that nginx.conf allows."""
CONNECTIONS: Final = 8
"""Connections at the same time that nginx.conf allows."""
AWAY: Final = 2.0
"""Seconds for which the killed server is away."""


@attrs.frozen(kw_only=True)
class Measured:
    """What one run brought.

    Attributes:
        figures: (what, how much, how much at most or `None`), in the order of the table.
        inexact: What is wrong with the outcomes or the counts; empty if nothing is.
    """

    figures: tuple[tuple[str, float, float | None], ...]
    inexact: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(
            (*(f"{value:.2f} {what}" for what, value, _ in self.figures), *self.inexact)
        )


@attrs.frozen
class Case:
    """One line of the table.

    Attributes:
        name: What the server does.
        ids: How many ids the full form fetches.
        short: How many the short form fetches.
        run: Fetches so many ids and measures.
    """

    name: str
    ids: int
    short: int
    run: Callable[[Nginx, int], Awaitable[Measured]]

    def measure(self, ids: int) -> Measured:
        """One run, at a server of its own."""
        with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as nginx:
            return asyncio.run(self.run(nginx, ids))


@attrs.define
class Batch:
    """One batch of ids: what came of it, at the client's end and at the server's."""

    seconds: float = 0.0
    fetched: int = 0
    wrong: int = 0
    requests: int = 0
    concurrency: list[int] = attrs.field(factory=list)
    log: list[Logged] = attrs.field(factory=list)

    @property
    def refused(self) -> float:
        """The share of the requests that nginx refused, in percent."""
        return 100.0 * sum(line.status in (429, 503) for line in self.log) / len(self.log)

    def inexact(self, ids: int, *, interrupted: bool = False) -> tuple[str, ...]:
        """What is not as it must be.

        Args:
            ids: How many were asked for.
            interrupted: Whether nginx may have ended connections before it had read, or logged,
                what was sent on them. It can tell of fewer requests then, but never of more.
        """
        found = []
        if self.fetched != ids:
            found.append(f"{ids - self.fetched} LOST")
        if self.wrong:
            found.append(f"{self.wrong} WRONG RECORDS")
        unseen = self.requests - len(self.log)
        if unseen < 0 or (unseen and not interrupted):
            found.append(f"{self.requests} REQUESTS COUNTED, NGINX SAW {len(self.log)}")
        return tuple(found)


async def fetch(
    nginx: Nginx,
    server: str,
    ids: int,
    *,
    at: dict[int, Callable[[], None]] | None = None,
) -> Batch:
    """Fetch a batch as a user would who knows nothing of the server.

    Args:
        nginx: The server; it is stopped afterwards, so that its log is complete.
        server: Which of its servers.
        ids: How many.
        at: What to do once so many ids have their outcome.
    """
    batch, began = Batch(), time.monotonic()
    done = 0
    async with CallsClient(KEY, base_url=nginx.url(server)) as client:
        async with client.stream_calls(call_ids(ids)) as outcomes:
            async for outcome in outcomes:
                done += 1
                if isinstance(outcome, Fetched):
                    batch.fetched += 1
                    batch.wrong += outcome.raw != record(outcome.id)
                batch.concurrency.append(client.statistics().concurrency)
                if at is not None and done in at:
                    at[done]()
        batch.seconds = time.monotonic() - began
        batch.requests = client.statistics().requests
    nginx.stop()
    batch.log = nginx.log()
    return batch


def _request_limit(
    server: str, *, longest: float, most_refused: float
) -> Callable[[Nginx, int], Awaitable[Measured]]:
    async def run(nginx: Nginx, ids: int) -> Measured:
        batch = await fetch(nginx, server, ids)
        return Measured(
            figures=(
                ("x ideal", batch.seconds / (ids / RATE), longest),
                ("% refused", batch.refused, most_refused),
            ),
            inexact=batch.inexact(ids),
        )

    return run


async def _connection_limit(nginx: Nginx, ids: int) -> Measured:
    batch = await fetch(nginx, "connections", ids)
    served = [line for line in batch.log if line.status == 200]
    # Little's law: requests under way at a time = requests a second x seconds that each took.
    second_half = sorted(served, key=lambda line: line.at)[len(served) // 2 :]
    span = second_half[-1].at - second_half[0].at
    at_once = sum(line.took for line in second_half) / span
    ideal = sum(line.took for line in served) / CONNECTIONS
    allowed = batch.concurrency[len(batch.concurrency) // 2 :]
    return Measured(
        figures=(
            ("x ideal", batch.seconds / ideal, None),
            ("% refused", batch.refused, None),
            ("served at once", at_once, None),
            ("allowed at once", sum(allowed) / len(allowed), None),
        ),
        inexact=batch.inexact(ids),
    )


async def _outage(nginx: Nginx, ids: int) -> Measured:
    back: list[float] = []

    async def come_back() -> None:
        await asyncio.sleep(AWAY)
        back.append(time.time())
        await asyncio.to_thread(nginx.start)

    def go_away() -> None:
        nginx.kill()
        restarts.append(asyncio.create_task(come_back()))

    restarts: list[asyncio.Task[None]] = []
    batch = await fetch(nginx, "plain", ids, at={ids // 10: go_away})
    resumed = min(line.at for line in batch.log if line.at > back[0])
    return Measured(
        figures=(("s to resume", resumed - back[0], 5.0),),
        inexact=batch.inexact(ids, interrupted=True),
    )


CASES: Final = (
    Case(
        "50/s, burst 10: 429, Retry-After 1",
        1000,
        60,
        _request_limit("limit_429", longest=1.25, most_refused=5.0),
    ),
    Case(
        "50/s, burst 10: 503, HTML, no hint",
        1000,
        60,
        _request_limit("limit_503", longest=1.4, most_refused=8.0),
    ),
    Case("8 connections, slow bodies: 503, HTML", 1000, 40, _connection_limit),
    Case(f"killed, back after {AWAY:g} s", 2000, 150, _outage),
)
