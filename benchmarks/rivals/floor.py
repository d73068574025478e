"""Sockets by hand; the rule: what asyncio itself costs, for an answer that is as expected.

There is no pool, no limit, no timeout and no error but an exception: it is what any client of
asyncio's has to pay at least, and no client.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from benchmarks.target import HEADERS, Run, Target
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence


class Wire(asyncio.Protocol):
    """One connection, and what came on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._waiter: asyncio.Future[bytes] | None = None

    def get(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a request; the body of its answer."""
        self._waiter = waiter = self._loop.create_future()
        self.transport.write(request)
        return waiter

    def data_received(self, data: bytes) -> None:
        """Hand the body over once it is complete."""
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            self._received = received
            return
        place = received.index(b"Content-Length: ", 0, end) + 16
        length = int(received[place : received.index(b"\r", place)])
        body = received[end + 4 :]
        if len(body) < length:
            self._received = received
            return
        assert received.startswith(b"HTTP/1.1 200 ")
        assert len(body) == length
        self._received = b""
        assert self._waiter is not None
        self._waiter.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for ever."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError())


@asynccontextmanager
async def floor(
    target: Target, decode: Callable[[bytes], object] = decode_call
) -> AsyncGenerator[Run]:
    """A connection for each worker, which stays open between batches."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(target.url)
    wires = [
        (await loop.create_connection(Wire, parts.hostname, parts.port, ssl=target.context()))[1]
        for _ in range(target.width)
    ]
    fields = {"Host": parts.netloc, **HEADERS}
    before = f"GET {parts.path}/v1/calls/"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    after = f" HTTP/1.1\r\n{lines}\r\n"

    async def run(ids: Sequence[str]) -> list[Any]:
        results: list[Any] = [None] * len(ids)
        numbered = iter(enumerate(ids))

        async def work(wire: Wire) -> None:
            for place, call_id in numbered:
                body = await wire.get(f"{before}{call_id}{after}".encode())
                results[place] = decode(body)

        await asyncio.gather(*map(work, wires))
        return results

    yield run
    for wire in wires:
        wire.transport.abort()


def floor_unread(target: Target) -> Any:
    """The same; nothing is parsed, and the body is kept."""
    return floor(target, bytes)
