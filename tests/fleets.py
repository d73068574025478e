"""A fleet's pace without Redis, for tests in virtual time; the rule: the same line, in Python."""

from __future__ import annotations

import asyncio
import math

import attrs

from calls_async import Reservation


@attrs.define(eq=False)
class Line:
    """The fleet's slots, one after the other, as `calls_async.engines._line` has them.

    Attributes:
        rate: Slots per second.
        ahead: Seconds of its share that a member gets at once.
        granted: The time of every slot, in the order in which they were given.
        parked: Until when nobody may start.
    """

    rate: float
    ahead: float = 0.1
    granted: list[float] = attrs.field(factory=list)
    parked: float = -math.inf
    _next: float = -math.inf
    _members: set[int] = attrs.field(factory=set)

    def take(self, now: float, member: int, most: int) -> Reservation:
        """The next slots, for a member."""
        self._members.add(member)
        if self.parked > now + self.ahead:
            return Reservation(self.parked - now, count=0)
        first = max(self._next, now, self.parked)
        share = self.rate / len(self._members)
        count = max(1, min(most, int(self.ahead * share)))
        self._next = first + count / self.rate
        self.granted.extend(first + n / self.rate for n in range(count))
        return Reservation(first - now, 1.0 / self.rate, count)


@attrs.define(eq=False)
class Member:
    """One client's way to the line.

    Attributes:
        line: The line.
        latency: Seconds of the way there and back.
        asked: How many slots were wanted, each time.
        closed: How often it was closed.
    """

    line: Line
    latency: float = 0.001
    asked: list[int] = attrs.field(factory=list)
    closed: int = 0

    async def reserve(self, most: int) -> Reservation:
        """See `FleetPace`."""
        self.asked.append(most)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.latency / 2)
        answered = loop.time()
        given = self.line.take(answered, id(self), most)
        await asyncio.sleep(self.latency / 2)
        # A real member knows where the other clock stands.
        return attrs.evolve(given, first=given.first - (loop.time() - answered))

    async def park(self, seconds: float) -> None:
        """See `FleetPace`."""
        await asyncio.sleep(self.latency / 2)
        until = asyncio.get_running_loop().time() + seconds
        self.line.parked = max(self.line.parked, until)

    async def close(self) -> None:
        """See `FleetPace`."""
        self.closed += 1


def most_within(times: list[float], seconds: float) -> int:
    """The most that lie in any stretch of so many seconds, its end excluded."""
    times = sorted(times)
    most, begin = 0, 0
    for end, time in enumerate(times):
        while time - times[begin] >= seconds - 1e-9:
            begin += 1
        most = max(most, end - begin + 1)
    return most
