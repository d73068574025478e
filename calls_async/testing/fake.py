"""The endpoint without sockets, behind the `Transport` protocol; the rule: no value is new.

Whatever a test gets from the fake, the session transport would have given it too, for the same
fault. The contract tests hold both to that. The fake is quick, keeps nothing per call, and works in
virtual time.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import quote

import attrs
from multidict import CIMultiDict

from calls_async._wire import Answer
from calls_async.client import CallsClient
from calls_async.errors import ConnectError, ProtocolError, TransportError
from calls_async.testing.endpoint import SANDBOX_KEY, Endpoint
from calls_async.testing.plan import Break

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calls_async._secret import ApiKey
    from calls_async._transport import Next, Transport

__all__ = ["FakeTransport", "fake_client"]


@attrs.define(kw_only=True, eq=False)
class FakeTransport(Endpoint):
    """A `Transport` that answers as the sandbox would, with the options of `Endpoint` and `Plan`.

    Attributes:
        reachable: Whether connections can be opened; what is refused never arrives and is not in
            the ledger.
    """

    reachable: bool = True
    _closing: asyncio.Event = attrs.field(factory=asyncio.Event, init=False, repr=False)

    @property
    def name(self) -> str:
        """What `Statistics.transport` says."""
        return "fake"

    async def get(
        self,
        call_id: str,
        key: ApiKey,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 (nothing of it is decided by them)
        *,
        fresh: bool = False,
    ) -> Answer | TransportError:
        """Answer one request; see `Transport.get`."""
        # Give way, as every real request does, even where there is nothing to wait for.
        await asyncio.sleep(0)
        if not self.reachable:
            return ConnectError("no connection could be opened: the fake server is unreachable")
        action = self.receive(
            at=asyncio.get_running_loop().time(),
            path=f"/v1/calls/{quote(call_id, safe='')}",
            call_id=call_id,
            authorization=key.authorization(),
            fresh=fresh,
        )
        try:
            if action.delay and await self._closed_within(action.delay):
                return _lost("the transport was closed")
            match action.breaks:
                case None:
                    return Answer(
                        status=action.status,
                        headers=CIMultiDict(action.headers),
                        body=action.body,
                    )
                case Break.RESET | Break.CLOSE | Break.CUT:
                    return _lost(action.breaks)
                case Break.GARBAGE:
                    return ProtocolError("the answer was cut or garbled")
                case Break.STALL | Break.FREEZE:
                    await self._closing.wait()
                    return _lost("the transport was closed")
                case _:
                    assert_never(action.breaks)
        finally:
            self.ledger.end()

    async def relay(self, call_id: str, key: ApiKey, following: Next) -> Answer | TransportError:
        """Answer requests one behind the other; see `RelayTransport.relay`."""
        return await relayed(self, call_id, key, following)

    async def close(self) -> None:
        """End the requests in flight; later ones are answered again, as with the real one."""
        self._closing.set()
        self._closing = asyncio.Event()

    async def _closed_within(self, seconds: float) -> bool:
        """Whether the transport is closed before so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False


async def relayed(
    transport: Transport, call_id: str, key: ApiKey, following: Next
) -> Answer | TransportError:
    """What `RelayTransport.relay` comes to, by a transport that answers one request at a time."""
    while True:
        came = await transport.get(call_id, key)
        if not isinstance(came, Answer) or came.status != HTTPStatus.OK:
            return came
        if (after := following(came)) is None:
            return came
        call_id = after


def _lost(how: str) -> ProtocolError:
    return ProtocolError(f"the connection was lost before the answer was complete: {how}")


def fake_client(transport: Transport | None = None, **options: Any) -> CallsClient:
    """A client over a fake transport, or over any other.

    Args:
        transport: The transport; `None`: a new `FakeTransport` without faults.
        options: The options of `CallsClient`. A key and a base URL need not be given.
    """
    given = {"api_key": SANDBOX_KEY, "base_url": "http://127.0.0.1"} | options
    over = FakeTransport() if transport is None else transport
    # The one private door of the client, made for this module: users have no transport to choose.
    return CallsClient._over(over, **given)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
