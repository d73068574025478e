"""The endpoint without its wire: `GET /v1/calls/{id}` as pure decisions over a ledger.

The rule: the sandbox and the fake transport are the same endpoint. One of them puts it behind
sockets, the other behind the `Transport` protocol, and neither decides anything itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from calls_async.testing._dice import Dice
from calls_async.testing._rate import TokenBucket
from calls_async.testing.ledger import Ledger
from calls_async.testing.plan import PROBLEM, Break, Fault, Headers, Plan, Reply, problem_body

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["SANDBOX_KEY", "Action", "Endpoint"]

SANDBOX_KEY: Final = "sk_test_sandbox"
"""The key that every sandbox accepts unless it is told other keys."""

Latency: TypeAlias = float | tuple[float, float]


@attrs.frozen(kw_only=True)
class Action:
    """What is to be done about one request.

    Attributes:
        status: The answer's HTTP status code.
        headers: The answer's header fields.
        body: The answer's content.
        delay: Seconds to wait before anything else.
        breaks: How the answer fails to arrive; `None`: it arrives.
    """

    status: int
    headers: Headers
    body: bytes
    delay: float
    breaks: Break | None


def _latency(_: object, option: attrs.Attribute[Any], value: Latency) -> None:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 0 <= low <= high:
        raise ValueError(f"{option.name} must be seconds or a range of them, not {value!r}")


def _keys(_: object, option: attrs.Attribute[Any], value: Collection[str]) -> None:
    if isinstance(value, str) or not value:
        raise ValueError(f"{option.name} must be a collection of keys, with at least one")


@attrs.define(kw_only=True, eq=False)
class Endpoint(Plan):
    """The endpoint's options and what it has seen. Options may be changed between two requests.

    It is a `Plan` so that every option is declared once and given side by side.

    Attributes:
        api_keys: The keys that are accepted.
        latency: Seconds before every answer; of a range, each id has its own, always the same.
        max_rate: Requests a second that are admitted, the others get a 429; `None`: all are.
        burst: Requests that are admitted at once after a pause.
        announce: Whether every answer says what is left of the rate, not just a 429.
        ledger: Every request; `Ledger(keep=...)` bounds what it remembers.
    """

    api_keys: Collection[str] = attrs.field(default=(SANDBOX_KEY,), validator=_keys, repr=False)
    latency: Latency = attrs.field(default=0.0, validator=_latency)
    max_rate: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0))
    )
    burst: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    announce: bool = False
    ledger: Ledger = attrs.field(factory=Ledger)
    _bucket: TokenBucket = attrs.field(factory=TokenBucket, init=False, repr=False)
    _met: dict[str, int] = attrs.field(factory=dict[str, int], init=False, repr=False)

    @property
    def api_key(self) -> str:
        """A key that is accepted."""
        return next(iter(self.api_keys))

    def receive(
        self, *, at: float, path: str, call_id: str | None, authorization: str | None, fresh: bool
    ) -> Action:
        """Decide about a request that has just arrived, and enter it in the ledger.

        Whoever calls it says `ledger.end()` when the request is over.

        Args:
            at: The time, in seconds, by the event loop's clock.
            path: The path as received.
            call_id: The id in it, decoded; `None` where it is no call's path.
            authorization: The `Authorization` header.
            fresh: See `LedgerEntry.fresh`.
        """
        key_accepted = self._knows(authorization)
        fault: Fault | None = None
        reply: Reply
        extra: list[tuple[str, str]] = []
        if call_id is None:
            reply = _NO_ROUTE
        elif not key_accepted:
            reply = _KEY_REFUSED
        elif not self._admits(at, extra):
            reply = _RATE_EXCEEDED
        else:
            fault = self._next_fault(call_id)
            reply = fault or _RECORD
        request_id = self.ledger.begin(
            at=at,
            path=path,
            call_id=call_id,
            status=None if reply.breaks else reply.code,
            fault=None if fault is None else fault.name,
            key_accepted=key_accepted,
            fresh=fresh,
        )
        return Action(
            status=reply.code,
            headers=(*reply.headers, *extra, ("x-request-id", request_id)),
            body=reply.body if isinstance(reply.body, bytes) else reply.body(call_id or ""),
            delay=self._latency_of(call_id) + reply.delay,
            breaks=reply.breaks,
        )

    def _knows(self, authorization: str | None) -> bool:
        scheme, _, key = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and key in self.api_keys

    def _admits(self, now: float, extra: list[tuple[str, str]]) -> bool:
        """Whether the rate admits one more; what is to be said about it goes to `extra`."""
        if self.max_rate is None:
            return True
        admitted = self._bucket.take(now, rate=self.max_rate, burst=self.burst)
        if not admitted:
            extra += self._bucket.retry_after(rate=self.max_rate)
        if self.announce or not admitted:
            extra += self._bucket.announcement(rate=self.max_rate, burst=self.burst)
        return admitted

    def _next_fault(self, call_id: str) -> Fault | None:
        fate = self.expected(call_id)
        if fate.kind != "flaky":
            return fate.fault(1)
        # Only flaky ids are counted, so a million healthy ones leave nothing behind.
        attempt = self._met[call_id] = self._met.get(call_id, 0) + 1
        return fate.fault(attempt)

    def _latency_of(self, call_id: str | None) -> float:
        if not isinstance(self.latency, tuple):
            return self.latency
        dice = Dice(call_id or "", purpose="latency", seed=self.seed)
        return dice.between(*self.latency)


_RECORD: Final = Reply()
_NO_ROUTE: Final = Reply(
    code=404,
    headers=(PROBLEM,),
    body=problem_body(404, "There is only GET /v1/calls/{id} here."),
)
_KEY_REFUSED: Final = Reply(
    code=401,
    headers=(PROBLEM, ("WWW-Authenticate", "Bearer")),
    body=problem_body(401, "The API key is missing or unknown."),
)
_RATE_EXCEEDED: Final = Reply(
    code=429, headers=(PROBLEM,), body=problem_body(429, "Too many requests.")
)
