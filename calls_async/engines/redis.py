"""The pace of a fleet in Redis or Valkey, the only door to redis; the rule: never above the rate.

`SharedPace` is a `FleetPace`: all processes that give the same Redis and the same name start their
requests on one line of evenly spaced slots, on Redis's clock. It needs the extra `redis`.

Nothing of the calls is in Redis: no id, no record, no key of the API. What is there are two keys,
`{name}:line` and `{name}:workers`, which expire by themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
import uuid
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import urlsplit

import attrs

from calls_async.engines._line import (
    PAUSE,
    SCRIPT,
    SURE,
    TIMEOUT,
    Reply,
    ServerClock,
    Share,
    arguments,
)
from calls_async.errors import ConfigurationError, FleetPaceError, WrongEventLoopError
from calls_async.fleet import Reservation

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PaceStatistics", "SharedPace", "WhenAway"]

URL_VARIABLE: Final = "CALLS_SHARED_PACE_URL"
_SCHEMES: Final = ("redis", "rediss", "unix")
_DIGEST: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""By which Redis knows the script."""

WhenAway = Literal["keep", "hold"]
"""What a process does while it cannot reach Redis; see `SharedPace`."""


@attrs.frozen(kw_only=True)
class PaceStatistics:
    """What a `SharedPace` has given its client so far, and does now.

    Attributes:
        workers: Processes of the fleet, this one included, as Redis last told; 0 before that.
        away: Whether Redis could not be reached when it was last tried.
        slots: Slots that Redis gave.
        kept: Slots that the process gave itself while Redis was away.
    """

    workers: int
    away: bool
    slots: int
    kept: int


class SharedPace:
    """One rate for all processes that use the same Redis and the same name.

    Slots are evenly spaced, on Redis's clock, so there is no burst, not even where windows meet. A
    process takes those of the next `ahead` seconds of its even share in one round trip. A process
    that is asked for silence parks the fleet: nobody starts until the silence is over, apart from
    the slots that are out by then.

    While Redis is away, `when_away` decides. With "keep" each process goes on at its even share,
    the rate divided by the number of processes that Redis last told; one that has never reached
    Redis does not know that number, and starts nothing. That is right where Redis is away for all;
    where only some are cut off, the others use their shares as well. With "hold" nobody starts
    until Redis is back. Either way nobody rushes when it is: the fleet begins again within two
    seconds, and never above the rate.

    A URL with a password is not pickled: the other side finds it in `CALLS_SHARED_PACE_URL`.

    Args:
        url: Where Redis is: `redis://host:6379/0`, `rediss://` for TLS, `unix://` for a socket.
            Without it: the variable `CALLS_SHARED_PACE_URL`.
        rate: Starts per second of the whole fleet. Every process must give the same.
        name: What the fleet is called in Redis. Fleets of another name, for another limit, have
            nothing to do with it.
        when_away: What to do while Redis is away.
        ahead: Seconds of its share that a process reserves at once. More of it means fewer round
            trips, and more that is still sent after a cool-down began.

    Raises:
        ConfigurationError: An option, or the environment variable, cannot be used, or the extra is
            not installed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        rate: float,
        name: str = "calls_async",
        when_away: WhenAway = "keep",
        ahead: float = 0.1,
    ) -> None:
        try:
            self._address = _Address.resolved(url, os.environ)
        finally:
            del url  # tools that print a traceback's locals shall not find a password in this frame
        self._rate = _number("rate", rate, least=0.001)
        self._name = _name(name)
        if when_away not in get_args(WhenAway):
            raise ConfigurationError("SharedPace(when_away=...) must be 'keep' or 'hold'")
        self._when_away: WhenAway = when_away
        self._ahead = _number("ahead", ahead, least=0.001)
        self._address.client()  # which finds out what is wrong with the URL
        self._keys = (f"{{{name}}}:line", f"{{{name}}}:workers")
        self._worker = uuid.uuid4().hex
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._redis: Any = None
        self._clock = ServerClock()
        self._workers = self._slots = self._kept = 0
        self._last_slot = -math.inf
        self._alone: Share | None = None  # while Redis is away, and the share is kept
        self._away = False
        self._tried = -math.inf  # when the last failed try began
        self._next_try = -math.inf
        self._looking: asyncio.Task[None] | None = None

    # --- What the client calls -----------------------------------------------------------------

    async def reserve(self, most: int) -> Reservation:
        """See `FleetPace`.

        Raises:
            FleetPaceError: Redis is away, and nobody is to start.
            ConfigurationError: Redis refuses the user or the password.
        """
        now = self._time()
        if self._alone is not None and now - self._tried <= SURE:
            self._look_again(now)
            return self._own_slots(self._alone, now, most)
        try:
            return await self._from_line(most)
        except _AwayError as exc:
            problem = str(exc)
        # Out of the handler: whatever is raised in it would carry the foreign error along.
        if self._when_away == "hold" or not self._workers:
            raise FleetPaceError(problem)
        now = self._time()
        if self._alone is None:
            interval = self._workers / self._rate
            # What the others have of the line is past by then.
            quiet = 2 * self._ahead + interval
            jitter = random.random() * interval  # noqa: S311 (no secret)
            self._alone = Share(interval, max(now, self._last_slot) + quiet + jitter)
        return self._own_slots(self._alone, now, most)

    async def park(self, seconds: float) -> None:
        """See `FleetPace`.

        Raises:
            FleetPaceError: Redis is away, so that the others are not told.
            ConfigurationError: Redis refuses the user or the password.
        """
        try:
            await self._exchange(park=seconds)
        except _AwayError as exc:
            problem = str(exc)
        else:
            return
        raise FleetPaceError(problem)

    async def close(self) -> None:
        """Close the connections, and leave the fleet. Whoever uses it again opens them anew."""
        if self._home is not None:
            self._time()
        looking, redis = self._looking, self._redis
        self._redis = self._home = self._looking = self._alone = None
        self._clock.forget()
        try:
            if looking is not None:
                looking.cancel()
                await asyncio.wait({looking})
            if redis is not None and not self._away:
                with suppress(Exception):  # then it leaves when its lease ends
                    async with asyncio.timeout(TIMEOUT):
                        await redis.zrem(self._keys[1], self._worker)
        finally:
            if redis is not None:
                await redis.aclose()

    def statistics(self) -> PaceStatistics:
        """What was given so far, and how things are now."""
        return PaceStatistics(
            workers=self._workers, away=self._away, slots=self._slots, kept=self._kept
        )

    def __repr__(self) -> str:
        state = ", away" if self._away else ""
        return f"<SharedPace {self._name!r} of {self._rate:g}/s at {self._address.shown}{state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "url": self._address.portable,
            "rate": self._rate,
            "name": self._name,
            "when_away": self._when_away,
            "ahead": self._ahead,
        }
        return _restored, (type(self), options)

    # --- Inside --------------------------------------------------------------------------------

    def _time(self) -> float:
        """The time, by the clock of the loop that the connections belong to.

        Raises:
            WrongEventLoopError: This is another loop or another process.
        """
        here = (os.getpid(), asyncio.get_running_loop())
        self._home = self._home or here
        if self._home != here:
            raise WrongEventLoopError(
                "the shared pace belongs to another event loop, or to a parent process: make one "
                "for each, or close it there first"
            )
        return here[1].time()

    async def _from_line(self, most: int) -> Reservation:
        """The next slots of the line."""
        if self._alone is not None:  # its own slots come first, lest they mix with the line's
            await asyncio.sleep(max(0.0, self._alone.due - self._time()))
        while True:
            reply = await self._exchange(most=most)
            if not reply.count:
                return Reservation(reply.parked, count=0)
            first = self._clock.here(reply.now + reply.first)
            self._last_slot = first + (reply.count - 1) * reply.step
            if await self._is_still_good(first):
                self._slots += reply.count
                return Reservation(first - self._time(), reply.step, reply.count)

    async def _is_still_good(self, slot: float) -> bool:
        """Wait until the slot is near; whether the fleet was not parked meanwhile.

        A small rate that is shared by many leaves a process one slot, far ahead.
        """
        wait = slot - self._time() - self._ahead
        if wait <= self._ahead:
            return True
        await asyncio.sleep(wait)
        reply = await self._exchange()
        return self._clock.here(reply.now + reply.parked) <= slot

    async def _exchange(self, *, most: int = 0, park: float = 0.0) -> Reply:
        """Have the script run.

        Raises:
            _AwayError: Redis cannot be reached, or cannot do it now.
            ConfigurationError: Redis refuses the user or the password.
        """
        began = self._time()
        asked = arguments(
            self._worker,
            rate=self._rate,
            ahead=self._ahead,
            most=most,
            park=park,
            peers=0 if self._alone is None else self._workers,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                answer, sent = await self._run(asked)
        except Exception as exc:  # noqa: BLE001 (redis raises its own, the sockets' and others)
            kind = type(exc)
        else:
            reply = Reply.of(answer)
            self._clock.noted(sent, self._time(), reply.now)
            self._workers = reply.workers
            self._away = False
            if most:
                self._alone = None
            return reply
        # Out of the handler, and by its type alone: the text or the chain may hold a password.
        if kind.__name__ in _REFUSED:
            raise ConfigurationError(
                f"Redis at {self._address.shown} refuses the user or the password: {kind.__name__}"
            )
        self._away = True
        self._clock.forget()
        self._tried = began
        self._next_try = self._time() + random.uniform(*PAUSE)  # noqa: S311 (no secret)
        raise _AwayError(f"Redis at {self._address.shown} is away: {kind.__name__}")

    async def _run(self, asked: tuple[str | int, ...]) -> tuple[Any, float]:
        """The script's answer, and when it was asked."""
        for last in (False, True):
            if self._redis is None:  # not yet, or another client has closed it meanwhile
                self._redis = self._address.client()
            redis, sent = self._redis, self._time()
            try:
                return await redis.evalsha(_DIGEST, 2, *self._keys, *asked), sent
            except Exception as exc:
                kind = type(exc).__name__
                # A connection that lay idle may have been closed: that alone is no reason.
                if last or kind not in ("NoScriptError", "ConnectionError"):
                    raise
            self._clock.forget()
            if kind == "NoScriptError":  # a new server, or one that was told to forget
                sent = self._time()
                return await redis.eval(SCRIPT, 2, *self._keys, *asked), sent
        raise AssertionError  # pragma: no cover (the loop returns or raises)

    def _own_slots(self, alone: Share, now: float, most: int) -> Reservation:
        given = alone.take(now, most, self._ahead)
        self._kept += given.count
        return given

    def _look_again(self, now: float) -> None:
        """Find out beside the work whether Redis is back."""
        if self._looking is None and now >= self._next_try:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._exchange()
            self._tried = -math.inf  # so that the next slots are the line's
        except (_AwayError, ConfigurationError):
            pass
        finally:
            self._looking = None


class _AwayError(Exception):
    """Redis cannot be reached, or not used now. The text is ours, and safe."""


_REFUSED: Final = frozenset({
    "AuthenticationError", "AuthenticationWrongNumberOfArgsError", "AuthorizationError",
    "NoPermissionError",
})  # fmt: skip
"""What redis raises if it is the configuration that is wrong, and not Redis that is away."""


class _Address:
    """A URL that does not show its password.

    Args:
        url: The URL.
        origin: Where it comes from, for messages.
    """

    __slots__ = ("_origin", "_secret", "_url", "shown")

    def __init__(self, url: str, origin: str) -> None:
        self._url, self._origin = str.__str__(url), origin
        del url
        parts, port = None, ""
        with suppress(ValueError):  # a bracket left open, a port that is none
            split = urlsplit(self._url)
            port = f":{split.port}" if split.port else ""
            parts = split
        if parts is None or parts.scheme not in _SCHEMES:
            raise ConfigurationError(f"{origin} must look like redis://host:6379/0")
        self._secret = has_password(self._url)
        self.shown = parts.path if parts.scheme == "unix" else f"{parts.hostname or ''}{port}"
        """Where it leads."""

    @classmethod
    def resolved(cls, url: str | None, environ: Mapping[str, str]) -> _Address:
        """The address from the argument or the environment."""
        origin = "SharedPace(url=...)"
        try:
            if url is None:
                url, origin = environ.get(URL_VARIABLE), URL_VARIABLE
            if isinstance(url, str):
                return cls(url, origin)
            kind = type(url).__name__
        finally:
            del url, environ
        if kind != "NoneType":
            raise ConfigurationError(f"SharedPace(url=...) must be a str, not {kind}")
        raise ConfigurationError(
            f"no URL of a Redis: pass SharedPace(url=...) or set {URL_VARIABLE}"
        )

    @property
    def portable(self) -> str | None:
        """What may go to another process; `None`: it has to find the URL there."""
        return None if self._secret else self._url

    def client(self) -> Any:
        """A client of redis; it has no connection yet."""
        try:
            asyncio_redis: Any = import_module("redis.asyncio")
            retry: Any = import_module("redis.asyncio.retry")
            backoff: Any = import_module("redis.backoff")
        except ImportError as exc:
            raise ConfigurationError(
                "SharedPace needs redis: pip install 'calls_async[redis]'"
            ) from exc
        with suppress(Exception):  # its text quotes the URL
            return asyncio_redis.Redis.from_url(
                self._url,
                retry=retry.Retry(backoff.NoBackoff(), 0),  # this module says when to try again
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                protocol=2,  # which every server speaks; the next one needs more handshakes
                max_connections=4,  # slots, a look and a park at the same time
            )
        raise ConfigurationError(f"{self._origin} cannot be used as the URL of a Redis")

    def __repr__(self) -> str:
        return f"<{self.shown}>"


def has_password(url: str) -> bool:
    """Whether a URL holds a password, or cannot be read well enough to say that it does not."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return parts.password is not None or "password" in parts.query


def _number(option: str, value: Any, *, least: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not least <= value < math.inf:
        raise ConfigurationError(f"SharedPace({option}=...) must be a number, at least {least:g}")
    return float(value)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or not name.isprintable() or set(name) & set("{}"):
        raise ConfigurationError("SharedPace(name=...) must be a printable text without braces")
    return str.__str__(name)


def _restored(cls: type[SharedPace], options: dict[str, Any]) -> SharedPace:
    return cls(**options)
