"""A body that turns into garbage when its head was read already; WireMock's faults found it."""

from __future__ import annotations

import aiohttp
import pytest

from calls_async import CallsClient, ProtocolError, RetryPolicy, Timeouts
from tests.rawserver import raw_server
from tests.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_garbage_after_the_head_ends_the_attempt_at_once():
    """It is a garbled answer, not a slow one: nobody waits for more of it."""
    seen = []

    async def script(exchange):
        exchange.send(HEAD)
        await until(lambda: seen)  # the client waits for the body by now
        exchange.send(b"][ this is no chunk")

    async def arrived(*_):
        seen.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(arrived)
    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        CallsClient(
            "sk_test_1",
            base_url=server.url,
            session=session,
            retry=RetryPolicy(max_attempts=1),
            timeouts=Timeouts(attempt=1.0),
        ) as client,
    ):
        with pytest.raises(ProtocolError):
            await client.get_call("call-1")
