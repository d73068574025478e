"""Servers that are unwell, as pure models like those of `servers`: overloaded, away, or failing.

Rate limiters refuse cleanly and at once. What takes services down for hours is the other kind: work
that queues, slows everything down, and is still done when nobody waits for it any more.
"""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING, Final

import attrs

from tests.simulation.servers import HTML, Reply

if TYPE_CHECKING:
    from tests.simulation.servers import Server

REFUSED: Final = Reply(None)
"""Nobody listens on the port."""
SILENT: Final = Reply(after=math.inf)
"""The connection stands, and nothing ever comes back."""
BAD_GATEWAY: Final = Reply(502, HTML)
"""The proxy in front is up, and what is behind it is not."""


@attrs.define(kw_only=True)
class Collapsing:
    """A server whose latency grows with its load, and whose goodput falls beyond its capacity.

    So many workers serve one queue, first come, first served. Up to `workers` requests take
    `service` seconds each; more of them wait, which costs time but no goodput. Beyond `knee`
    requests inside, each takes longer in proportion, as where memory, locks or a database give in.
    The server does not notice that a client has given up: the work is done all the same. So
    clients that time out and ask again at once keep it down for ever.

    Attributes:
        workers: Requests that are served at the same time.
        service: Mean seconds of service for one.
        knee: Requests inside, the waiting ones included, beyond which all get slower.
        room: Requests inside at most; the next ones are refused with a 503.
        seed: Of the service times, which vary by a fifth.
    """

    workers: int = 10
    service: float = 0.05
    knee: int = 40
    room: float = math.inf
    seed: int = 1
    _free: list[float] = attrs.field(init=False)
    _leaving: list[float] = attrs.field(factory=list, init=False)
    _dice: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = [0.0] * self.workers
        self._dice = random.Random(self.seed)

    @property
    def capacity(self) -> float:
        """Requests per second at best."""
        return self.workers / self.service

    def reply(self, now: float) -> Reply:
        """See `Server`."""
        while self._leaving and self._leaving[0] <= now:
            heapq.heappop(self._leaving)
        inside = len(self._leaving) + 1
        if inside > self.room:
            return Reply(503, HTML)
        slower = max(1.0, inside / self.knee)
        service = self.service * slower * self._dice.uniform(0.8, 1.2)
        finished = max(now, self._free[0]) + service
        heapq.heapreplace(self._free, finished)
        heapq.heappush(self._leaving, finished)
        return Reply(after=finished - now)


@attrs.define(kw_only=True)
class Away:
    """A server that is away for some time.

    Attributes:
        server: What answers before and after.
        since: When the outage begins, in seconds.
        until: When it ends.
        instead: What comes meanwhile.
    """

    server: Server
    since: float
    until: float
    instead: Reply = REFUSED

    def reply(self, now: float) -> Reply:
        """See `Server`."""
        return self.instead if self.since <= now < self.until else self.server.reply(now)


@attrs.define(kw_only=True)
class BrownOut:
    """A server that fails a share of the requests, each by a throw of the dice.

    Attributes:
        server: What answers the others. The failures take as long as its answers do.
        share: The share of requests that fail.
        seed: Of the dice.
    """

    server: Server
    share: float = 0.3
    seed: int = 1
    _dice: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def reply(self, now: float) -> Reply:
        """See `Server`."""
        reply = self.server.reply(now)
        failed = self._dice.random() < self.share
        return Reply(500, after=reply.after) if failed else reply


@attrs.define(kw_only=True)
class Uneven:
    """A healthy server of great capacity whose answers take unequally long, whatever its load.

    Attributes:
        median: Seconds that half of the answers take at most.
        spread: Of the logarithm: at 1.0 every twentieth takes five times the median or longer.
        seed: Of the times.
    """

    median: float = 0.05
    spread: float = 1.0
    seed: int = 1
    _dice: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def reply(self, now: float) -> Reply:  # noqa: ARG002 (the protocol's)
        """See `Server`."""
        return Reply(after=self.median * self._dice.lognormvariate(0.0, self.spread))
