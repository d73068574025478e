"""The throttle: asyncio's thin wrapper around the pure gate, and the permits.

The rule: a request starts when there is a permit, the gate is open and the pace allows it, and
those who wait are served in the order in which they came. Decisions are made synchronously in
`_pump`; nobody awaits with a half-made one in hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calls_async._gate import Gate

if TYPE_CHECKING:
    import asyncio

    from calls_async._scope import Scope
    from calls_async.config import Limits


class Throttle:
    """Hands out the permits of one client, at the pace that its gate allows.

    Args:
        limits: The client's limits.
        max_cool_down: The longest silence in seconds that an answer can bring about.
        loop: The client's event loop, whose clock is the only one used.
    """

    def __init__(
        self, limits: Limits, *, max_cool_down: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._gate = Gate(max_rate=limits.max_rate, max_cool_down=max_cool_down)
        self._limit = limits.max_concurrency
        # A dict is an ordered set: first come, first served, and leaving early costs nothing.
        self._queue: dict[asyncio.Future[bool], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0
        """Permits that are out."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit or for the gate."""
        return len(self._queue)

    def closed_for(self) -> float:
        """Seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._gate.not_before - self._loop.time())

    async def admit(self, scope: Scope, until: float | None = None) -> bool:
        """Wait for a permit, which `release` gives back.

        Args:
            scope: The scope that the call belongs to.
            until: When waiting is no use any more, by the event loop's clock. If the gate is to
                stay closed longer than that, the wait ends before it begins.

        Returns:
            Whether there is a permit. There is none once the scope is stopped or the time is up.
        """
        if scope.stopped is not None:
            return False
        if not self._queue and self._may_start(self._loop.time()):
            return True
        if until is not None and self._gate.next_start() > until:
            return False
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._queue[turn] = None
        self._pump()
        admitted = False
        try:
            admitted = await scope.wait(turn, until)
        finally:
            self._queue.pop(turn, None)
            # Granted in the very turn in which the call was cancelled, or its scope stopped.
            if not admitted and turn.done() and not turn.cancelled() and turn.result():
                self.release()
        return admitted

    def release(self) -> None:
        """Give a permit back."""
        self.in_flight -= 1
        self._pump()

    def cool_down(self, seconds: float) -> bool:
        """Close the gate for everyone, for `seconds` from now on; whether it was open before."""
        return self._gate.cool_down(self._loop.time(), seconds)

    def _may_start(self, now: float) -> bool:
        """Take a permit if one is to be had now."""
        if self.in_flight >= self._limit or self._gate.next_start() > now:
            return False
        self._gate.started(now)
        self.in_flight += 1
        return True

    def _pump(self) -> None:
        """Serve those who wait, as far as permits and the gate allow, and come back when due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            turn = next(iter(self._queue))
            if turn.done():  # its scope was stopped; it has not run since
                del self._queue[turn]
            elif self._may_start(self._loop.time()):
                del self._queue[turn]
                turn.set_result(True)
            else:
                break
        if self._queue and self.in_flight < self._limit:
            self._timer = self._loop.call_at(self._gate.next_start(), self._pump)
