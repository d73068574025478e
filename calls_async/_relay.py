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
        # What each answer needs of these, at hand.
        self._scrub = key.scrub
        self._now = line.loop.time
        self._throttle = line.throttle
        self._counters = line.counters
        self._renew = scope.renew_request
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
        self.call_id, self.index = call_id, index
        self.began = self._now()
        self._counters.requests += 1
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
                brought = read(self.call_id, self._key, came)
                if isinstance(brought, Done):
                    self._has_come(brought, noted(self._line, scope, brought, self.began))
                else:
                    self.brought = brought
        if self._error is not None:
            raise self._error
        if self.brought is not None:
            learnt(self._line, self.brought, Permit(self.began), again=False)

    def answered(self, came: Answer) -> str | None:
        """Take an answer; the id to ask for next, if the relay goes on."""
        try:
            # These are `read` and `noted`, which see.
            today = 0.0 if came.silent else time()
            brought = assess(self.call_id, came, today, self._scrub)
            if type(brought) is not Done:
                self.brought = brought
                return None
            began, now = self.began, self._now()
            self._has_come(brought, now - began)
            self._scope.answered(now)
            self._counters.fetched += 1
            goes_on = self._throttle.carry_on(self._scope, brought.hint, began, now)
            if not goes_on or self._credentials.held is not self._key:
                return None
            self.is_handed_on = True
            following = self._hand_on(self)
        except BaseException as exc:  # noqa: BLE001 (raised where the caller's code waits for it)
            self._error = exc
            return None
        if following is None:
            return None
        self.is_over = self.is_handed_on = False
        call_id, self.index = following
        self.call_id = call_id
        self.began = now = self._now()
        self._counters.requests += 1
        self._renew(self._task, now + self._seconds)
        return call_id

    def outcome(self) -> Fetched:
        """The outcome of the call whose record came last."""
        return outcome_of(self.call_id, self.index, self._done, 1, self._elapsed, self._key)

    def _has_come(self, done: Done, elapsed: float) -> None:
        self.is_over = True
        self.call = done.call
        self._done, self._elapsed = done, elapsed
