"""One attempt; the rule: what it brought is learnt from before its permit goes back.

So when the server asks one request for silence, nobody slips through in between. An attempt is one
request, or two: with `Limits(hedge=...)` a request that is late gets a rival, if the client can
afford one. The first of them that settles the call wins, and the other is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import attrs

from calls_async import events
from calls_async._verdict import Done, Fault, assess
from calls_async.errors import CallsError, ConnectError, TLSError

if TYPE_CHECKING:
    from collections.abc import Callable

    from calls_async._hedge import Hedge
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._telling import Teller
    from calls_async._throttle import Permit, Throttle
    from calls_async._transport import Transport
    from calls_async._wire import Answer


@attrs.define
class Counters:
    """What a client has done so far; see `Statistics` for their base."""

    fetched: int = 0
    failed: int = 0
    requests: int = 0
    retries: int = 0
    hedges: int = 0
    throttled: int = 0


@attrs.frozen(kw_only=True)
class Line:
    """The way to the server, and what all attempts of a client share on it."""

    transport: Transport
    throttle: Throttle
    counters: Counters
    tell: Teller
    loop: asyncio.AbstractEventLoop


@attrs.define(kw_only=True)
class Attempt:
    """What is asked for, and until when.

    Attributes:
        call_id: The id.
        number: How many requests were sent for it so far; each one that is sent raises it.
        key: The key that it carries.
        scope: What it is ended with.
        until: When it has to be over, by the event loop's clock.
        late: Makes the error for when it is not.
        fresh: Whether it must not use a connection that has carried an answer.
    """

    call_id: str
    number: int
    key: ApiKey
    scope: Scope
    until: float
    late: Callable[[], CallsError]
    fresh: bool


@attrs.define
class Found:
    """What an attempt brought: a record or a fault, and the answer's status if there was one."""

    what: Done | Fault
    status: int | None

    @property
    def settles(self) -> bool:
        """Whether another request could bring nothing better."""
        return isinstance(self.what, Done) or not self.what.error.retryable


async def carry_out(line: Line, attempt: Attempt, permit: Permit) -> Found | None:
    """Send the request, and read its answer. The permit is given back, however this ends.

    Returns:
        What it brought; `None` if the scope ended it.
    """
    hedge = line.throttle.hedge
    if hedge is not None and not permit.probe and not attempt.fresh:
        return await _raced(line, attempt, permit, hedge)
    try:
        return await _requested(line, attempt, permit)
    finally:
        line.throttle.release()


async def _requested(line: Line, attempt: Attempt, permit: Permit) -> Found | None:
    """One request, from its start to what is learnt from it."""
    counters = line.counters
    attempt.number += 1
    number = attempt.number
    again = number > 1 and not permit.hedge
    counters.requests += 1
    counters.retries += again
    started = line.loop.time()
    if line.tell:
        line.tell(
            events.AttemptStarted(
                at=started, call_id=attempt.call_id, attempt=number, hedge=permit.hedge
            )
        )
    came: Answer | CallsError
    try:
        async with asyncio.timeout_at(attempt.until) as timeout:
            with attempt.scope.request(timeout):
                came = await line.transport.get(attempt.call_id, attempt.key, fresh=attempt.fresh)
    except TimeoutError:
        if attempt.scope.aborted:
            return None
        came = attempt.late()
    if isinstance(came, ConnectError | TLSError):
        # It never got as far as the wire.
        counters.requests -= 1
        counters.retries -= again
    what = assess(attempt.call_id, came, now=time.time(), scrub=attempt.key.scrub)
    status = None if isinstance(came, CallsError) else came.status
    changes = line.throttle.learn(what, status=status, started=started, permit=permit)
    if line.tell:
        now = line.loop.time()
        line.tell(
            events.AttemptFinished(
                at=now,
                call_id=attempt.call_id,
                attempt=number,
                duration=now - started,
                status=status,
                error=what.error if isinstance(what, Fault) else None,
            )
        )
        for change in changes:
            line.tell(change)
    return Found(what, status)


async def _raced(line: Line, attempt: Attempt, permit: Permit, hedge: Hedge) -> Found | None:
    """One request and, when it is late and a hedge can be afforded, its rival."""
    throttle, loop = line.throttle, line.loop
    began = loop.time()
    if attempt.number == 0:
        hedge.started()
    requests: set[asyncio.Task[Found | None]] = set()

    def send(permit: Permit) -> None:
        request = loop.create_task(_requested(line, attempt, permit))
        # A task that is cancelled before it begins never gets to a `finally` of its own.
        request.add_done_callback(lambda _: throttle.release())
        requests.add(request)

    send(permit)
    try:
        await asyncio.wait(requests, timeout=hedge.delay())
        if not any(request.done() for request in requests):
            rival = throttle.admit_hedge()
            if rival is not None:
                line.counters.hedges += 1
                send(rival)
        found = await _first_settled(requests)
    finally:
        losers = [request for request in requests if not request.done()]
        for loser in losers:
            loser.cancel()
        if losers:
            await asyncio.wait(losers)
    if found is not None and isinstance(found.what, Done):
        hedge.observed(loop.time() - began)
    return found


async def _first_settled(requests: set[asyncio.Task[Found | None]]) -> Found | None:
    """What the first request brought that settles the call; else what the last one brought."""
    pending = requests
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        brought = [request.result() for request in done]
        for found in brought:
            if found is None or found.settles:
                return found
        if not pending:
            return brought[0]
