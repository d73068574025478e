"""The throttle: asyncio's thin wrapper around what the client knows of the server, and the permits.

The rule: a request starts when there is a permit, the gate is open, the pace allows it and no
outage holds it back; those who wait are served in the order in which they came. Every decision is a
pure class's, and is made synchronously; nobody awaits with a half-made one in hand.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from calls_async._budget import RetryBudget
from calls_async._concurrency import Concurrency
from calls_async._gate import THROTTLING, Gate
from calls_async._outage import Outage
from calls_async._verdict import Done, Fault
from calls_async.errors import (
    AttemptTimeoutError,
    ConnectError,
    DeadlineExceededError,
    MismatchedCallError,
    RateLimitedError,
)
from calls_async.events import CoolDownEntered, Event, OutageEntered, OutageLeft, PaceChanged

if TYPE_CHECKING:
    import asyncio

    from calls_async._scope import Scope
    from calls_async.config import Limits


class Throttle:
    """Hands out the permits of one client, as the server can take them.

    Args:
        limits: The client's limits.
        max_cool_down: The longest silence in seconds that an answer can bring about.
        loop: The client's event loop, whose clock is the only one used.
    """

    def __init__(
        self, limits: Limits, *, max_cool_down: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.budget = RetryBudget()
        """What retries are paid from."""
        self.in_flight = 0
        """Permits that are out."""
        self._loop = loop
        self._gate = Gate(max_rate=limits.max_rate, max_cool_down=max_cool_down)
        self._concurrency = Concurrency(limits.max_concurrency)
        self._outage = Outage()
        # Who waits, and whether as a part of a batch. A dict is an ordered set: first come, first
        # served, and leaving early costs nothing.
        self._queue: dict[asyncio.Future[bool], bool] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit, for the gate, or for the end of an outage."""
        return len(self._queue)

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight now."""
        return self._concurrency.limit

    @property
    def pace(self) -> float | None:
        """Starts per second that the gate allows now when it is open; `None`: full speed."""
        return self._gate.rate(self._loop.time())

    @property
    def holding(self) -> bool:
        """Whether batches send nothing but probes, because nobody answers."""
        return self._outage.holding

    def closed_for(self) -> float:
        """Seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._gate.not_before - self._loop.time())

    def silent_for(self) -> float:
        """Seconds for which nobody has answered; 0 while no outage holds batches back."""
        since = self._outage.since
        return self._loop.time() - since if self.holding and since is not None else 0.0

    async def admit(self, scope: Scope, until: float | None = None) -> bool:
        """Wait for a permit, which `release` gives back.

        Args:
            scope: The scope that the call belongs to. In an outage, the permit of a batch's call
                is one for a probe.
            until: When waiting is no use any more, by the event loop's clock. If the gate is to
                stay closed longer than that, the wait ends before it begins.

        Returns:
            Whether there is a permit. There is none once the scope is stopped or the time is up.
        """
        if scope.stopped is not None:
            return False
        if not self._queue and self._may_start(self._loop.time(), in_batch=scope.in_batch):
            return True
        if until is not None and self._gate.next_start() > until:
            return False
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._queue[turn] = scope.in_batch
        self._pump()
        admitted = False
        try:
            admitted = await scope.wait(turn, until)
        finally:
            self._queue.pop(turn, None)
            if not self._queue:
                self._pump()  # which stops the timer: there is nobody left to wake
            # Granted in the very turn in which the call was cancelled, or its scope stopped.
            if not admitted and turn.done() and not turn.cancelled() and turn.result():
                self.release()
        return admitted

    def release(self) -> None:
        """Give a permit back."""
        self.in_flight -= 1
        self._pump()

    def learn(
        self, found: Done | Fault, *, status: int | None, started: float, probe: bool
    ) -> list[Event]:
        """Learn from what an attempt brought. Do so before its permit is given back.

        Args:
            found: What it brought.
            status: The answer's HTTP status code; `None` if no answer arrived.
            started: When its request started, by the event loop's clock.
            probe: Whether it was an outage's probe, which says nothing about concurrency.

        Returns:
            What changed.
        """
        now = self._loop.time()
        changes: list[Event] = []
        error = None if isinstance(found, Done) else found.error
        if status is not None:
            news = self._gate.answered(
                now,
                started=started,
                others=self.in_flight - 1,
                status=status,
                hint=found.hint,
                rnd=random.random(),  # noqa: S311 (jitter is no secret)
            )
            if news.closed:
                changes.append(CoolDownEntered(at=now, seconds=self.closed_for()))
            if news.paced:
                changes.append(PaceChanged(at=now, rate=self.pace))
        if error is None:
            self._concurrency.succeeded(self.in_flight, started=started, now=now)
        elif not probe and (
            status in THROTTLING or isinstance(error, AttemptTimeoutError | ConnectError)
        ):
            self._concurrency.overloaded(started=started, now=now)
        silent_for = self.silent_for()
        if error is None or (status is not None and not error.retryable):
            if self._outage.answered(now):
                self._concurrency.restart()
                changes.append(OutageLeft(at=now, seconds=silent_for))
        elif not isinstance(error, _NEITHER) and self._outage.failed(started=started, now=now):
            changes.append(OutageEntered(at=now, seconds=self.silent_for()))
        return changes

    def _may_start(self, now: float, *, in_batch: bool) -> bool:
        """Take a permit if one is to be had now."""
        if self.in_flight >= self._concurrency.limit or self._gate.next_start() > now:
            return False
        if in_batch and self._outage.holding:
            if not self._outage.may_probe(now):
                return False
            self._outage.probe_started(now, random.random())  # noqa: S311 (jitter is no secret)
        self._gate.started(now)
        self.in_flight += 1
        return True

    def _pump(self) -> None:
        """Serve those who wait, as far as it goes, and come back when more is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue:
            return
        now = self._loop.time()
        served: list[asyncio.Future[bool]] = []
        for turn, in_batch in self._queue.items():
            if turn.done():  # its scope was stopped; it has not run since
                continue
            if self._may_start(now, in_batch=in_batch):
                served.append(turn)
            elif not self.holding:
                break  # in a hold, a single call further back may start all the same
        for turn in served:
            del self._queue[turn]
            turn.set_result(True)
        if self._queue and self.in_flight < self._concurrency.limit:
            due = self._gate.next_start()
            if self.holding and all(self._queue.values()):
                due = max(due, self._outage.next_probe)
            self._timer = self._loop.call_at(due, self._pump)


_NEITHER = (DeadlineExceededError, MismatchedCallError, RateLimitedError)
"""Failures that say neither that the server is away nor that it is well: it lives but refuses, it
answers somebody else, or the call had no time left to find out."""
