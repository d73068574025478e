"""Servers that limit a rate, as pure models; the rule: each is told the time and reads no clock.

They stand for what is in front of real APIs: nginx's `limit_req` (a token bucket), gateways with
fixed windows that announce their quota, and sliding windows that count refused requests too.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

HTML: Final = (("Content-Type", "text/html"),)
"""What nginx's own error page says of itself, and that is all it says."""


@attrs.frozen
class Reply:
    """The part of an answer that a server decides; the record is for the transport to add.

    Attributes:
        status: The HTTP status code; `None`: the connection is refused.
        headers: The header fields.
        after: Seconds that the server takes for it; infinity: nothing ever comes.
    """

    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()
    after: float = 0.0


ACCEPTED: Final = Reply()


class Server(Protocol):
    """A server with a limit."""

    def reply(self, now: float) -> Reply:
        """Answer a request that arrives now; the times never go back."""
        ...


class Unlimited:
    """A server that accepts everything."""

    def reply(self, now: float) -> Reply:  # noqa: ARG002 (the protocol's)
        return ACCEPTED


def steady(rate: float) -> Callable[[float], float]:
    """A limit that never changes, in requests per second."""
    return lambda _: rate


def changing(before: float, at: float, after: float) -> Callable[[float], float]:
    """A limit that changes at a time; `math.inf`: there is none."""
    return lambda now: before if now < at else after


@attrs.define(kw_only=True)
class Flaky:
    """A server that refuses some requests for reasons of its own.

    Attributes:
        server: What answers the others.
        one_in: Every so many requests, one is refused.
        refusal: The answer of a refused request.
        seen: Requests so far.
    """

    server: Server
    one_in: int
    refusal: Reply = Reply(503, HTML)
    seen: int = 0

    def reply(self, now: float) -> Reply:
        """See `Server`."""
        self.seen += 1
        if self.seen % self.one_in == 0:
            return self.refusal
        return self.server.reply(now)


@attrs.define(kw_only=True)
class TokenBucket:
    """nginx's `limit_req` with `nodelay`: an excess that drains at the rate and has a bound.

    Refused requests cost nothing. The first request after a long pause has no excess, so
    `burst + 1` are accepted at once.

    Attributes:
        rate: The limit in requests per second at a time.
        burst: The excess that is accepted, in requests.
        refusal: The answer of a refused request.
    """

    rate: Callable[[float], float]
    burst: float = 10.0
    refusal: Reply = Reply(429, (("Retry-After", "1"),))
    _excess: float = attrs.field(default=-math.inf, init=False)
    _last: float = attrs.field(default=0.0, init=False)

    def reply(self, now: float) -> Reply:
        rate = self.rate(now)
        if rate == math.inf:
            return ACCEPTED
        excess = max(0.0, self._excess - (now - self._last) * rate + 1.0)
        if excess > self.burst:
            return self.refusal
        self._excess, self._last = excess, now
        return ACCEPTED


@attrs.define(kw_only=True)
class FixedWindow:
    """So many requests in each window of the clock; a refused one costs nothing.

    Attributes:
        quota: Requests in a window.
        window: Its seconds.
        announces: Whether each answer has `RateLimit`, and a refusal `Retry-After`.
    """

    quota: int = 100
    window: float = 10.0
    announces: bool = True
    _number: int = attrs.field(default=-1, init=False)
    _used: int = attrs.field(default=0, init=False)

    def reply(self, now: float) -> Reply:
        number = int(now // self.window)
        if number != self._number:
            self._number, self._used = number, 0
        accepted = self._used < self.quota
        self._used += accepted
        if not self.announces:
            return ACCEPTED if accepted else Reply(429)
        left = self.quota - self._used
        reset = math.ceil((number + 1) * self.window - now)
        headers = (("RateLimit", f'"fixed";r={left};t={reset}'),)
        if accepted:
            return Reply(200, headers)
        return Reply(429, (*headers, ("Retry-After", str(reset))))


@attrs.define(kw_only=True)
class SlidingWindow:
    """So many requests in the last seconds, the refused ones included.

    Whoever goes on asking while refused is refused for ever.

    Attributes:
        quota: Requests in a window.
        window: Its seconds.
        refusal: The answer of a refused request.
    """

    quota: int = 20
    window: float = 1.0
    refusal: Reply = Reply(429, (("Retry-After", "1"),))
    _seen: deque[float] = attrs.field(factory=deque, init=False)

    def reply(self, now: float) -> Reply:
        while self._seen and self._seen[0] <= now - self.window:
            self._seen.popleft()
        accepted = len(self._seen) < self.quota
        self._seen.append(now)
        return ACCEPTED if accepted else self.refusal
