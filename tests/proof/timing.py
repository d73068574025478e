"""Every place at which a server can stop, drip or go on for ever: the deadline ends it.

The silent ones are met in a loop whose clock jumps, so that the client's ten seconds are ten
seconds, and take none. The noisy ones talk to a client in a process of its own, in real time.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver

from calls_async import (
    AttemptTimeoutError,
    CallsClient,
    CallsError,
    DeadlineExceededError,
    Fetched,
    RetryPolicy,
    Timeouts,
)
from tests.kit import open_sockets, other_tasks, turns
from tests.proof.apart import KEY, ORDINARY, fetched_apart
from tests.proof.loops import blocked, run_watched, watched
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.rawserver import Exchange, Script

ID = "call-1"
ONCE = RetryPolicy(max_attempts=1)
SECONDS = 10.0
LIMITS: dict[type[CallsError], Timeouts] = {
    AttemptTimeoutError: Timeouts(attempt=SECONDS, total=3 * SECONDS),
    DeadlineExceededError: Timeouts(attempt=3 * SECONDS, total=SECONDS),
}
"""Which limit ends it, by the error that it makes."""
TOGETHER = 20
"""Cases at the same time: more of them would block the loop by themselves."""


@attrs.frozen(kw_only=True)
class Case:
    """A server that does not come to an end in time, or just so.

    Attributes:
        name: What it does.
        script: How it answers.
        ends: What the user gets: `Fetched`, or the error of the limit that is the shorter one.
        timeouts: The client's.
        warm: Whether the connection has brought an answer before.
    """

    name: str
    script: Script
    ends: type[object]
    timeouts: Timeouts
    warm: bool = False


async def sweep(*, short: bool) -> Tally:
    """Meet all of them; the short form takes a sample."""
    tally = Tally("timing")
    await asyncio.to_thread(run_watched, _silent(tally, short=short), jumps=True)
    await _noisy(tally, short=short)
    return tally


# --- Servers that fall silent, or nearly ---------------------------------------------------------


async def _silent(tally: Tally, *, short: bool) -> None:
    cases = list(_cases(step=67 if short else 1))
    for first in range(0, len(cases), TOGETHER):
        together = cases[first : first + TOGETHER]
        await _meet(tally, together)
        blocked(tally, f"{together[0].name} and those after it", watched().longest, short=short)
        watched().forget()
    for name, place in _PLACES.items():
        for error, timeouts in LIMITS.items():
            sockets = open_sockets()
            async with place() as options:
                work = _fetched(timeouts=timeouts, **options)
                await _judged(tally, f"{name}, {error.__name__}", work, error)
            await turns(3)
            if open_sockets() != sockets:
                tally.found(name, "leaks", f"{open_sockets()} sockets")
    blocked(tally, "before the request", watched().longest, short=short)


def _cases(*, step: int) -> Iterator[Case]:
    for framing, answer in FRAMINGS.items():
        ended = framing != "until closed"
        for error, timeouts in LIMITS.items():
            for sent in sorted({*range(0, len(answer), step), len(answer)}):
                whole = ended and sent == len(answer)
                yield Case(
                    name=f"{framing}: silence after {sent} bytes, {error.__name__}",
                    script=partial(_stops, answer, sent),
                    ends=Fetched if whole else error,
                    timeouts=timeouts,
                    warm=sent % 2 == 0,
                )
            # One byte a second is no silence: it is the whole that has to be there in time.
            for left in sorted({*range(0, len(answer), 10 * step), *range(8), 12}):
                yield Case(
                    name=f"{framing}: the last {left} bytes one a second, {error.__name__}",
                    script=partial(_drips, answer, len(answer) - left),
                    ends=Fetched if ended and left < SECONDS else error,
                    timeouts=timeouts,
                )


async def _stops(answer: bytes, sent: int, exchange: Exchange) -> None:
    exchange.send(answer[:sent])
    await exchange.hung_up()


async def _drips(answer: bytes, sent: int, exchange: Exchange) -> None:
    exchange.send(answer[:sent])
    for at in range(sent, len(answer)):
        await asyncio.sleep(1)
        if exchange.writer.transport.is_closing():
            return
        exchange.send(answer[at : at + 1])
    await exchange.hung_up()


def _chunked(body: bytes, size: int, ends: bytes = b"0\r\n\r\n") -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + ends


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_RECORD = record(ID)
FRAMINGS = {
    "length": http(_RECORD, "Content-Type: application/json"),
    "chunked": _HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + _chunked(_RECORD, 100, b"0;ext=1\r\nX-Checksum: 1\r\n\r\n"),
    "gzip": http(gzip.compress(_RECORD), "Content-Encoding: gzip"),
    "after 1xx": b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 2 + http(_RECORD),
    "until closed": _HEAD + b"Connection: close\r\n\r\n" + _RECORD,
}


async def _meet(tally: Tally, cases: list[Case]) -> None:
    """Meet some cases at once, each with a client of its own, and look what is left behind."""
    before, sockets = other_tasks(), open_sockets()
    scripts = {f"case-{number}": case for number, case in enumerate(cases)}

    def script(exchange: Exchange) -> Any:
        if exchange.target.endswith(ORDINARY):
            return http(record(ORDINARY))
        number = exchange.headers["x-case"]
        return scripts[number].script(exchange)

    async def met(number: str, case: Case) -> None:
        work = _fetched(
            base_url=server.url,
            timeouts=case.timeouts,
            warm=case.warm,
            headers={"X-Case": number},
        )
        await _judged(tally, case.name, work, case.ends)

    async with raw_server(script) as server:
        await asyncio.gather(*(met(number, case) for number, case in scripts.items()))
        try:
            await server.quiet()
        except TimeoutError:
            tally.found(cases[0].name, "leaks", f"{server.open} connections")
    await turns(3)
    if other_tasks() - before or open_sockets() != sockets:
        tally.found(cases[0].name, "leaks", f"{other_tasks() - before}, {open_sockets()} sockets")


async def _fetched(*, warm: bool = False, **options: Any) -> Fetched:
    async with CallsClient(KEY, retry=ONCE, **options) as client:
        if warm:
            await client.get_call(ORDINARY)
        return await client.fetch_call(ID)


async def _judged(tally: Tally, name: str, work: Any, ends: type[object]) -> None:
    """Put down how it ended; a limit makes one error only, and not before its time."""
    end = await tally.judge(name, work, accept=partial(_right, ends), seconds=4 * SECONDS)
    if isinstance(end, CallsError) and (type(end) is not ends or end.elapsed < SECONDS):
        tally.found(name, "wrong", repr(end))


def _right(ends: type[object], fetched: Fetched) -> bool:
    return ends is Fetched and fetched.raw == _RECORD


# --- What falls silent before there is a request -------------------------------------------------


@asynccontextmanager
async def _full_backlog() -> AsyncIterator[dict[str, Any]]:
    """A port that is listened on, where no connection is ever accepted and none fits any more."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 (the socket module's own way)
            waiting.connect_ex(listening.getsockname())
        yield {"base_url": "http://{}:{}".format(*listening.getsockname())}


@asynccontextmanager
async def _no_handshake(sent: bytes) -> AsyncIterator[dict[str, Any]]:
    """A server of https that says no more than this."""
    async with raw_server(None, greeting=sent, reads=b"never") as server:
        yield {"base_url": server.url.replace("http", "https")}
        await server.quiet()


@asynccontextmanager
async def _no_tunnel(sent: bytes) -> AsyncIterator[dict[str, Any]]:
    """A proxy that says no more than this on CONNECT."""

    async def script(exchange: Exchange) -> None:
        exchange.send(sent)
        await exchange.hung_up()

    async with raw_server(script) as proxy:
        yield {"base_url": "https://calls.invalid", "proxy": proxy.url}
        await proxy.quiet()


class _Unresolving(AbstractResolver):
    async def resolve(self, *_: object, **__: object) -> Any:
        """Never."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def _no_name() -> AsyncIterator[dict[str, Any]]:
    """A name that is asked for, and the answer never comes."""
    connector = aiohttp.TCPConnector(resolver=_Unresolving())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield {"base_url": "https://calls.invalid", "session": session}


_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"  # of a ServerHello, the beginning
_TUNNEL = b"HTTP/1.1 200 Connected\r\nX: y\r\n\r\n"
_PLACES = {
    "the name is not resolved": _no_name,
    "the connection is not accepted": _full_backlog,
    **{
        f"the handshake stops after {sent} bytes": partial(_no_handshake, _HELLO[:sent])
        for sent in range(len(_HELLO) + 1)
    },
    **{
        f"the proxy stops after {sent} bytes": partial(_no_tunnel, _TUNNEL[:sent])
        for sent in range(0, len(_TUNNEL) + 1, 5)
    },
}


# --- Servers that never stop ---------------------------------------------------------------------


async def _noisy(tally: Tally, *, short: bool) -> None:
    async def script(exchange: Exchange) -> bytes | None:
        name = exchange.target.rsplit("/", 1)[-1]
        if name == ORDINARY:
            return http(record(ORDINARY))
        head, part = NOISES[name]
        exchange.send(head)
        while not exchange.writer.transport.is_closing():
            exchange.send(part)
            await exchange.writer.drain()
        return None

    async with raw_server(script) as server:
        ends = await fetched_apart(server.url, [*NOISES], seconds=0.1 if short else 1.0)
        await server.quiet()
    for name, measured in zip(NOISES, ends, strict=True):
        end = await tally.judge(name, measured.again(), accept=lambda _: False)
        if isinstance(end, CallsError) and type(end) is not AttemptTimeoutError:
            tally.found(name, "wrong", repr(end))
        measured.judge(tally, name, short=short)


_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NOISES = {
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "1xx-with-fields": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\nX: y\r\n\r\n" * 500),
    "empty-lines": (b"", b"\r\n" * 10_000),
    "chunk-size": (_CHUNKED, b"0" * 65_536),
    "chunk-extension": (_CHUNKED + b"1;", b"x" * 65_536),
    "chunk-extensions": (_CHUNKED + b"1", b";x=y" * 16_384),
}
"""A beginning, and what follows for ever; nothing of it is body, so that no cap would end it."""
