"""Call after call on one connection; the rule: while all is ordinary, an answer sends what follows.

A healthy server's answers need nobody who waits for them: to wake a task for each costs more than
to read it. So where an answer arrives it is read, learnt from and handed over, and its connection,
its permit and its worker's time limit go on to the next id, in the same turn of the event loop. At
the first sign of anything else (no record, a gate that is not free, another key, a source that has
to be waited for) the relay is over, and the worker's task goes on as after a single request.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

from calls_async._attempt import late, learnt, noted, outcome_of, read
from calls_async._throttle import Permit
from calls_async._verdict import Done, assess

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from calls_async._attempt import Brought, Line
    from calls_async._credentials import Credentials
    from calls_async._scope import Scope
    from calls_async._secret import ApiKey
    from calls_async._transport import RelayTransport
    from calls_async._wire import Answer
    from calls_async.models import Call
    from calls_async.outcomes import Fetched


class Arrival(Protocol):
    """A record that has arrived, until the next one does.

    Who keeps the record alone does not pay for an outcome.

    Attributes:
        index: The position of its id among those given.
        call: The record.
    """

    index: int
    call: Call

    def outcome(self) -> Fetched:
        """All that there is to say of it."""
        ...


HandOn: TypeAlias = "Callable[[Arrival], tuple[str, int] | None]"
"""Takes a record over, and gives the valid id to fetch next with its index; `None`: there is none
at hand."""


class Relay:
    """Calls that are fetched one behind the other, with one permit.

    It is the `Arrival` of each of their records.

    Args:
        line: The way to the server.
        credentials: Where keys come from.
        scope: What the calls are part of.
        key: The key that all of them carry.
        most: Seconds for an attempt.
        total: Seconds for a whole call.
        hand_on: Takes the records, all but that of the last call.

    Attributes:
        call_id: The id that is under way.
        index: Its position among those given.
        began: When its request was sent, by the event loop's clock.
        is_over: Whether the last call has its record.
        is_handed_on: Whether `hand_on` has that.
        call: The last record.
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
        self.is_handed_on = False
        self.call: Call
        self.brought: Brought = None
        self._line = line
        self._credentials = credentials
        self._scope = scope
        self._key = key
        self._scrub = key.scrub
        self._most, self._total = most, total
        self._seconds = min(most, total)
        self._hand_on = hand_on
        self._task: asyncio.Task[object]
        self._done: Done
        self._elapsed: float
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
                self._take(read(self.call_id, self._key, came))
        if self._error is not None:
            raise self._error
        if self.brought is not None:
            learnt(self._line, self.brought, Permit(self.began), again=False)

    def answered(self, came: Answer) -> str | None:
        """Take an answer; the id to ask for next, if the relay goes on."""
        try:
            # This is `read`, which see.
            now = 0.0 if came.silent else time()
            if (
                not self._take(assess(self.call_id, came, now, self._scrub))
                or self._credentials.held is not self._key
                or not self._line.throttle.keep(self._scope)
            ):
                return None
            self.is_handed_on = True
            following = self._hand_on(self)
        except BaseException as exc:  # noqa: BLE001 (raised where the caller's code waits for it)
            self._error = exc
            return None
        if following is None:
            return None
        self.is_over = self.is_handed_on = False
        self._next_is(*following)
        self._scope.renew_request(self._task, self.began + self._seconds)
        return self.call_id

    def outcome(self) -> Fetched:
        """The outcome of the call whose record came last."""
        return outcome_of(self.call_id, self.index, self._done, 1, self._elapsed, self._key)

    def _next_is(self, call_id: str, index: int) -> None:
        """Another request is about to be sent."""
        self.call_id, self.index = call_id, index
        self.began = self._line.loop.time()
        self._line.counters.requests += 1

    def _take(self, brought: Brought) -> bool:
        """Take what a request brought; whether that is a record."""
        if type(brought) is not Done:
            self.brought = brought
            return False
        self.is_over = True
        self._done, self.call = brought, brought.call
        self._elapsed = noted(self._line, self._scope, brought, self.began)
        return True
