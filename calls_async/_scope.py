"""What is called off together; the rule: a stopped scope lets nobody in it wait any longer.

A client is a scope, and each batch is a scope inside it. Every wait of a call (for a permit, for
the gate, for its backoff) goes through its scope, so that closing the client or a refused key ends
all of them in the same turn of the event loop, without cancelling anybody's task.

A scope may also be shut before it is stopped: no further call begins, and those under way go on.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from calls_async._deadlines import Deadlines
from calls_async.errors import CallsError, StoppedBy, amended

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from calls_async._deadlines import Limited

T = TypeVar("T")


class Scope:
    """A client's or a batch's calls, as far as calling them off goes.

    Args:
        parent: The scope that this one ends with.
    """

    in_batch: ClassVar[bool] = False
    """Whether the calls are a batch's, which has patience, and holds while nobody answers."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.stopped: CallsError | None = None
        """Why, once the scope is stopped; its calls fail with the like of it."""
        self.closing: CallsError | None = None
        """Why no further call begins, once the scope is shut or stopped."""
        self.aborted = False
        """Whether requests in flight were ended as well."""
        self._parent = parent
        self._children: set[Scope] = set()
        self._waits: set[asyncio.Future[Any]] = set()
        self._requests = Deadlines()
        self.begin_request = self._requests.begin
        self.end_request = self._requests.end
        """What `request` does on the way in and out, for a call that has just got its permit."""
        self.renew_request = self._requests.renew
        """For the next call of a relay, whose time begins anew."""
        self._pulls: set[asyncio.Timeout] = set()
        self._questions: set[asyncio.Timeout] = set()
        self._under_way = 0
        self._watchers: set[asyncio.Future[None]] = set()
        if parent is not None:
            self.stopped = parent.stopped
            self.closing = parent.closing
            parent._children.add(self)  # noqa: SLF001 (the same class)

    def stop(self, error: CallsError, *, abort: bool = False) -> None:
        """End every wait in this scope and below; the first reason stays.

        Args:
            error: The reason.
            abort: End the requests in flight as well, instead of letting them finish.
        """
        self.stopped = self.stopped or error
        self.closing = self.closing or error
        for wait in self._waits:
            _settle(wait, None)
        self.aborted = self.aborted or abort
        _end(self._pulls)
        _end(self._questions)
        if abort:
            self._requests.end_all()
        for child in self._children:
            child.stop(error, abort=abort)

    def shut(self, error: CallsError) -> None:
        """Let no further call begin in this scope and below; those under way go on.

        Args:
            error: The reason, with which calls fail that come too late.
        """
        self.closing = self.closing or error
        _end(self._pulls)
        for child in self._children:
            child.shut(error)

    @property
    def busy(self) -> bool:
        """Whether a call is under way in this scope or below."""
        return self._under_way > 0 or any(child.busy for child in self._children)

    async def news(self, until: float) -> None:
        """Wait until the last call under way has ended, or one has failed; for who has shut it.

        Args:
            until: When to stop waiting, by the event loop's clock.
        """
        loop = asyncio.get_running_loop()
        wait: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(until, _settle, wait, None)
        self._watchers.add(wait)
        try:
            await wait
        finally:
            self._watchers.discard(wait)
            timer.cancel()

    def leave(self) -> None:
        """Take a scope whose calls are all over off its parent's hands."""
        self._requests.end_all()
        if self._parent is not None:
            self._parent._children.discard(self)  # noqa: SLF001 (the same class)

    def began(self) -> None:
        """Note that one more of the scope's calls is under way."""
        self._under_way += 1

    def ended(self) -> None:
        """Note that a call has its outcome, or was cancelled."""
        self._under_way -= 1
        if not self._under_way:
            self._stir()

    def answered(self, now: float | None = None) -> None:
        """Note that the server gave a final answer to one of the scope's calls.

        Args:
            now: The time, by the event loop's clock, for who knows it.
        """

    def failed(self, error: CallsError, silence: float) -> None:  # noqa: ARG002 (see the batch's)
        """Note a failed attempt, and for how many seconds the server asked for silence."""
        self._stir()

    def refused(self, error: CallsError) -> None:
        """Note that there is no key that the server accepts."""

    async def wait(self, wait: asyncio.Future[T | None], until: float | None = None) -> T | None:
        """Await `wait`, unless the scope is stopped or the time has come.

        Args:
            wait: A future whose result somebody sets.
            until: When to stop waiting, by the event loop's clock.

        Returns:
            The result; `None` if the scope was stopped before this wait could go on.
        """
        if self.stopped is not None:
            _settle(wait, None)
        timer = None
        if until is not None:
            timer = wait.get_loop().call_at(until, _settle, wait, None)
        self._waits.add(wait)
        try:
            result = await wait
            return result if self.stopped is None else None
        finally:
            self._waits.discard(wait)
            if timer is not None:
                timer.cancel()

    async def sleep(self, seconds: float) -> bool:
        """Sleep, unless the scope is stopped; whether the time was slept out."""
        loop = asyncio.get_running_loop()
        wait: asyncio.Future[bool | None] = loop.create_future()
        timer = loop.call_later(seconds, _settle, wait, True)  # noqa: FBT003 (a future's result)
        try:
            return await self.wait(wait) is not None
        finally:
            timer.cancel()

    def request(self, until: float) -> Limited:
        """A request in flight: its time, or `stop(abort=True)`, ends it with a `TimeoutError`.

        Args:
            until: When its time is over, by the event loop's clock.

        Raises:
            TimeoutError: The requests of this scope were ended before this one began.
        """
        if self.aborted:
            raise TimeoutError
        return self._requests.limit(until)

    def pull(self, timeout: asyncio.Timeout) -> AbstractContextManager[None]:
        """A wait for the caller's next id, which `timeout` times: `shut` and `stop` end it."""
        return _listed(self._pulls, timeout)

    def question(self, timeout: asyncio.Timeout) -> AbstractContextManager[None]:
        """A wait for the caller's own answer to a call under way: `stop` ends it."""
        return _listed(self._questions, timeout)

    def _stir(self) -> None:
        """Tell those who wait for news."""
        if self.closing is None:
            return
        for wait in self._watchers:
            _settle(wait, None)
        if self._parent is not None:
            self._parent._stir()  # noqa: SLF001 (the same class)


def _nothing() -> None:
    """Nobody stands in for a call that sleeps."""


class Batch(Scope):
    """The calls of one gather or stream, which share their patience.

    The batch gives up when an attempt fails and no call had a final answer for `patience` seconds,
    or as soon as the server's wish for silence makes that certain. What was not sent by then is not
    sent. While no call is under way, because the source or the consumer takes its time, patience
    does not run: the server cannot be blamed.

    Args:
        parent: The client's scope.
        patience: Seconds.
        on_sleep: Called whenever one of the calls begins to sleep.
    """

    in_batch: ClassVar[bool] = True

    def __init__(
        self, parent: Scope, *, patience: float, on_sleep: Callable[[], None] = _nothing
    ) -> None:
        super().__init__(parent)
        self._on_sleep = on_sleep
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._since = self._idle_since = self._loop.time()

    def leave(self) -> None:
        """See `Scope.leave`."""
        super().leave()
        self._on_sleep = _nothing  # or a batch and its workers would keep each other, and records

    async def sleep(self, seconds: float) -> bool:
        """See `Scope.sleep`."""
        self._on_sleep()
        return await super().sleep(seconds)

    def began(self) -> None:
        """Patience goes on where it stood when the last call ended."""
        # It does not begin anew: while a batch holds there may be one worker alone, and between
        # two of its ids there is always a moment in which nothing is under way.
        if not self._under_way:
            self._since += self._loop.time() - self._idle_since
        self._under_way += 1

    def ended(self) -> None:
        """See `began`."""
        self._under_way -= 1
        if not self._under_way:
            self._idle_since = self._loop.time()
            self._stir()

    def answered(self, now: float | None = None) -> None:
        """Patience begins anew."""
        self._since = self._loop.time() if now is None else now

    def failed(self, error: CallsError, silence: float) -> None:
        """Give up if the silence asked for is longer than patience lasts."""
        if self._loop.time() + silence > self._since + self._patience:
            self.stop(
                amended(
                    error,
                    call_id=None,
                    attempts=0,
                    elapsed=self._patience,
                    stopped_by=StoppedBy.PATIENCE,
                )
            )
        self._stir()

    def refused(self, error: CallsError) -> None:
        """Give up: the rest would be refused as well."""
        self.stop(error)


def _end(timeouts: set[asyncio.Timeout]) -> None:
    for timeout in timeouts:
        if not timeout.expired():  # else it is ending already
            timeout.reschedule(asyncio.get_running_loop().time())


@contextmanager
def _listed(timeouts: set[asyncio.Timeout], timeout: asyncio.Timeout) -> Generator[None]:
    timeouts.add(timeout)
    try:
        yield
    finally:
        timeouts.discard(timeout)


def _settle(wait: asyncio.Future[T], result: T) -> None:
    if not wait.done():
        wait.set_result(result)
