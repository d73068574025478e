"""Hands out connections; the rule: none on which something arrived that nobody had asked for.

aiohttp gives an answer that came on an idle connection to the next request. Another call's record
is found out by its id, but a stray 404 or 401 carries none: it would deny a call that exists, or
end a whole batch. So such a connection is closed, as Go's client does. Left is the answer that
arrives together with the next request: HTTP/1.1 cannot tell that one from the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class Connector(aiohttp.TCPConnector):
    """aiohttp's own connector, apart from that.

    It sets no limit, because the permits are one: aiohttp would count the wait for a connection
    against the request.
    """

    def __init__(self) -> None:
        super().__init__(limit=0)  # pyright: ignore[reportUnknownMemberType] (aiohttp's own gap)
        self._used: WeakSet[object] = WeakSet()

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> Connection:
        """A connection for this request, from the idle ones or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 (it has one until it is released)
            # A new one is taken as it is: with a server that speaks first this would never end.
            if protocol not in self._used or not protocol.should_close:
                self._used.add(protocol)
                return connection
            connection.close()
