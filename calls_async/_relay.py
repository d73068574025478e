"""Call after call on one connection; the rule: while all is ordinary, an answer sends what follows.

A healthy server's answers need nobody who waits for them: to wake a task for each costs more than
to read it. So where an answer arrives it is read, learnt from and handed over, and its connection,
its permit and its worker's time limit go on to the next id, in the same turn of the event loop. At
the first sign of anything else (no record, a gate that is not free, another key, a source that has
to be waited for) the relay is over, and the worker's task goes on as after a single request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from calls_async._attempt import late, learnt, read
from calls_async._throttle import Permit
from calls_async._verdict import Done
from calls_async.outcomes import fetched

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from calls_async._attempt import Brought, Line
    from calls_async._credentials import Credentials
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._transport import RelayTransport
    from calls_async._wire import Answer
    from calls_async.errors import CallsError
    from calls_async.outcomes import Fetched

HandOn: TypeAlias = "Callable[[Fetched], tuple[str, int] | None]"
"""Takes an outcome over, and gives the valid id to fetch next with its index; `None`: there is none
at hand."""


def taken(  # noqa: PLR0917 (by their names they would cost more)
    line: Line, scope: Scope, call_id: str, index: int, done: Done, began: float
) -> Fetched:
    """The outcome of a call whose first request brought its record, and what is learnt from that.

    The request's permit is still to be given back.

    Args:
        line: The way to the server.
        scope: What the call is part of.
        call_id: Its id.
        index: The position of the id among those given.
        done: What the request brought.
        began: When it was sent, by the event loop's clock.
    """
    now = line.loop.time()
    call, raw, request_id, hint = done
    line.throttle.learn_record(hint, began, now)
    scope.answered(now)
    line.counters.fetched += 1
    return fetched(call_id, index, call, raw, 1, now - began, request_id)


class Relay:
    """Calls that are fetched one behind the other, with one permit.

    Args:
        line: The way to the server.
        credentials: Where keys come from.
        scope: What the calls are part of.
        key: The key that all of them carry.
        most: Seconds for an attempt.
        total: Seconds for a whole call.
        hand_on: Takes the outcomes, all but that of the last call.

    Attributes:
        call_id: The id that is under way.
        index: Its position among those given.
        began: When its request was sent, by the event loop's clock.
        is_over: Whether the last call has its record.
        outcome: The last outcome, unless `hand_on` has it.
        brought: What the last request brought, if that is no record; `None` as well if the scope
            ended it.
    """

    def __init__(
        self,
        *,
        line: Line,
        credentials: Credentials,
        scope: Scope,
        key: ApiKey,
        most: float,
        total: float,
        hand_on: HandOn,
    ) -> None:
        self.call_id: str
        self.index: int
        self.began: float
        self.is_over = False
        self.outcome: Fetched | None = None
        self.brought: Brought = None
        self._line = line
        self._credentials = credentials
        self._scope = scope
        self._key = key
        self._most, self._total = most, total
        self._seconds = min(most, total)
        self._hand_on = hand_on
        self._task: asyncio.Task[object]
        self._error: BaseException | None = None

    async def run(self, transport: RelayTransport, call_id: str, index: int) -> None:
        """Fetch this call and those behind it; raises what `hand_on` raises.

        Args:
            transport: Sends the requests.
            call_id: A valid id.
            index: Its position among those given.
        """
        scope = self._scope
        self._next_is(call_id, index)
        self._task = scope.begin_request(self.began + self._seconds, self._line.loop)
        try:
            came = await transport.relay(call_id, self._key, self.answered)
        except BaseException as exc:
            if not scope.end_request(self._task, exc) and not isinstance(exc, TimeoutError):
                raise
            # The time may be over in the very turn in which the last record came.
            if not self.is_over and not scope.aborted:
                error = late(self._most, self._total, self._total)
                self.brought = read(self.call_id, self._key, error)
        else:
            scope.end_request(self._task)
            if not self.is_over and self.brought is None:
                self._take(came)
        if self._error is not None:
            raise self._error
        if self.brought is not None:
            learnt(self._line, self.brought, Permit(self.began), again=False)

    def answered(self, came: Answer) -> str | None:
        """Take an answer; the id to ask for next, if the relay goes on."""
        try:
            outcome = self._take(came)
            if (
                outcome is None
                or self._credentials.held is not self._key
                or not self._line.throttle.keep(self._scope)
            ):
                return None
            self.outcome = None
            following = self._hand_on(outcome)
        except BaseException as exc:  # noqa: BLE001 (raised where the caller's code waits for it)
            self._error = exc
            return None
        if following is None:
            return None
        self.is_over = False
        self._next_is(*following)
        self._scope.renew_request(self._task, self.began + self._seconds)
        return self.call_id

    def _next_is(self, call_id: str, index: int) -> None:
        """Another request is about to be sent."""
        self.call_id, self.index = call_id, index
        self.began = self._line.loop.time()
        self._line.counters.requests += 1

    def _take(self, came: Answer | CallsError) -> Fetched | None:
        """Read what a request brought; its outcome, if that is a record."""
        brought = read(self.call_id, self._key, came)
        if type(brought) is not Done:
            self.brought = brought
            return None
        self.is_over = True
        self.outcome = taken(self._line, self._scope, self.call_id, self.index, brought, self.began)
        return self.outcome
