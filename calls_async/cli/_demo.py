"""The demo; the rule: nothing is staged but the server's bad day.

A sandbox serves on this machine, so its ledger and the client's own count can be laid side by side.
They are two accounts of the same requests, kept on both ends of real connections.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from calls_async import AttemptFinished, CallsClient, ConnectError, Timeouts
from calls_async.cli._watch import Watch, watching
from calls_async.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from calls_async import Event, Statistics
    from calls_async.cli._view import View

CALLS: Final = 1_000
_FAULT_SHARE: Final = 0.05
_SEED: Final = 0
"""With it, every kind of transient fault occurs among these ids."""
_RATE: Final = 200.0
"""Requests a second: a fifth of what the client would do at these latencies."""
_BURST: Final = 150
"""A 429 costs two seconds, one of silence and one of starting slowly: this allows about four."""
_LATENCY: Final = (0.02, 0.08)
_PATIENT: Final = Timeouts(attempt=1.0)
"""Some faults stall; with the ten seconds that are usual, the demo would wait for them alone."""


@attrs.define
class Witness:
    """What the client tells of its attempts."""

    statuses: Counter[int | None] = attrs.field(factory=Counter[int | None])
    latencies: list[float] = attrs.field(factory=list[float])

    def __call__(self, event: Event) -> None:
        """A hook."""
        if isinstance(event, AttemptFinished) and not isinstance(event.error, ConnectError):
            self.statuses[event.status] += 1
            if event.status is not None:
                self.latencies.append(event.duration)


@attrs.frozen(kw_only=True)
class Result:
    """What the demo brought.

    Attributes:
        fetched: Ids with their record.
        failed: Ids that failed.
        seconds: How long it took.
        client: The client's own account.
        statuses: Answers by status as the client had them; `None`: no whole answer.
        ledger: The same as the sandbox's ledger has them.
        latencies: Seconds from dispatch to the last byte, of every whole answer.
    """

    fetched: int
    failed: int
    seconds: float
    client: Statistics
    statuses: Mapping[int | None, int]
    ledger: Mapping[int | None, int]
    latencies: Sequence[float]

    @property
    def agrees(self) -> bool:
        """Whether both ends counted the same requests, with the same answers."""
        on_the_wire = sum(self.ledger.values())
        return self.client.requests == on_the_wire and dict(self.statuses) == dict(self.ledger)

    @property
    def succeeded(self) -> bool:
        """Whether every call was fetched, and both accounts agree."""
        return self.fetched == CALLS and self.agrees


def demo_sandbox() -> Sandbox:
    """The server with its bad day."""
    return Sandbox(
        fault_share=_FAULT_SHARE, seed=_SEED, max_rate=_RATE, burst=_BURST, latency=_LATENCY
    )


def demo_ids() -> list[str]:
    """The ids to fetch."""
    return [f"call-{number:04}" for number in range(CALLS)]


async def run_demo(view: View) -> Result:
    """Fetch the calls from the sandbox, and count on both ends."""
    clock = asyncio.get_running_loop().time
    witness, watch = Witness(), Watch(asked=CALLS)
    async with (
        demo_sandbox() as sandbox,
        CallsClient(
            sandbox.api_key, base_url=sandbox.base_url, timeouts=_PATIENT, hooks=[witness, watch]
        ) as client,
    ):
        began = clock()
        async with (
            watching(view, watch, client),
            client.stream_calls(demo_ids()) as outcomes,
        ):
            async for outcome in outcomes:
                watch.take(outcome)
        return Result(
            fetched=watch.fetched,
            failed=watch.failed,
            seconds=clock() - began,
            client=client.statistics(),
            statuses=witness.statuses,
            ledger=sandbox.ledger.by_status,
            latencies=witness.latencies,
        )


# --- The picture ---------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share of all (nearest rank); 0 of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def picture(result: Result) -> Group:
    """The summary, 80 columns wide."""
    side_by_side = Table.grid(padding=(0, 5, 0, 0))
    side_by_side.add_row(_summary(result), _accounts(result))
    return Group(
        Text(
            f"{CALLS:,} calls from a sandbox on this machine. {_FAULT_SHARE:.0%} of them meet "
            f"faults, and it\nadmits {_RATE:.0f} requests a second, which the client is not told.",
            style="dim",
        ),
        Padding(side_by_side, (1, 0)),
        _verdict(result),
    )


def _summary(result: Result) -> Table:
    client = result.client
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_row("fetched", Text(f"{result.fetched:,}", style="green"))
    table.add_row("failed", Text(f"{result.failed:,}", style="red" if result.failed else "green"))
    table.add_row("attempts on the wire", f"{client.requests:,}")
    table.add_row("retried", f"{client.retries:,}")
    table.add_row("throttled", f"{client.throttled:,}")
    for share in (0.50, 0.95, 0.99):
        milliseconds = 1000 * percentile(result.latencies, share)
        table.add_row(f"latency p{share:.0%}".rstrip("%"), f"{milliseconds:,.0f} ms")
    table.add_row("calls per second", f"{result.fetched / result.seconds:,.0f}")
    table.add_row("time", f"{result.seconds:.1f} s")
    return table


def _accounts(result: Result) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    header = ("requests by answer", "client", "ledger")
    table.add_row(*(Text(title, style="bold") for title in header))
    statuses = result.statuses.keys() | result.ledger.keys()
    for status in sorted(statuses, key=lambda status: status or math.inf):
        ours, theirs = result.statuses.get(status, 0), result.ledger.get(status, 0)
        style = "" if ours == theirs else "red"
        table.add_row(_named(status), f"{ours:,}", f"{theirs:,}", style=style)
    total = sum(result.ledger.values())
    table.add_row("all", f"{result.client.requests:,}", f"{total:,}", style="bold")
    return table


def _named(status: int | None) -> str:
    if status is None:
        return "no whole answer"
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:  # 520 to 529 are nobody's standard
        return str(status)


def _verdict(result: Result) -> Text:
    agree = "agree" if result.agrees else "do not agree"
    return Text(
        f"{result.fetched:,} of {CALLS:,} fetched. The client and the sandbox's ledger {agree}.",
        style="bold green" if result.succeeded else "bold red",
    )
