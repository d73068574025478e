"""A server that answers with exactly the bytes that a test gives it, and keeps what it was sent.

The rule: it knows no HTTP beyond "a request ends with an empty line", so that it can be as wrong as
servers are. It listens on loopback only.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from tests.documents import example

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable


@attrs.define(eq=False)
class Exchange:
    """One request, and the connection on which it is to be answered.

    Attributes:
        head: The request's bytes, the empty line included.
        connection: Which connection it came on, from 1.
        number: Which request of the server it is, from 1.
    """

    head: bytes
    connection: int
    number: int
    reader: asyncio.StreamReader = attrs.field(repr=False)
    writer: asyncio.StreamWriter = attrs.field(repr=False)

    @property
    def target(self) -> str:
        """The request target, as it was sent."""
        return self.head.split(b" ", 2)[1].decode("ascii")

    @property
    def headers(self) -> dict[str, str]:
        """The header fields, their names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    async def hung_up(self) -> None:
        """Wait until the client hangs up."""
        await self.reader.read()

    def send(self, data: bytes) -> None:
        """Send bytes and go on."""
        self.writer.write(data)

    def reset(self) -> None:
        """Cut the connection with a RST, as a crashed peer does."""
        on_zero = struct.pack("ii", 1, 0)
        wire = self.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_zero)
        self.writer.transport.abort()


Script: TypeAlias = "Callable[[Exchange], bytes | Awaitable[bytes | None] | None]"
"""Gives the bytes to send, after which the connection stays open; `None`: it is closed."""


@attrs.define(eq=False)
class RawServer:
    """What a test sees of its server."""

    url: str = ""
    requests: list[Exchange] = attrs.field(factory=list)
    connections: int = 0
    _open: set[asyncio.Task[Any]] = attrs.field(factory=set)

    async def quiet(self) -> None:
        """Wait until the client holds no connection any more; a hung one fails the test."""
        async with asyncio.timeout(5):
            while self._open:
                await asyncio.wait(self._open)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)


@asynccontextmanager
async def raw_server(
    script: Script | bytes | None,
    *,
    tls: ssl.SSLContext | None = None,
    reads: bytes = b"\r\n\r\n",
    greeting: bytes = b"",
    port: int = 0,
) -> AsyncIterator[RawServer]:
    """Serve until the block ends.

    Args:
        script: What to answer; bytes: the same for every request.
        tls: Serve https.
        reads: What a request ends with.
        greeting: What is sent on a new connection, before anything was asked.
        port: Where to listen; 0: anywhere.
    """
    answer: Any = script if callable(script) else lambda _: script
    raw = RawServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        raw._open.add(task)
        task.add_done_callback(raw._open.discard)
        raw.connections += 1
        number = raw.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                writer.write(greeting)
                while True:
                    head = await reader.readuntil(reads)
                    exchange = Exchange(head, number, len(raw.requests) + 1, reader, writer)
                    raw.requests.append(exchange)
                    given = answer(exchange)
                    data = await given if inspect.isawaitable(given) else given
                    if data is None or writer.transport.is_closing():
                        return
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    raw.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    try:
        yield raw
    finally:
        server.close()
        for task in raw._open:
            task.cancel()
        if raw._open:
            await asyncio.wait(raw._open)


def http(
    body: bytes = b"", *fields: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    """A whole answer, with a Content-Length of its own unless `length` tells another one."""
    head = [f"HTTP/1.1 {status}", *fields]
    if not any(x.lower().startswith(("content-length:", "transfer-encoding:")) for x in fields):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join((*head, "", "")).encode("latin-1") + body


def record(call_id: str = "call-1", **members: Any) -> bytes:
    """The page's example as the record of `call_id`."""
    return json.dumps(example() | {"id": call_id} | members).encode()


def id_of(exchange: Exchange) -> str:
    """The id that is asked for, as it stands in the path."""
    return exchange.target.rsplit("/", 1)[-1]


def own(exchange: Exchange) -> bytes:
    """The right answer: the record that is asked for."""
    return http(record(id_of(exchange)))
