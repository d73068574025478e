"""One connection of the lane; the rule: what is usual is read here, all else is aiohttp's to read.

A link is a connection that aiohttp's connector has opened and secured, with a protocol of ours put
in the place of aiohttp's. An ordinary answer (see `_head`) that is all there, and nothing behind
it, goes straight to who waits for it. At the first sign of anything else (another status, chunks,
a body too long, a cut) aiohttp's own protocol is put back, and given all that has come of the
answer so far. So every odd answer, and every way in which a connection can be lost, is read by the
parser, and ends in the errors, of the ordinary path.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from calls_async._wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

    from calls_async._transport._head import Fields, Heads

_ROOM: Final = 16_384
"""Bytes that are received at once: some records, and no more than the allocator has at hand."""
_answer: Final = cast(
    "Callable[[type[Answer], tuple[int, Fields, bytes, bool]], Answer]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType] (its stub leaves the elements open)
)
"""An `Answer` without the detour through its own `__new__`, which is written in Python."""


def new_room() -> memoryview:
    """Where to put what arrives."""
    return memoryview(bytearray(_ROOM))


def common_room(loop: asyncio.AbstractEventLoop) -> memoryview | None:
    """Where all links of an event loop can put what arrives; `None` if each needs its own.

    asyncio's selector loop and uvloop ask for a buffer when there is something to read, fill it,
    and tell of it, all at one go. So one buffer does for a thousand connections, and stays in the
    processor's cache. A proactor asks before there is anything, and any other loop may.
    """
    at_one_go = isinstance(loop, asyncio.SelectorEventLoop) or type(loop).__module__ == "uvloop"
    return new_room() if at_one_go else None


class Link(asyncio.BufferedProtocol):
    """A borrowed connection, for one request at a time.

    Args:
        connection: The connection, from now on the link's.
        heads: Reads heads.
        most: The longest body that is read here, in bytes.
        room: Where to put what arrives; see `common_room`. `None`: in one of its own.
        on_lost: Called with the link when it can no longer be used, while nobody uses it.
    """

    def __init__(
        self,
        connection: Connection,
        heads: Heads,
        most: int,
        room: memoryview | None,
        on_lost: Callable[[Link], None],
    ) -> None:
        transport, handler = connection.transport, connection.protocol
        assert transport is not None  # noqa: S101 (it has both until it is given back)
        assert handler is not None  # noqa: S101
        self.transport = transport
        self.handler: ResponseHandler = handler
        self.lost_by: Exception | None = None
        """What the connection was lost by, if that was an error."""
        self.rested = False
        """Whether it has been idle for a while."""
        self.connection = connection
        self._heads = heads
        self._most = most
        self._on_lost = on_lost
        self._room = new_room() if room is None else room
        self._waiter: asyncio.Future[Answer | None] | None = None
        self._go_on: Callable[[Answer], bool] | None = None
        # What has come of an answer whose body is not complete, and the bytes that make it so.
        self._came = bytearray()
        self._whole = 0
        # A server that has spoken unasked is left to aiohttp, which takes that for the answer.
        self.usable = not handler.should_close
        """Whether it can be used, and its protocol is ours."""
        if self.usable:
            transport.set_protocol(self)

    def expect(
        self,
        waiter: asyncio.Future[Answer | None],
        go_on: Callable[[Answer], bool] | None = None,
    ) -> None:
        """Tell `waiter` of the answer to the request that is about to be sent.

        Args:
            waiter: Gets the answer, or `None` if it is aiohttp's to read; see `handler`.
            go_on: Called with an answer that is read here. If it sends a request behind it, which
                it says, `waiter` waits for the answer to that.
        """
        self.rested = False
        self._go_on = go_on
        if self.usable:
            self._waiter = waiter
        else:
            self._let_read(waiter, b"")

    def take_back(self) -> bool:
        """After an answer that aiohttp has read: whether the connection can be used again."""
        if self.handler.should_close or self.transport.is_closing():
            return False
        self.usable = True
        self.transport.set_protocol(self)
        return True

    def give_back(self) -> None:
        """Let aiohttp's connector have the connection, to keep or to close it when it likes."""
        self._restore()
        self.connection.release()

    def close(self) -> None:
        """Close the connection, whatever is under way on it."""
        self._waiter = self._go_on = None
        self._restore()
        self.connection.close()

    # --- What the transport calls --------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the protocol's)
        """Where to put what arrives."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Something has arrived."""
        waiter = self._waiter
        if waiter is None or self._came:
            self._more(waiter, nbytes)
            return
        room = self._room
        read = self._heads.again(room, nbytes)
        if read is not None and read[0] + read[1] == nbytes and read[1] <= self._most:
            begin, _, fields, silent = read
            body = room[begin:nbytes].tobytes()
            self._read(waiter, _answer(Answer, (200, fields, body, silent)))
        else:
            self._begun(waiter, room[:nbytes].tobytes())

    def _begun(self, waiter: asyncio.Future[Answer | None], came: bytes) -> None:
        """The beginning of an answer has arrived, or all of it."""
        read = self._heads.read(came)
        if read is not None and read[1] <= self._most:
            begin, length, fields, silent = read
            self._whole = begin + length
            if self._whole == len(came):
                self._read(waiter, _answer(Answer, (200, fields, came[begin:], silent)))
                return
            if self._whole > len(came):
                self._came += came
                return
        self._let_read(waiter, came)

    def _more(self, waiter: asyncio.Future[Answer | None] | None, nbytes: int) -> None:
        """More of an answer has arrived, or something that nobody asked for."""
        if waiter is None:
            self._on_lost(self)
            self.close()
            return
        self._came += self._room[:nbytes]
        if len(self._came) < self._whole:
            return
        came, self._came = bytes(self._came), bytearray()
        read = self._heads.read(came)
        if read is None or len(came) > self._whole:
            self._let_read(waiter, came)
            return
        begin, _, fields, silent = read
        self._read(waiter, _answer(Answer, (200, fields, came[begin:], silent)))

    def eof_received(self) -> None:
        """The server will send no more."""
        waiter = self._waiter
        if waiter is None:
            self._on_lost(self)
            self.close()
        else:
            self._let_read(waiter, self._taken())
            self.handler.eof_received()

    def pause_writing(self) -> None:
        """The server does not read; aiohttp's protocol, which may be put back, has to know."""
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self.handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.lost_by = exc
        waiter = self._waiter
        if waiter is not None:
            self._let_read(waiter, self._taken())
        else:
            self._on_lost(self)
            self.usable = False
        # aiohttp's connector waits for this when it is closed.
        self.handler.connection_lost(exc)
        if waiter is None:
            self.connection.close()

    # --- Inside --------------------------------------------------------------------------------

    def _read(self, waiter: asyncio.Future[Answer | None], answer: Answer) -> None:
        """An answer has been read."""
        if self._go_on is not None and not waiter.done() and self._go_on(answer):
            return
        self._waiter = self._go_on = None
        if not waiter.done():
            waiter.set_result(answer)

    def _let_read(self, waiter: asyncio.Future[Answer | None], came: bytes) -> None:
        """Have aiohttp read this answer."""
        self._waiter = self._go_on = None  # or a connection at rest would keep a batch that is over
        self._restore()
        # As aiohttp's session does, without its decoders: see `_unpack`.
        self.handler.set_response_params(read_until_eof=True, auto_decompress=False)
        if came:
            self.handler.data_received(came)
        if not waiter.done():
            waiter.set_result(None)

    def _taken(self) -> bytes:
        """What has come so far, which is no longer kept."""
        came = bytes(self._came)
        self._came = bytearray()
        return came

    def _restore(self) -> None:
        if self.usable:
            self.usable = False
            self._came = bytearray()
            self.transport.set_protocol(self.handler)
