"""The endpoint as a real server on this machine, for demos, tests and benchmarks.

The rule: what goes wrong really goes wrong on the socket. A reset is a reset, an answer is cut by
TCP, and every request that arrives is in the ledger, whatever becomes of it. (Only what is no HTTP
request at all never gets that far: aiohttp itself answers it with a 400.)
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, assert_never
from urllib.parse import unquote_to_bytes
from weakref import WeakSet

import attrs
from aiohttp import hdrs, web

from calls_async.testing.endpoint import Action, Endpoint
from calls_async.testing.plan import Break

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Sandbox"]

_HOST: Final = "127.0.0.1"
_GRACE: Final = 0.001
"""Seconds that requests in flight are given at the end. aiohttp takes 0 for "without limit"."""
_RESET_ON_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_BACKLOG: Final = 1024
"""Connections that may be opened at once; one too many would wait a second for its next try."""
_NO_HTTP: Final = b"\x15\x03\x01\x00\x02\x02\x50 this is no HTTP\r\n\r\n"


def _prefix(_: object, option: attrs.Attribute[Any], value: str) -> None:
    if value and (not value.startswith("/") or value.endswith("/")):
        raise ValueError(f"{option.name} must look like /gateway, not {value!r}")


@attrs.define(kw_only=True, eq=False)
class Sandbox(Endpoint):
    """The Calls API on 127.0.0.1: `async with Sandbox(max_rate=50) as sandbox: ...`.

    It may be stopped and started again, with the same port and the same ledger, as a server does in
    an outage. The options of `Endpoint` and `Plan` may be changed while it runs.

    Attributes:
        prefix: A path before `/v1`, as gateways have: `/gateway`.
        port: The port; 0 until it is started, unless a certain one is wished for.
    """

    prefix: str = attrs.field(default="", validator=_prefix)
    port: int = 0
    _runner: web.ServerRunner | None = attrs.field(default=None, init=False, repr=False)
    _used: WeakSet[asyncio.Transport] = attrs.field(
        factory=WeakSet[asyncio.Transport], init=False, repr=False
    )

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL.

        Raises:
            RuntimeError: The sandbox was never started.
        """
        if not self.port:
            raise RuntimeError("the sandbox has no address yet: use `async with Sandbox()`")
        return f"http://{_HOST}:{self.port}{self.prefix}"

    async def start(self) -> None:
        """Listen. The first start finds a free port, and the later ones take the same."""
        if self._runner is not None:
            raise RuntimeError("the sandbox runs already")
        # Without handler_cancellation a stalled request would outlive its client.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, _HOST, self.port, backlog=_BACKLOG).start()
        except OSError:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close every connection at once, requests in flight included, and stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # Where aiohttp lets bytes outside ASCII pass at all, they are lone surrogates here.
        raw = request.raw_path.encode("utf-8", "surrogateescape")
        action = self.receive(
            at=asyncio.get_running_loop().time(),
            path=raw.decode("ascii", "backslashreplace"),
            call_id=self._call_id(raw) if request.method == hdrs.METH_GET else None,
            authorization=request.headers.get(hdrs.AUTHORIZATION),
            fresh=self._is_fresh(request.transport),
        )
        try:
            if action.delay:
                await asyncio.sleep(action.delay)
            if action.breaks is not None:
                # Who has hung up in this very turn of the loop cannot be answered any more.
                with suppress(ConnectionError):
                    await _break(action.breaks, request, action)
                # The handler is cancelled as soon as the connection is gone.
                await asyncio.get_running_loop().create_future()
            return web.Response(status=action.status, headers=action.headers, body=action.body)
        finally:
            self.ledger.end()

    def _call_id(self, raw: bytes) -> str | None:
        """The id in this path; `None` if it is no call's."""
        path = raw.partition(b"?")[0]
        head = f"{self.prefix}/v1/calls/".encode()
        segment = path.removeprefix(head)
        if not path.startswith(head) or not segment or b"/" in segment:
            return None
        return unquote_to_bytes(segment).decode("utf-8", "replace")

    def _is_fresh(self, transport: asyncio.Transport | None) -> bool:
        if transport is None or transport in self._used:
            return False
        self._used.add(transport)
        return True


async def _break(how: Break, request: web.BaseRequest, action: Action) -> None:
    """Let the answer fail; aiohttp takes notice of what happens to its connection."""
    transport = request.transport
    if transport is None:  # the client has gone meanwhile
        return
    match how:
        case Break.RESET:
            # With a linger time of 0, closing a socket sends RST in place of FIN.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        case Break.CLOSE:
            transport.close()
        case Break.CUT:
            await _answer_half(request, action)
            transport.close()
        case Break.GARBAGE:
            transport.write(_NO_HTTP)
            transport.close()
        case Break.STALL:
            pass
        case Break.FREEZE:
            await _answer_half(request, action)
        case _:
            assert_never(how)


async def _answer_half(request: web.BaseRequest, action: Action) -> None:
    """The whole head, and half of the body."""
    response = web.StreamResponse(status=action.status, headers=action.headers)
    response.content_length = len(action.body)
    await response.prepare(request)
    await response.write(action.body[: len(action.body) // 2])
