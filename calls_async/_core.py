"""What a client and its children share; the rule: it belongs to one event loop of one process.

`with_options` gives a client of other options over the same connections, permits, credentials and
counters. All of them are here, with what they are closed by.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import attrs

from calls_async._attempt import Counters
from calls_async._budget import CAPACITY
from calls_async._concurrency import START
from calls_async._credentials import Credentials
from calls_async._scope import Batch, Scope
from calls_async._throttle import Throttle
from calls_async._transport import Transport, open_transport
from calls_async.errors import ClientClosedError, StoppedBy, WrongEventLoopError
from calls_async.events import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from calls_async._fetch import Fetcher
    from calls_async._relay import HandOn
    from calls_async.config import ClientConfig
    from calls_async.errors import CallsError
    from calls_async.outcomes import Outcome


class Core:
    """What a client and its `with_options` children share.

    Args:
        settings: The first client's configuration.
        transport: The way to the server.
    """

    def __init__(self, settings: ClientConfig, transport: Transport) -> None:
        self.transport = transport
        self.scope = Scope()
        self.credentials = Credentials(settings.source)
        self.counters = Counters()
        self._settings = settings
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._binding = threading.Lock()  # threads may use it for the first time at once
        self._throttle: Throttle | None = None

    def bind(self) -> Throttle:
        """Belong to the running event loop and this process, from the first use on.

        Raises:
            ClientClosedError: The client is closed.
            WrongEventLoopError: It belongs to another event loop or process.
        """
        if self.scope.closing is not None:
            raise ClientClosedError("the client is closed", stopped_by=StoppedBy.CLOSED)
        if self._throttle is None:
            with self._binding:
                if self._throttle is None:
                    self._throttle = self._bound(asyncio.get_running_loop())
        self.check_home()
        return self._throttle

    def _bound(self, loop: asyncio.AbstractEventLoop) -> Throttle:
        limits, retry = self._settings.limits, self._settings.retry
        self._home = (os.getpid(), loop)
        return Throttle(
            limits,
            max_cool_down=max(limits.patience, retry.max_server_wait),
            loop=loop,
            pace=self._settings.pace,
        )

    def check_home(self) -> None:
        """Make sure that this is where the client belongs.

        Raises:
            WrongEventLoopError: It belongs to another event loop or process.
        """
        if self._home is None:
            return
        process, loop = self._home
        # The process comes first: in the child of a fork asyncio knows no running loop.
        if process != os.getpid() or loop is not asyncio.get_running_loop():
            raise WrongEventLoopError(
                "the client belongs to another event loop, or to a parent process: make one for "
                "each, where it is used"
            )

    async def close(self, grace: float) -> None:
        """Let what is under way end in time, and end everything; what is closed stays so."""
        self.check_home()
        closed = ClientClosedError("the client was closed", stopped_by=StoppedBy.CLOSED)
        try:
            if grace and self._throttle is not None:
                await self._drain(self._throttle, grace, closed)
        finally:
            self.scope.stop(closed, abort=True)
            try:
                await self.transport.close()
            finally:
                if self._throttle is not None:
                    await self._throttle.close()

    async def _drain(self, throttle: Throttle, grace: float, closed: CallsError) -> None:
        """Begin no more, and wait until nothing is under way, or the time is over."""
        now = asyncio.get_running_loop().time
        until = now() + grace
        self.scope.shut(closed)
        while self.scope.busy and (left := until - now()) > 0:
            if throttle.closed_for() > left:
                self.scope.stop(closed)  # who waits waits in vain; what is on the wire may finish
            await self.scope.news(until)

    def statistics(self) -> Statistics:
        """What was done so far, and what goes on now."""
        throttle, limits = self._throttle, self._settings.limits
        return Statistics(
            **attrs.asdict(self.counters),
            transport=self.transport.name,
            in_flight=0 if throttle is None else throttle.in_flight,
            waiting=0 if throttle is None else throttle.waiting,
            cool_down=0.0 if throttle is None else throttle.closed_for(),
            pace=limits.max_rate if throttle is None else throttle.pace,
            concurrency=min(START, limits.max_concurrency)
            if throttle is None
            else throttle.concurrency,
            max_concurrency=limits.max_concurrency,
            budget=CAPACITY if throttle is None else throttle.budget.level,
            outage=0.0 if throttle is None else throttle.silent_for(),
        )


class Job(Batch):
    """One batch of a client: a scope that knows how to fetch in it.

    Args:
        core: The client's core.
        fetcher: What brings its ids to their outcomes.
        patience: See `Batch`.
        on_sleep: See `Batch`.
    """

    def __init__(
        self, core: Core, fetcher: Fetcher, *, patience: float, on_sleep: Callable[[], None]
    ) -> None:
        super().__init__(core.scope, patience=patience, on_sleep=on_sleep)
        self._relay = fetcher.relay
        self.spare = fetcher.line.throttle.spare
        self.check_home = core.check_home

    def fetch(
        self, call_id: str, index: int, hand_on: HandOn
    ) -> Coroutine[Any, Any, Outcome | None]:
        """Turn one id, and those that `hand_on` names, into outcomes; see `Fetcher.relay`."""
        return self._relay(call_id, index, self, hand_on)


def transport_of(settings: ClientConfig) -> Transport:
    """The way to the server that a configuration describes."""
    return open_transport(
        session=settings.session,
        base_url=settings.base_url,
        proxy=settings.proxy,
        trust_env=settings.trust_env,
        max_body_bytes=settings.limits.max_body_bytes,
        headers=settings.headers,
        user_agent=settings.user_agent,
        ssl=settings.ssl,
    )
