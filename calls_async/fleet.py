"""One pace for many clients; the rule: a slot is a start, and nobody starts without one.

A fleet is all clients that share one limit of the server's, in whatever processes and on whatever
hosts. `CallsClient(pace=...)` takes what hands out the fleet's starts: the one for Redis and Valkey
is `calls_async.engines.redis.SharedPace`, and whoever keeps the limit elsewhere writes a class with
the three methods of `FleetPace`.

What a client learns by itself (a pace after refusals, quotas, its limit of concurrency) stays in
force: it starts a request when its own gate allows it *and* it has a slot.
"""

from __future__ import annotations

import math
from typing import Protocol

import attrs

from calls_async.errors import ConfigurationError

__all__ = ["FleetPace", "Reservation"]


@attrs.frozen
class Reservation:
    """Slots that one client was given: moments at which it may start one request each.

    Attributes:
        first: Seconds from now until the first slot. It may be less than 0, where the answer took
            its time; what is past by more than a little is not used. With a count of 0: until when
            nobody is to start, nor to ask again.
        interval: Seconds from one slot to the next.
        count: How many there are. 0: there are none now, because the fleet is parked.

    Raises:
        ConfigurationError: Those are no slots: a number is not finite, or is below 0 where it must
            not be.
    """

    first: float
    interval: float = 0.0
    count: int = 1

    def __attrs_post_init__(self) -> None:
        finite = math.isfinite(self.first) and math.isfinite(self.interval)
        if not finite or self.interval < 0 or self.count < 0:
            raise ConfigurationError(
                f"{self!r} is no reservation: its numbers must be finite, and interval and count "
                "not below 0"
            )


class FleetPace(Protocol):
    """Hands out the starts of a fleet. A client uses it on its event loop alone.

    It may raise whatever it likes: then the client starts nothing, and asks again after a moment. A
    `ConfigurationError` ends a batch at once, other failures when its patience is over. Every
    method may be cancelled at any await. A client pickles with its pace if the pace does.
    """

    async def reserve(self, most: int) -> Reservation:
        """Give the caller its next slots.

        A slot is the caller's alone, and is lost if it does not use it. So there should be no more
        of them than it needs for about a tenth of a second: what lies further ahead is lost with a
        process that dies, and knows nothing of a cool-down that another one brings about.

        Args:
            most: As many as the caller could use, at least 1. It may be given fewer.
        """
        ...

    async def park(self, seconds: float) -> None:
        """Let nobody of the fleet start for so long: the server has asked this client for silence.

        A longer silence that is under way stays as it is.
        """
        ...

    async def close(self) -> None:
        """Give up connections and the like: a client that uses it was closed.

        Another client may go on to use it, or the same one's copy, so it has to open them anew.
        """
        ...
