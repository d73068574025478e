"""What aiohttp's connections lack; the rule: one gives the answer to its own request, or fails.

An answer that came on an idle connection goes to the next request. Another call's record is found
out by its id, but a stray 404 or 401 carries none: it would deny a call that exists, or end a whole
batch. So such a connection is closed, as Go's client does. Left is the answer that arrives together
with the next request: HTTP/1.1 cannot tell that one from the right one.

And when aiohttp's parser gives up in the middle of a chunked body, it closes the connection and
tells nobody: who reads would wait for the rest until the attempt times out.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Generator

    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace


class Connector(aiohttp.TCPConnector):
    """aiohttp's own, except that it hands out no connection on which something came unasked.

    It sets no limit, because the permits are one: aiohttp would count the wait for a connection
    against the request. And a fork's child leaves it alone: when its copy there is collected,
    aiohttp would close the connections. They are the parent's, which would no longer be told of
    what arrives on them, because the selector is common to both.
    """

    def __init__(self) -> None:
        super().__init__(limit=0)  # pyright: ignore[reportUnknownMemberType] (aiohttp's own gap)
        self._used: WeakSet[ResponseHandler] = WeakSet()
        self._process = os.getpid()

    def __del__(self, *args: Any, **options: Any) -> None:
        if self._process == os.getpid():
            super().__del__(*args, **options)

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> Connection:
        """A connection for this request, from the idle ones or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 (it has one until it is released)
            # A new one is taken as it is: with a server that speaks first this would never end.
            if protocol not in self._used:
                self._used.add(protocol)
                _receive_in_small_pieces(connection.transport)
                return connection
            if not protocol.should_close:
                return connection
            connection.close()

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, and wait until they are gone.

        aiohttp waits in a task, and a cancellation may reach that before its first step. Then
        nobody would look at how the connections were lost, of which asyncio complains.
        """
        for protocol in self._used:
            if (lost := protocol.closed) is not None:
                lost.add_done_callback(_heard)
        await super().close(abort_ssl=abort_ssl)


_PIECE: Final = 64 * 1024
"""Bytes; less than what glibc's allocator asks the system for each time, 128 KiB."""


def _receive_in_small_pieces(transport: Any) -> None:
    """Spare the allocator, where it is asyncio's own transport that receives, without TLS.

    It makes room for `max_size` bytes each time that something arrives, 256 KiB by default, and
    gives back what is left over. To map so much and to let go of it again takes longer than to
    receive a record. uvloop's transports and those of TLS have no such attribute, nor the cost.
    """
    if isinstance(getattr(transport, "max_size", None), int):
        transport.max_size = _PIECE


@contextmanager
def ended_with_its_connection(
    content: aiohttp.StreamReader, connection: Connection | None
) -> Generator[None]:
    """Let reading the body fail when the connection is gone and the body is not complete."""
    # Where nothing is missing any more, it is not asked for the future: asyncio complains of an
    # exception that it is given later, and that nobody looks at.
    protocol = None if connection is None or content.is_eof() else connection.protocol
    lost = None if protocol is None else protocol.closed
    if lost is None:
        yield
        return

    def end(_: Future[None]) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the rest could not be read"))

    # One is enough for all answers of a connection.
    lost.remove_done_callback(_heard)
    lost.add_done_callback(_heard)
    lost.add_done_callback(end)
    try:
        yield
    finally:
        lost.remove_done_callback(end)


def _heard(lost: Future[None]) -> None:
    """Take note of how a connection was lost, for asyncio complains if nobody does."""
    if not lost.cancelled():
        lost.exception()


class _Loan(Connection):
    """A connection that is kept beyond a request; a fork's child does not give it back either.

    aiohttp complains of one that is collected, and closes it. See `Connector` for what that would
    do to the parent.
    """

    process: int

    def __del__(self, *args: Any, **options: Any) -> None:
        if self.process == os.getpid():
            super().__del__(*args, **options)


def lent(connection: Connection) -> Connection:
    """The same connection, to be kept for longer than a request."""
    # aiohttp makes it, and has no place to say of which class.
    connection.__class__ = _Loan
    loan = cast("_Loan", connection)
    loan.process = os.getpid()
    return loan
