"""The line of a fleet's slots; the rule: one script on the server's clock decides, and it is pure.

The line is the generic cell rate algorithm without a burst, turned round: instead of asking whether
a start is allowed now, a process takes the next free slots, and so nobody asks in vain. All that is
kept is the time of the next free slot, until when the fleet is parked, and who was there lately.

What is hard is the moment at which Redis comes back. Slots may be out that it has forgotten, and
processes that have not noticed yet may still go on at their even share. So

- a line that Redis knows nothing of begins after `QUIET` seconds, in which every process has asked
  again and what was out is past;
- a line that nobody has used for `LULL` seconds goes on at one even share, for `QUIET` seconds:
  together with the shares of those who have not noticed that is no more than the whole rate.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import attrs

from calls_async.fleet import Reservation

TIMEOUT: Final = 0.5
"""Seconds for one exchange with Redis, connecting included."""
PAUSE: Final = (0.1, 0.3)
"""Seconds between two tries while Redis is away, at least and at most."""
SURE: Final = 1.5
"""Seconds for which a failed try, from its start, is proof that Redis is away: time for the pause,
and for the next try to fail as well."""
QUIET: Final = 2.0
"""Seconds in which every process has noticed that Redis is back, and has used up its own slots."""
LULL: Final = 0.25
"""Seconds without a slot after which a line may have been forgotten by those who use it."""
LEASE: Final = 30.0
"""Seconds for which a process counts as one of the fleet after it was last heard of."""
_CLOCK_SET: Final = 0.001
"""Seconds that clocks drift apart within some exchanges, and more."""
LIFETIME: Final = 86_400.0
"""Seconds after which Redis forgets a line that nobody uses."""

SCRIPT: Final = """\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, most, ahead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local park, quiet, lull = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lease, lifetime, peers = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local function text(number) return string.format('%.3f', number) end

redis.call('ZADD', KEYS[2], text(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(now - lease))
redis.call('PEXPIRE', KEYS[2], math.ceil(lease / 1000))
local workers = redis.call('ZCARD', KEYS[2])

local line = redis.call('HMGET', KEYS[1], 'next', 'slow', 'crowd', 'parked')
local slot, slow = tonumber(line[1]), tonumber(line[2]) or 0
local crowd = math.max(tonumber(line[3]) or 0, peers)
local parked = tonumber(line[4]) or 0
if park > 0 then parked = math.max(parked, now + park) end

local count, first, step = 0, parked - now, 0
if most > 0 and parked <= now + ahead then
  if not slot then
    slot = now + quiet
  elseif math.max(slot, parked) < now - lull then
    slow, crowd = now + quiet, peers
  end
  -- No line is that long: the clock has gone back.
  slot = math.min(slot, now + quiet + 2 * ahead + 3 * workers * interval)
  slot = math.max(slot, now, parked)
  if slot < slow then
    count, step = 1, interval * math.max(workers, crowd)
  else
    count, step = math.min(most, math.floor(ahead / (interval * workers))), interval
    count = math.max(count, 1)
  end
  first = slot - now
  slot = slot + count * step
  redis.call('HSET', KEYS[1], 'next', text(slot))
end
redis.call('HSET', KEYS[1], 'slow', text(slow), 'crowd', crowd, 'parked', text(parked))
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(lifetime, 2 * (parked - now)) / 1000))
return {text(now), count, text(first), text(step), workers, text(parked - now)}
"""
"""KEYS: the line, a hash; the processes, a sorted set of when each was last heard of. ARGV: the
process, the interval of the fleet's slots, how many are wanted, how far ahead, for how long the
fleet is parked, the times above, and how many processes there are as far as this one knows, if it
could not ask for a while. Times are in microseconds. What it writes depends on the clock, so it
needs a server that replicates effects and not scripts, as Redis does since 5, and Valkey."""


def arguments(
    worker: str, *, rate: float, ahead: float, most: int = 0, park: float = 0.0, peers: int = 0
) -> tuple[str | int, ...]:
    """What the script is called with.

    Args:
        worker: The process.
        rate: The fleet's slots per second.
        ahead: Seconds of its share that a process gets at once.
        most: Slots that it could use; 0: it only looks.
        park: Seconds for which nobody is to start.
        peers: Processes of the fleet when Redis was last reached, if it was away since.
    """
    times = (1.0 / rate, ahead, park, QUIET, LULL, LEASE, LIFETIME)
    interval, *others = (f"{seconds * 1e6:.3f}" for seconds in times)
    return (worker, interval, most, *others, peers)


@attrs.frozen
class Reply:
    """What the script answered; the times are in seconds.

    Attributes:
        now: The time, by the server's clock.
        count: Slots that were given.
        first: From now until the first of them.
        step: From one of them to the next.
        workers: Processes that are there, the one that asked included.
        parked: From now until the fleet may start; 0 or less: it may.
    """

    now: float
    count: int
    first: float
    step: float
    workers: int
    parked: float

    @classmethod
    def of(cls, answer: Any) -> Reply:
        """The reply in the server's form."""
        now, count, first, step, workers, parked = map(float, answer)
        return cls(now / 1e6, int(count), first / 1e6, step / 1e6, int(workers), parked / 1e6)


class ServerClock:
    """Where the server's clock stands, as the quickest of the last exchanges had it.

    By a slow one alone slots would come late, and close to those of the next exchange.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=16)

    def noted(self, sent: float, received: float, server: float) -> None:
        """Note an exchange: when it was sent, and answered, and the server's clock in between."""
        took, behind = received - sent, (sent + received) / 2 - server
        if self._seen:
            best_took, best = min(self._seen)
            # Each is right to half of what it took, so one of the clocks was set, or it is another.
            if abs(behind - best) > (took + best_took) / 2 + _CLOCK_SET:
                self._seen.clear()
        self._seen.append((took, behind))

    def here(self, server: float) -> float:
        """The time here at a time of the server's."""
        return server + min(self._seen)[1]

    def forget(self) -> None:
        """It may be another server's clock from now on."""
        self._seen.clear()


class Share:
    """The slots of a process that goes on alone: evenly spaced, never more than its share.

    Args:
        interval: Seconds from one slot to the next.
        begins: When the first one is, by the caller's clock.
    """

    def __init__(self, interval: float, begins: float) -> None:
        self._interval = interval
        self.due = begins
        """When the next slot is."""

    def take(self, now: float, most: int, ahead: float) -> Reservation:
        """The next slots, for so many seconds ahead at most, but one at least."""
        self.due = max(self.due, now)
        count = max(1, min(most, int(ahead / self._interval)))
        given = Reservation(self.due - now, self._interval, count)
        self.due += count * self._interval
        return given
