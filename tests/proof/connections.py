"""Everything that connections do to answers: lose, swap, repeat, delay and garble them.

Each fault strikes the n-th request of a server that is otherwise right, and the client fetches on:
one call after the other, and all at once. Every call must end as its own record or as an error that
is true, nothing may be left behind, and what the client counts must be what the server saw.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from calls_async import CallsClient, RetryPolicy, StatusError, Timeouts
from tests.kit import open_sockets, other_tasks, turns
from tests.proof.loops import blocked, run_watched, watched
from tests.proof.tally import Tally
from tests.rawserver import RawServer, http, raw_server, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.rawserver import Exchange

KEY = "sk_test_of_the_proof"
POLICY = RetryPolicy(backoff_base=0.0)
CALLS = 6
"""Calls of one case."""
IDLE = 0.1
"""Seconds between calls, by a clock that jumps: what was sent unasked has come before they end."""
STRANGER = "stranger"
"""An id that nobody asks for."""

State: TypeAlias = "dict[int, bytes]"
"""The connections that are one answer behind, and what comes next on each; `b""`: nothing."""
Fault: TypeAlias = "Callable[[Exchange, State], bytes | Awaitable[bytes | None] | None]"


async def sweep(*, short: bool) -> Tally:
    """Every fault, at every request, in both ways of fetching; the short form takes one request."""
    tally = Tally("connections")
    await asyncio.to_thread(run_watched, _all(tally, short=short), jumps=True)
    return tally


async def _all(tally: Tally, *, short: bool) -> None:
    both = (_in_turn, _at_once)
    for number, (name, fault) in enumerate(FAULTS.items()):
        for nth in [2] if short else range(1, CALLS + 1):
            for way in both[number % 2 :][:1] if short else both:
                case = f"{name}, request {nth}, {_told(way)}"
                await _struck(tally, case, fault, nth, way)
                blocked(tally, case, watched().longest, short=short)
                watched().forget()
    for name, serve in SERVERS.items():
        for way in both:
            case = f"{name}, {_told(way)}"
            before, sockets = other_tasks(), open_sockets()
            async with serve() as server:
                async with _client(server.url) as client:
                    await way(tally, case, client)
                await _left(tally, case, server, None)
            await _left_behind(tally, case, before, sockets)


def _told(way: Way) -> str:
    return "in turn" if way is _in_turn else "at once"


# --- One case ------------------------------------------------------------------------------------


def _own(exchange: Exchange) -> bytes:
    """The right answer."""
    return http(record(_asked(exchange)))


def _asked(exchange: Exchange) -> str:
    return exchange.target.rsplit("/", 1)[-1]


async def _struck(tally: Tally, case: str, fault: Fault, nth: int, way: Way) -> None:
    state: State = {}

    def script(exchange: Exchange) -> Any:
        late = state.pop(exchange.connection, None)
        if late == b"":
            return _silent(exchange, state)
        if late is not None:  # it stays one answer behind
            state[exchange.connection] = _own(exchange)
            return late
        return fault(exchange, state) if exchange.number == nth else _own(exchange)

    before, sockets = other_tasks(), open_sockets()
    async with raw_server(script) as server:
        async with _client(server.url) as client:
            await way(tally, case, client)
            counted = client.statistics().requests
        await _left(tally, case, server, counted)
    await _left_behind(tally, case, before, sockets)


def _client(url: str) -> CallsClient:
    return CallsClient(KEY, base_url=url, retry=POLICY, timeouts=Timeouts(attempt=2.0, total=60.0))


async def _in_turn(tally: Tally, case: str, client: CallsClient) -> None:
    """One call after the other, with time in between for what comes unasked."""
    for number in range(CALLS):
        await _judged(tally, case, f"call-{number}", client.fetch_call(f"call-{number}"))
        await asyncio.sleep(IDLE)


async def _at_once(tally: Tally, case: str, client: CallsClient) -> None:
    """All calls together, and once more over the connections that are then there."""
    for _ in range(2):
        ids = [f"call-{number}" for number in range(CALLS)]
        await asyncio.gather(
            *(_judged(tally, case, call_id, client.fetch_call(call_id)) for call_id in ids)
        )
        await asyncio.sleep(IDLE)


Way: TypeAlias = "Callable[[Tally, str, CallsClient], Awaitable[None]]"


async def _judged(tally: Tally, case: str, call_id: str, work: Awaitable[Any]) -> None:
    end = await tally.judge(
        f"{case}, {call_id}", work, accept=lambda x: x.raw == record(call_id), seconds=100
    )
    # A server that denies before it is asked denies everything: that is its answer.
    denied = isinstance(end, StatusError) and end.status in DENIALS
    if denied and not case.startswith("speaks first"):
        tally.found(f"{case}, {call_id}", "wrong", repr(end))


DENIALS = (401, 403, 404, 410)
"""What no call here deserves: each exists, and the key is right."""


async def _left(tally: Tally, case: str, server: RawServer, counted: int | None) -> None:
    """Compare the counts, and wait until the client holds no connection."""
    try:
        await server.quiet()
    except TimeoutError:
        tally.found(case, "leaks", f"{server.open} connections")
    if counted not in {None, len(server.requests)}:
        tally.found(case, "wrong", f"{counted} requests counted, {len(server.requests)} seen")


async def _left_behind(
    tally: Tally, case: str, before: set[asyncio.Task[Any]], sockets: int | None
) -> None:
    await turns(3)
    if other_tasks() - before or open_sockets() != sockets:
        tally.found(case, "leaks", f"{other_tasks() - before}, {open_sockets()} sockets")


# --- Faults of one answer ------------------------------------------------------------------------


def _says(*fields: str, status: str = "200 OK", then: bytes = b"", close: bool = False) -> Fault:
    """The record under another head, and what follows on it."""

    def fault(exchange: Exchange, _: State) -> bytes | None:
        answer = http(record(_asked(exchange)), *fields, status=status) + then
        if not close:
            return answer
        exchange.send(answer)
        return None

    return fault


def _framed(*fields: str) -> Fault:
    """The record, with these fields in place of its length; `{}` is the length."""

    def fault(exchange: Exchange, _: State) -> bytes:
        body = record(_asked(exchange))
        told = [field.replace("{}", str(len(body))) for field in fields]
        return "\r\n".join(("HTTP/1.1 200 OK", *told, "", "")).encode("latin-1") + body

    return fault


def _in_chunks(*sizes: str, end: bytes = b"\r\n0\r\n\r\n", fields: tuple[str, ...] = ()) -> Fault:
    """The record as one chunk, whose size is written so; `{}` is the right one in hexadecimal."""

    def fault(exchange: Exchange, _: State) -> bytes:
        body = record(_asked(exchange))
        told = "".join(f"{size.replace('{}', f'{len(body):x}')}\r\n" for size in sizes)
        head = ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields, "", "")
        return "\r\n".join(head).encode() + told.encode("latin-1") + body + end

    return fault


def _unasked(data: bytes, *, later: int) -> Fault:
    """The right answer, and so many turns of the loop later something that nobody asked for."""

    async def fault(exchange: Exchange, _: State) -> bytes:
        exchange.send(_own(exchange))
        await turns(later)
        return data

    return fault


def _closed(*, reset: bool, sent: int | None) -> Fault:
    """So much of the right answer (`None`: all of it), and the connection is closed or reset."""

    async def fault(exchange: Exchange, _: State) -> None:
        exchange.send(_own(exchange)[:sent])
        await turns(2)
        if reset:
            exchange.reset()

    return fault


async def _silent(exchange: Exchange, _: State) -> None:
    """The peer is gone, and no FIN came."""
    await exchange.hung_up()


def _silent_afterwards(exchange: Exchange, state: State) -> bytes:
    """The answer is the last that comes of a peer that vanishes."""
    state[exchange.connection] = b""
    return _own(exchange)


def _behind(exchange: Exchange, state: State) -> bytes:
    """From now on this connection brings the answer to the request before."""
    state[exchange.connection] = _own(exchange)
    return http(record(STRANGER))


def _before(*heads: bytes) -> Fault:
    """Interim answers, and then the right one."""
    return lambda exchange, _: b"".join(heads) + _own(exchange)


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"
STRAYS = {
    "record": http(record(STRANGER)),
    "404": http(b"{}", status="404 Not Found"),
    "401": http(b"{}", status="401 Unauthorized"),
    "408": http(b"", "Connection: close", status="408 Request Timeout"),
    "two": http(b"{}", status="404 Not Found") * 2,
    "garbage": b"garbage\r\n\r\n",
    "half": b"HTTP/1.1 404 Not Found\r\nContent-Le",
    "zeros": bytes(100),
    "empty lines": b"\r\n" * 3,
}

FAULTS: dict[str, Fault] = {
    "nothing": lambda exchange, _: _own(exchange),
    **{
        f"{'reset' if reset else 'closed'} {where}": _closed(reset=reset, sent=sent)
        for reset in (False, True)
        for where, sent in (("unanswered", 0), ("in the head", 9), ("in the body", -9))
    },
    "closed while idle": _closed(reset=False, sent=None),
    "reset while idle": _closed(reset=True, sent=None),
    "gone without a word": _silent,
    "gone after the answer": _silent_afterwards,
    **{
        f"unasked {name}, {later} turns later": _unasked(data, later=later)
        for name, data in STRAYS.items()
        for later in (0, 1, 2)
    },
    "another's record": lambda *_: http(record(STRANGER)),
    "one behind for ever": _behind,
    # Keeping alive, or not.
    "says close, and does": _says("Connection: close", close=True),
    "says close, and stays": _says("Connection: close"),
    "says keep-alive, and closes": _says("Connection: keep-alive", close=True),
    "says both": _says("Connection: keep-alive, close"),
    "says close twice": _says("Connection: close", "Connection: close"),
    "keeps alive for no time": _says("Keep-Alive: timeout=0, max=0", close=True),
    "says close, and more": _says("Connection: close", then=http(record(STRANGER))),
    "an upgrade that was not asked for": _says("Connection: upgrade", "Upgrade: h2c"),
    "HTTP/1.0": lambda x, _: _own(x).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0, kept alive": lambda x, _: (
        http(record(_asked(x)), "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    ),
    "HTTP/0.9": lambda x, _: record(_asked(x)),
    "HTTP/2.0": lambda x, _: _own(x).replace(b"HTTP/1.1", b"HTTP/2.0"),
    "ICY": lambda x, _: _own(x).replace(b"HTTP/1.1", b"ICY"),
    # Interim answers.
    "100 first": _before(_CONTINUE),
    "103 twice first": _before(_HINTS, _HINTS),
    "101": lambda *_: b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "101 to a websocket": lambda *_: (
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x"
    ),
    "101 first": _before(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    "199 with a length": _before(b"HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\n"),
    # Answers that have no body, with one.
    "204 with a body": _says(status="204 No Content"),
    "304 with a body": _says(status="304 Not Modified"),
    "205 with a body": _says(status="205 Reset Content"),
    # Bytes behind the body.
    **{f"{name} behind the body": _says(then=data) for name, data in STRAYS.items()},
    "the same answer twice": lambda x, _: _own(x) * 2,
    # Lengths. Whatever is not exactly the length must not make another record of it.
    **{
        f"length {length!a}": _framed(f"Content-Length: {length}")
        for length in (
            "", "0", "1", "{}0", "-1", "-{}", "+{}", "0x{}", "0{}", " {} ", "{}.0", "{}e0", "{}_0",
            "{}, {}", "{}, 5", "5, {}", "{} {}", "{};", "\xb2",
            "\uff15".encode().decode("latin-1"),
            f"{2**31}", f"{2**32}", f"{2**63}", f"{2**64}", f"{2**64 + 5}", "9" * 400,
        )
    },
    "two lengths alike": _framed("Content-Length: {}", "Content-Length: {}"),
    "two lengths": _framed("Content-Length: {}", "Content-Length: 5"),
    "two lengths, the other first": _framed("Content-Length: 5", "Content-Length: {}"),
    "a length with a space before the colon": _framed("Content-Length : {}"),
    "a folded length": _framed("Content-Length:\r\n {}"),
    "no length, and kept open": _framed(),
    # Transfer codings, and both.
    **{
        f"transfer coding {coding!a}": _framed(f"Transfer-Encoding: {coding}", "Content-Length: {}")
        for coding in (
            "chunked", "identity", "xchunked", "chunked, identity", "gzip", "\x0bchunked"
        )
    },
    **{
        f"transfer coding {coding!a} of chunks": _in_chunks("{}", fields=(f"{name}: {coding}",))
        for name, coding in (
            ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity"),
            ("Transfer-Encoding ", "chunked"), ("Content-Length", "5"), ("Content-Length", "9999"),
        )
    },
    # Chunks.
    **{
        f"chunk size {size!a}": _in_chunks(size)
        for size in (
            "{}", "0{}", "{} ", " {}", "+{}", "-{}", "0x{}", "{};a=b", '{};a="\r\n"', "{}\n", "",
            "g",
            "{}0", "1", "1" + "0" * 16, "1" + "0" * 15 + "{}", "f" * 16, "0", "{},", "{}\x00",
        )
    },
    "chunks without an end": _in_chunks("{}", end=b""),
    "chunks with no line end after the data": _in_chunks("{}", end=b"0\r\n\r\n"),
    "chunks with more data than said": _in_chunks("{}", end=b"more\r\n0\r\n\r\n"),
    "chunks with a length as trailer": _in_chunks("{}", end=b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "chunks with garbage as trailer": _in_chunks("{}", end=b"\r\n0\r\ngarbage\r\n\r\n"),
    "chunks, and a whole answer behind": _in_chunks(
        "{}", end=b"\r\n0\r\n\r\n" + http(record(STRANGER))
    ),
}  # fmt: skip
"""What happens to one answer; all others of the case are right."""


# --- Servers that are odd as a whole -------------------------------------------------------------


@asynccontextmanager
async def _swapping(pairs: int) -> AsyncIterator[RawServer]:
    """Two requests that are there at the same time get each other's answers, so many times."""
    waiting: list[tuple[Exchange, asyncio.Event]] = []
    left = pairs

    async def script(exchange: Exchange) -> bytes:
        nonlocal left
        if waiting:
            other, met = waiting.pop()
            met.set()
            partners[exchange.number], partners[other.number] = other, exchange
        elif left:
            left -= 1
            met = asyncio.Event()
            waiting.append((exchange, met))
            try:
                async with asyncio.timeout(0.5):
                    await met.wait()
            except TimeoutError:
                waiting.clear()
        return _own(partners.get(exchange.number, exchange))

    partners: dict[int, Exchange] = {}
    async with raw_server(script) as server:
        yield server


@asynccontextmanager
async def _restarting(*, reset: bool) -> AsyncIterator[RawServer]:
    """In the middle the server goes away, with what it has in hand, and comes back after 1 s."""
    gone = asyncio.Event()

    def script(exchange: Exchange) -> bytes | None:
        if exchange.number < CALLS // 2:
            return _own(exchange)
        gone.set()
        return exchange.reset() if reset else None

    async def live_twice() -> None:
        async with raw_server(script) as first:
            served.set_result(first)
            await gone.wait()
        await asyncio.sleep(1)
        async with raw_server(_own, port=int(first.url.rpartition(":")[2])) as second:
            over.set_result(second)
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    served: asyncio.Future[RawServer] = loop.create_future()
    over: asyncio.Future[RawServer] = loop.create_future()
    lives = asyncio.create_task(live_twice())
    try:
        yield await served
        await (await over).quiet()
    finally:
        lives.cancel()
        await asyncio.wait([lives])


@asynccontextmanager
async def _limited(*, most: int, held: bool) -> AsyncIterator[RawServer]:
    """Beyond so many connections at once, one is closed unanswered, or answered never."""
    serving: set[int] = set()

    async def script(exchange: Exchange) -> bytes | None:
        if exchange.connection in serving or len(serving) < most:
            serving.add(exchange.connection)
            await asyncio.sleep(0.01)
            return _own(exchange)
        if held:
            await exchange.hung_up()
        return None

    async with raw_server(script) as server:
        yield server


@asynccontextmanager
async def _half_open() -> AsyncIterator[RawServer]:
    """After their first answer all connections of the first batch are silent for ever."""

    async def script(exchange: Exchange) -> bytes | None:
        asked = [x.connection for x in server.requests].count(exchange.connection)
        if exchange.connection <= CALLS and asked > 1:
            await exchange.hung_up()
            return None
        return _own(exchange)

    async with raw_server(script) as server:
        yield server


SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[RawServer]]] = {
    "two answers swapped": partial(_swapping, 1),
    "all answers swapped": partial(_swapping, 10**9),
    "restart": partial(_restarting, reset=False),
    "restart with resets": partial(_restarting, reset=True),
    **{
        f"{most} connections, others {'held' if held else 'closed'}": partial(
            _limited, most=most, held=held
        )
        for most in (1, 2, 4)
        for held in (False, True)
    },
    "all peers half-open": _half_open,
    **{
        f"speaks first: {name}": partial(raw_server, _own, greeting=data)
        for name, data in STRAYS.items()
    },
    "answers before it has read": partial(
        raw_server, http(b"", "Connection: close", status="400 Bad Request"), reads=b"G"
    ),
    "answers another before it has read": partial(raw_server, http(record(STRANGER)), reads=b"G"),
}
"""Whole servers."""
