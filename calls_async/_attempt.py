"""One attempt; the rule: what it brought is learnt from before its permit goes back.

So when the server asks one request for silence, nobody slips through in between. An attempt is one
request, or two: with `Limits(hedge=...)` a request that is late gets a rival, if the client can
afford one. The first of them that settles the call wins, and the other is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import attrs

from calls_async import events
from calls_async._ids import path_segment
from calls_async._verdict import Done, Fault, assess, request_id_of
from calls_async._wire import Answer
from calls_async.errors import (
    AttemptTimeoutError,
    CallsError,
    ConnectError,
    DeadlineExceededError,
    TLSError,
)
from calls_async.outcomes import fetched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calls_async._hedge import Hedge
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._telling import Teller
    from calls_async._throttle import Permit, Throttle
    from calls_async._transport import Transport
    from calls_async.outcomes import Fetched

Brought: TypeAlias = Done | Fault | None
"""What an attempt brought: a record or a fault; `None` if its scope ended it."""


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
    """The way to the server, and what all attempts of a client share on it.

    Attributes:
        transport: Sends a request.
        throttle: Says when, and learns from what came back.
        counters: What was done so far.
        tell: Tells the hooks; `None` if there are none.
        loop: The event loop.
        calls_url: What an id, percent-encoded, is appended to; for those who are told.
    """

    transport: Transport
    throttle: Throttle
    counters: Counters
    tell: Teller | None
    loop: asyncio.AbstractEventLoop
    calls_url: str


@attrs.define
class Attempt:
    """What is asked for, and how long that may take.

    Attributes:
        call_id: The id.
        key: The key that it carries.
        scope: What it is ended with.
        most: Seconds for the attempt.
        total: Seconds for the whole call.
        left: Seconds of those that are left.
        number: How many requests were sent for the call so far; each one that is sent raises it.
        fresh: Whether it must not use a connection that has carried an answer.
        serial: The call's number, for those who are told.
        waited: Seconds that the call has waited for the permit.
    """

    call_id: str
    key: ApiKey
    scope: Scope
    most: float
    total: float
    left: float
    number: int = 0
    fresh: bool = False
    serial: int = 0
    waited: float = 0.0


def late(most: float, total: float, left: float) -> CallsError:
    """The error for an attempt that is not over in time.

    Args:
        most: Seconds for the attempt.
        total: Seconds for the whole call.
        left: Seconds of those that were left.
    """
    if left > most:
        return AttemptTimeoutError(f"no complete answer within {most:g} s")
    return DeadlineExceededError(f"no record within the {total:g} s for the whole call")


async def carry_out(line: Line, attempt: Attempt, permit: Permit) -> Brought:
    """Send the request, and read its answer. The permit is given back, however this ends."""
    until = permit.at + min(attempt.most, attempt.left)
    hedge = line.throttle.hedge
    if hedge is not None and not permit.probe and not attempt.fresh:
        return await _raced(line, attempt, permit, until, hedge)
    try:
        return await _requested(line, attempt, permit, until)
    finally:
        line.throttle.release()


async def _requested(line: Line, attempt: Attempt, permit: Permit, until: float) -> Brought:
    """One request, from its start to what is learnt from it."""
    counters, tell = line.counters, line.tell
    attempt.number = number = attempt.number + 1
    again = number > 1 and not permit.hedge
    counters.requests += 1
    counters.retries += again
    headers = None if tell is None else _told_of_start(tell, line, attempt, permit)
    came: Answer | CallsError
    try:
        with attempt.scope.request(until):
            came = await line.transport.get(
                attempt.call_id, attempt.key, headers, fresh=attempt.fresh
            )
    except TimeoutError:
        if attempt.scope.aborted:
            _tell_of_end(line, attempt, number, permit)
            return None
        came = late(attempt.most, attempt.total, attempt.left)
    except BaseException:
        _tell_of_end(line, attempt, number, permit)
        raise
    brought = read(attempt.call_id, attempt.key, came)
    changes = learnt(line, brought, permit, again=again)
    if tell is not None:
        now = line.loop.time()
        fault = brought if isinstance(brought, Fault) else None
        tell(
            events.AttemptFinished(
                at=now,
                call_id=attempt.call_id,
                attempt=number,
                duration=now - permit.at,
                status=HTTPStatus.OK if fault is None else fault.status,
                error=None if fault is None else fault.error,
                serial=attempt.serial,
            )
        )
        for change in changes:
            tell(change)
    return brought


def _told_of_start(
    tell: Teller, line: Line, attempt: Attempt, permit: Permit
) -> dict[str, str] | None:
    """Tell the hooks that a request is about to be sent; what they add to it."""
    started = events.AttemptStarted(
        at=permit.at,
        call_id=attempt.call_id,
        attempt=attempt.number,
        hedge=permit.hedge,
        serial=attempt.serial,
        url=line.calls_url + path_segment(attempt.call_id),
        waited=0.0 if permit.hedge else attempt.waited,
    )
    tell(started)
    return tell.headers_for(started)


def _tell_of_end(line: Line, attempt: Attempt, number: int, permit: Permit) -> None:
    """Tell the hooks that a request is given up."""
    if line.tell is not None:
        now = line.loop.time()
        line.tell(
            events.AttemptCancelled(
                at=now,
                call_id=attempt.call_id,
                attempt=number,
                duration=now - permit.at,
                serial=attempt.serial,
            )
        )


def read(call_id: str, key: ApiKey, came: Answer | CallsError) -> Done | Fault:
    """What one request brought."""
    # Nobody asks for the time of day who has nothing to compare it with.
    now = 0.0 if isinstance(came, Answer) and came.silent else time.time()
    return assess(call_id, came, now, key.scrub)


def learnt(line: Line, brought: Brought, permit: Permit, *, again: bool) -> Sequence[events.Event]:
    """Learn from what a request brought, before its permit is given back; what that changed."""
    if brought is None:
        return ()
    if isinstance(brought, Fault) and isinstance(brought.error, ConnectError | TLSError):
        # It never got as far as the wire.
        line.counters.requests -= 1
        line.counters.retries -= again
    return line.throttle.learn(brought, permit)


def noted(line: Line, scope: Scope, done: Done, began: float) -> float:
    """Note the record that a call's first request brought, before its permit is given back.

    Args:
        line: The way to the server.
        scope: What the call is part of.
        done: What the request brought.
        began: When it was sent, by the event loop's clock.

    Returns:
        Seconds that the call took.
    """
    now = line.loop.time()
    line.throttle.learn_record(done.hint, began, now)
    scope.answered(now)
    line.counters.fetched += 1
    return now - began


def outcome_of(  # noqa: PLR0917 (by their names they would cost more)
    call_id: str, index: int, done: Done, attempts: int, elapsed: float, key: ApiKey
) -> Fetched:
    """What becomes of an id whose record is here; see `Fetched` for what it says."""
    call, answer, _ = done
    request_id = request_id_of(answer, key.scrub)
    return fetched(call_id, index, call, answer.body, attempts, elapsed, request_id)


async def _raced(
    line: Line, attempt: Attempt, permit: Permit, until: float, hedge: Hedge
) -> Brought:
    """One request and, when it is late and a hedge can be afforded, its rival."""
    throttle, loop = line.throttle, line.loop
    began = loop.time()
    if attempt.number == 0:
        hedge.started()
    requests: set[asyncio.Task[Brought]] = set()

    def send(permit: Permit) -> None:
        request = loop.create_task(_requested(line, attempt, permit, until))
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
        brought = await _first_settled(requests)
    finally:
        losers = [request for request in requests if not request.done()]
        for loser in losers:
            loser.cancel()
        if losers:
            await asyncio.wait(losers)
    if isinstance(brought, Done):
        hedge.observed(loop.time() - began)
    return brought


async def _first_settled(requests: set[asyncio.Task[Brought]]) -> Brought:
    """What the first request brought that settles the call; else what the last one brought."""
    pending = requests
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        brought = [request.result() for request in done]
        for each in brought:
            if not isinstance(each, Fault) or not each.error.retryable:
                return each
        if not pending:
            return brought[0]
