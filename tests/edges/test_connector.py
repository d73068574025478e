"""What is added to aiohttp's connector, where the transports' own tests do not go through it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from calls_async import _transport
from calls_async._secret import ApiKey
from calls_async._transport._connector import Connector
from tests.rawserver import raw_server
from tests.waiting import until

KEY = ApiKey("sk_test_of_the_connector")


@pytest.mark.parametrize("kind", ["LaneTransport", "SessionTransport"])
async def test_a_close_that_is_cancelled_at_once_leaves_no_complaint(monkeypatch, kind):
    """A connection may be reset at the same moment, and asyncio wants somebody to look at that."""
    wires, told = [], []
    connect = Connector.connect

    async def connected(self, *given, **named):
        connection = await connect(self, *given, **named)
        wires.append(connection.transport)
        return connection

    monkeypatch.setattr(Connector, "connect", connected)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with raw_server(lambda exchange: exchange.hung_up()) as server:
        transport = getattr(_transport, kind)(
            base_url=server.url, max_body_bytes=1_000, headers={}, user_agent="test"
        )
        request = asyncio.ensure_future(transport.get("call-1", KEY))
        await until(lambda: server.requests)
        # As asyncio does when it reads from a connection that was reset; it tells the protocol of
        # that in the next turn of the loop.
        reset = ConnectionResetError(104, "Connection reset by peer")
        asyncio.get_running_loop().call_soon(wires[0]._fatal_error, reset)
        closing = asyncio.ensure_future(transport.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, request])
        assert closing.cancelled()
        del request, closing
        wires.clear()
        gc.collect()
        await asyncio.sleep(0)
    assert told == []
