"""The throttle: asyncio's thin wrapper around what the client knows of the server, and the permits.

The rule: a request starts when there is a permit, the gate is open, the pace allows it, no outage
holds it back and, if it is a batch's retry, it is paid for; in a fleet that shares its pace, when
there is a slot for it as well. Those who wait are served in the order in which they came. Every
decision is a pure class's, and is made synchronously; nobody awaits with a half-made one in hand.
"""

from __future__ import annotations

import random
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import attrs

from calls_async._budget import CAPACITY, RetryBudget
from calls_async._concurrency import Concurrency
from calls_async._gate import THROTTLING, Gate
from calls_async._headers import NO_HINT
from calls_async._hedge import Hedge
from calls_async._outage import Outage
from calls_async._slots import Slots
from calls_async._verdict import Done
from calls_async.errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectError,
    DeadlineExceededError,
    MismatchedCallError,
    RateLimitedError,
    TLSError,
)
from calls_async.events import (
    CoolDownEntered,
    Event,
    OutageEntered,
    OutageLeft,
    PaceChanged,
    WaitReason,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from calls_async._headers import Hint
    from calls_async._scope import Scope
    from calls_async._verdict import Fault
    from calls_async.config import Limits
    from calls_async.errors import CallsError
    from calls_async.fleet import FleetPace


class Permit(NamedTuple):
    """Leave to send one request.

    Attributes:
        at: When it was granted, by the event loop's clock. The request starts a little later, and
            what is learnt in between is no news to it.
        probe: Whether the request is an outage's probe.
        hedge: Whether it is the rival of one that is late.
        earns: Tokens that it earns for the retry budget if it succeeds; `None`: what a first try
            earns.
    """

    at: float
    probe: bool = False
    hedge: bool = False
    earns: int | None = None


@attrs.frozen
class _Claim:
    """What somebody waits for.

    Attributes:
        scope: Whose it is. An outage holds a batch's claims back.
        owes: What is still to be paid for: the retry of a batch's call after a throttled answer
            (true) or after another failure (false); `None` if there is nothing to pay.
        paid: What a single call has paid already.
    """

    scope: Scope
    owes: bool | None
    paid: int | None


class Throttle:
    """Hands out the permits of one client, as the server can take them.

    Args:
        limits: The client's limits.
        max_cool_down: The longest silence in seconds that an answer can bring about.
        loop: The client's event loop, whose clock is the only one used.
        pace: What hands out the starts of the fleet that the client belongs to; `None`: it is
            alone.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        max_cool_down: float,
        loop: asyncio.AbstractEventLoop,
        pace: FleetPace | None = None,
    ) -> None:
        self.budget = RetryBudget()
        """What retries are paid from."""
        self.hedge = None if limits.hedge is None else Hedge(limits.hedge)
        """When a request is late, and whether it may have a rival; `None`: none ever has."""
        self.in_flight = 0
        """Permits that are out."""
        self._loop = loop
        self._gate = Gate(
            max_rate=limits.max_rate, max_cool_down=max_cool_down, in_fleet=pace is not None
        )
        self._slots: Slots | None = None
        if pace is not None:
            self._slots = Slots(pace, loop=loop, ready=self._pump, troubled=self._trouble)
        self._concurrency = Concurrency(limits.max_concurrency, self._measure_lag)
        self._outage = Outage()
        # Who waits, and for what. A dict is an ordered set: first come, first served, and leaving
        # early costs nothing.
        self._queue: dict[asyncio.Future[Permit | None], _Claim] = {}
        self._owing = 0  # of these, those that are to be paid for
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit, for the gate, or for the end of an outage."""
        return len(self._queue)

    def spare(self) -> int:
        """Permits that nobody has or waits for; less than 0 if somebody waits for one.

        Retries do not count as waiting: the budget may keep them from using a permit. While the
        gate is not free, nobody does: there had better be somebody for each start that the pace
        offers, or it is the number of workers that is measured, and not the server.
        """
        if not self._gate.is_free:
            return self._concurrency.limit
        if self._queue and (waiting := len(self._queue) - self._owing):
            return -waiting
        return self._concurrency.limit - self.in_flight

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
        """Seconds until the gate opens, or the fleet starts again; 0 when it is open."""
        until = self._gate.not_before
        if self._slots is not None:
            until = max(until, self._slots.not_before)
        return max(0.0, until - self._loop.time())

    @property
    def unpaced(self) -> CallsError | None:
        """Why the fleet's pace gives no slots; `None` if it does, or there is none."""
        return None if self._slots is None else self._slots.problem

    async def close(self) -> None:
        """Give back what the fleet's pace holds open. The scopes were stopped before."""
        if self._slots is not None:
            await self._slots.close()

    def silent_for(self) -> float:
        """Seconds for which nobody has answered; 0 while no outage holds batches back."""
        since = self._outage.since
        return self._loop.time() - since if self.holding and since is not None else 0.0

    def take(self, scope: Scope) -> bool:
        """Take a permit for a first try, if nothing at all stands against it; else see `admit`."""
        if (
            self._queue
            or not self._gate.is_free
            or self.in_flight >= self._concurrency.limit
            or self._outage.holding
            or scope.closing is not None
        ):
            return False
        self.in_flight += 1
        return True

    def carry_on(self, scope: Scope, hint: Hint, started: float, now: float) -> bool:
        """Learn from a first try's record, and have its permit kept for another one.

        Args:
            scope: What both are part of.
            hint: What the answer says about sending more.
            started: When the request was sent, by the event loop's clock.
            now: The time, by the same clock.

        Returns:
            Whether the permit may be kept: nothing at all stands against it.
        """
        self.learn_record(hint, started, now)
        return not (
            self._queue
            or not self._gate.is_free
            or self.in_flight > self._concurrency.limit
            or self._outage.holding
            or scope.closing is not None
        )

    def admit_at_once(self, scope: Scope) -> Permit | None:
        """What `take` takes, as a permit that knows its time."""
        return Permit(self._loop.time()) if self.take(scope) else None

    async def admit(
        self,
        scope: Scope,
        until: float | None = None,
        *,
        owes: bool | None = None,
        paid: int | None = None,
        on_wait: Callable[[WaitReason], object] | None = None,
    ) -> Permit | None:
        """Wait for a permit, which `release` gives back.

        Args:
            scope: The scope that the call belongs to. In an outage, the permit of a batch's call
                is one for a probe.
            until: When waiting is no use any more, by the event loop's clock. If the gate is to
                stay closed longer than that, the wait ends before it begins.
            owes: For the retry of a batch's call, whether it follows on a throttled answer. It is
                paid for when it is admitted, so that waiting costs nothing; while the budget is
                empty, others overtake it.
            paid: For the retry of a single call, what the budget took for it.
            on_wait: Called if there is something to wait for, before that begins.

        Returns:
            The permit. There is none once the scope is stopped or the time is up.
        """
        if scope.stopped is not None:
            return None
        claim = _Claim(scope, owes, paid)
        if not self._queue:
            now = self._loop.time()
            if self._is_open(now) and (permit := self._granted(now, claim)) is not None:
                return permit
        if until is not None and self._earliest() > until:
            return None
        turn: asyncio.Future[Permit | None] = self._loop.create_future()
        self._queue[turn] = claim
        self._owing += owes is not None
        self._pump()
        permit = None
        try:
            if on_wait is not None and not turn.done():
                on_wait(self._obstacle(self._loop.time(), claim))
            permit = await scope.wait(turn, until)
        finally:
            self._leave(turn)
            if not self._queue:
                self._pump()  # which stops the timer: there is nobody left to wake
                if self._slots is not None:
                    self._slots.rest()
            # Granted in the very turn in which the call was cancelled, or its scope stopped.
            if permit is None and turn.done() and not turn.cancelled() and turn.result():
                self.release()
        return permit

    def admit_hedge(self) -> Permit | None:
        """A permit for a second request, if nobody else waits for one and it can be paid for."""
        now = self._loop.time()
        if self.hedge is None or self._queue or self.holding or not self._is_open(now):
            return None
        if not self.hedge.take() or (cost := self.budget.take(throttled=False)) is None:
            return None
        return self._start(now, hedge=True, earns=cost)

    def release(self) -> None:
        """Give a permit back."""
        self.in_flight -= 1
        if self._queue:
            self._pump()

    def learn_record(
        self, hint: Hint, started: float, now: float, earns: int | None = None
    ) -> Sequence[Event]:
        """Learn from a record. Do so before its permit is given back.

        Args:
            hint: What the answer says about sending more.
            started: When the request's permit was granted, by the event loop's clock.
            now: The time, by the same clock.
            earns: What its permit earns.

        Returns:
            What changed.
        """
        gate, outage = self._gate, self._outage
        if self.budget.level < CAPACITY:
            self.budget.refund(earns)
        self._concurrency.succeeded(self.in_flight, started, now)
        if hint is NO_HINT and gate.is_free and not outage.holding:
            gate.accepted(now, started)
            outage.answered(now)
            return ()
        changes: list[Event] = []
        self._hear(now, started, HTTPStatus.OK, hint, changes)
        self._answered(now, changes)
        return changes

    def learn(self, brought: Done | Fault, permit: Permit) -> Sequence[Event]:
        """Learn from what a request brought. Do so before its permit is given back.

        Args:
            brought: What it brought.
            permit: What it was sent with. A probe says nothing about concurrency.

        Returns:
            What changed.
        """
        now, started = self._loop.time(), permit.at
        if isinstance(brought, Done):
            return self.learn_record(brought.hint, started, now, permit.earns)
        changes: list[Event] = []
        status, error = brought.status, brought.error
        if status is not None:
            self._hear(now, started, status, brought.hint, changes)
        if status is not None and not error.retryable:
            self._concurrency.succeeded(self.in_flight, started, now)
            self._answered(now, changes)
            return changes
        overloaded = status in THROTTLING or isinstance(error, AttemptTimeoutError | ConnectError)
        if overloaded and not permit.probe:
            self._concurrency.overloaded(started=started, now=now)
        if not isinstance(error, _NEITHER) and self._outage.failed(
            started=started, now=now, lasting=isinstance(error, TLSError)
        ):
            changes.append(OutageEntered(at=now, seconds=self.silent_for()))
        return changes

    def _measure_lag(self) -> None:
        """Find out how long a turn of the event loop takes."""
        asked, time = self._loop.time(), self._loop.time
        self._loop.call_soon(lambda: self._concurrency.lagged(time() - asked))

    def _hear(
        self, now: float, started: float, status: int, hint: Hint, changes: list[Event]
    ) -> None:
        """Hear what an answer says about sending more."""
        news = self._gate.answered(
            now,
            started=started,
            others=self.in_flight - 1,
            status=status,
            hint=hint,
            rnd=random.random(),  # noqa: S311 (jitter is no secret)
        )
        if news.closed:
            changes.append(CoolDownEntered(at=now, seconds=self.closed_for()))
        if news.paced:
            changes.append(PaceChanged(at=now, rate=self.pace))
        if self._slots is not None:
            self._slots.park(self._gate.not_before)

    def _answered(self, now: float, changes: list[Event]) -> None:
        """Somebody is at home."""
        silent_for = self.silent_for() if self.holding else 0.0
        if self._outage.answered(now):
            self._concurrency.restart()
            changes.append(OutageLeft(at=now, seconds=silent_for))

    def _is_open(self, now: float) -> bool:
        """Whether anybody may start now."""
        gate = self._gate
        return self.in_flight < self._concurrency.limit and (
            gate.is_free
            or (
                gate.next_start() <= now
                and (self._slots is None or self._slots.next_start(now) <= now)
            )
        )

    def _earliest(self) -> float:
        """Before when nobody starts."""
        start = self._gate.next_start()
        return start if self._slots is None else max(start, self._slots.earliest(self._loop.time()))

    def _obstacle(self, now: float, claim: _Claim) -> WaitReason:
        """What stands against a claim that was not granted."""
        if claim.scope.in_batch and self.holding:
            return WaitReason.OUTAGE
        if self.closed_for():
            return WaitReason.COOL_DOWN
        if self.in_flight >= self._concurrency.limit:
            return WaitReason.CONCURRENCY
        if claim.owes is not None and self.budget.ready_at(throttled=claim.owes) > now:
            return WaitReason.BUDGET
        return WaitReason.PACE

    def _granted(self, now: float, claim: _Claim) -> Permit | None:
        """A permit, unless an outage or an empty budget stands against this claim."""
        held = claim.scope.in_batch and self.holding
        if held and not self._outage.may_probe(now):
            return None
        earns = claim.paid
        if claim.owes is not None:
            earns = self.budget.grant(now, throttled=claim.owes)
            if earns is None:
                return None
        if held:
            self._outage.probe_started(now, random.random())  # noqa: S311 (jitter is no secret)
        return self._start(now, probe=held, earns=earns)

    def _start(
        self, now: float, *, probe: bool = False, hedge: bool = False, earns: int | None = None
    ) -> Permit:
        if not self._gate.is_free:
            self._gate.started(now)
            if self._slots is not None:
                self._slots.started()
        self.in_flight += 1
        return Permit(now, probe, hedge, earns)

    def _pump(self) -> None:
        """Serve those who wait, as far as it goes, and come back when more is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue:
            return
        now = self._loop.time()
        served: list[tuple[asyncio.Future[Permit | None], Permit]] = []
        for turn, claim in self._queue.items():
            if not self._is_open(now):
                break
            # One that is done was stopped with its scope, and has not run since.
            if not turn.done() and (permit := self._granted(now, claim)) is not None:
                served.append((turn, permit))
        for turn, permit in served:
            self._leave(turn)
            turn.set_result(permit)
        if self._queue and self.in_flight < self._concurrency.limit:
            due = max(self._gate.next_start(), self._first_ready())
            if self._slots is None or (due := self._with_slot(now, due, self._slots)) < inf:
                self._timer = self._loop.call_at(due, self._pump)

    def _with_slot(self, now: float, due: float, slots: Slots) -> float:
        """When somebody who may start at `due` has a slot too; infinity: when more were given."""
        if due > now:
            # No slot is asked for that could not be used yet: the fleet would lose it.
            return due
        one_by_one = self.holding or self._gate.rate(now) is not None
        able = min(len(self._queue), self._concurrency.limit - self.in_flight)
        slots.want(1 if one_by_one else able, now)
        return slots.next_start(now)

    def _trouble(self, problem: CallsError, seconds: float) -> None:
        """Tell all who wait that the fleet's pace gives nothing, for so many seconds at least."""
        for scope in {claim.scope for claim in self._queue.values()}:
            if isinstance(problem, ConfigurationError):
                scope.refused(problem)
            else:
                scope.failed(problem, seconds)

    def _leave(self, turn: asyncio.Future[Permit | None]) -> None:
        claim = self._queue.pop(turn, None)
        if claim is not None:
            self._owing -= claim.owes is not None

    def _first_ready(self) -> float:
        """When outage and budget let the first of those who wait start."""
        first = inf
        for claim in self._queue.values():
            ready = -inf
            if claim.scope.in_batch and self.holding:
                ready = self._outage.next_probe
            if claim.owes is not None:
                ready = max(ready, self.budget.ready_at(throttled=claim.owes))
            first = min(first, ready)
            if first == -inf:
                break
        return first


_NEITHER = (DeadlineExceededError, MismatchedCallError, RateLimitedError)
"""Failures that say neither that the server is away nor that it is well: it lives but refuses, it
answers somebody else, or the call had no time left to find out."""
