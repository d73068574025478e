"""The lane; the rule: as the session transport, for a fraction of its price.

aiohttp's connector opens, secures and proxies the connections, and its parser reads whatever is
unusual. Between them a session does much that this client has no use for: it makes a URL, a
request, a writer, a parser, a stream and a response for each call. The lane keeps its connections
at hand, writes a request as one text, and reads an ordinary answer itself; see `_link`.

A connection that has rested for a while is given back to the connector, and one that has seen
anything which is not an answer to its own request is closed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from calls_async._ids import path_segment
from calls_async._transport._connector import Connector, ended_with_its_connection, lent
from calls_async._transport._head import Heads
from calls_async._transport._link import Link, common_room
from calls_async._transport._mocks import is_mocked
from calls_async._transport._reading import read_answer
from calls_async._transport._request import calls_path, request_headers
from calls_async._transport._session import UNTIMED, close_all
from calls_async._transport._translate import lost, translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from ssl import SSLContext

    from calls_async._secret import ApiKey
    from calls_async._transport import Next
    from calls_async._wire import Answer
    from calls_async.errors import TransportError

_REST: Final = 1.0
"""Seconds after which a connection that nobody used goes back to aiohttp's connector, at the
earliest; at the latest it is twice as long. aiohttp closes it when it has been idle for longer."""


_END: Final = "\r\n\r\n"
"""What ends the last field, and the head."""


def _lines(headers: Mapping[str, str]) -> str:
    """Further fields behind another one, and the end of the head."""
    return "".join(f"\r\n{name}: {value}" for name, value in headers.items()) + _END


class LaneTransport:
    """Sends requests over connections that it borrows from a connector of aiohttp's.

    Args:
        base_url: What `/v1/calls/{id}` is appended to, without a slash at its end.
        max_body_bytes: The longest body that is read, in bytes.
        headers: The caller's own headers.
        user_agent: The `User-Agent` header.
        ssl: The TLS context; `None`: the system's authorities and aiohttp's defaults.
        proxy: The URL of a proxy, which https goes through by CONNECT.
    """

    name = "lane"

    def __init__(
        self,
        *,
        base_url: str,
        max_body_bytes: int,
        headers: Mapping[str, str],
        user_agent: str,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        url = URL(base_url)
        self._url = url.with_path(calls_path(url), encoded=True)
        self._max_body_bytes = max_body_bytes
        self._headers = request_headers(headers, user_agent)
        self._ssl: SSLContext | bool = True if ssl is None else ssl
        self._proxy = proxy
        self._heads = Heads()
        self._pool: _Pool | None = None
        self._retired: set[_Pool] = set()

    async def get(
        self,
        call_id: str,
        key: ApiKey,
        headers: Mapping[str, str] | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 (by its place; its name would cost each call)
        following: Next | None = None,
    ) -> Answer | TransportError:
        """Send one request and read the whole answer; see `Transport.get`.

        With `following` others are sent behind it; see `RelayTransport.relay`.
        """
        pool = self._pool
        if pool is None or fresh:
            pool = self._renewed()
        link = None
        pool.users += 1
        try:
            link = pool.taken() or await self._connected(pool)
            waiter = pool.create_future()
            link.expect(
                waiter, None if following is None else partial(_go_on, link, pool, key, following)
            )
            # One expression, because tools that show a frame's locals would show the key.
            link.transport.write(
                f"{pool.before}{path_segment(call_id)}{pool.after}"
                f"{key.authorization()}{_END if headers is None else _lines(headers)}".encode()
            )
            answer: Answer | TransportError | None = await waiter
            if answer is None:
                answer = await self._read(link, pool.request)
        except BaseException as exc:
            if link is not None:
                link.close()
            if not isinstance(exc, Exception):
                # An interrupt may come while the transport writes, whose frame has the request.
                exc.__traceback__ = None
                raise
            return translated(exc, key)
        else:
            if link.usable and not pool.is_retired:
                pool.idle.append(link)
            else:
                link.close()
            return answer
        finally:
            pool.users -= 1
            if self._retired:
                await self._close_unused()

    def relay(
        self, call_id: str, key: ApiKey, following: Next
    ) -> Awaitable[Answer | TransportError]:
        """Send requests one behind the other; see `RelayTransport.relay`."""
        return self.get(call_id, key, None, False, following)

    async def _connected(self, pool: _Pool) -> Link:
        """A connection that nobody uses: one of the connector's idle ones, or a new one."""
        connection = await pool.connector.connect(pool.request, [], UNTIMED)
        pool.watch()
        return Link(lent(connection), self._heads, self._max_body_bytes, pool.room, pool.forget)

    async def _read(self, link: Link, request: aiohttp.ClientRequest) -> Answer | TransportError:
        """Read an answer through aiohttp, which has its beginning."""
        handler = link.handler
        try:
            while True:
                message, content = await handler.read()
                if not 100 <= message.code <= 199 or message.code == HTTPStatus.SWITCHING_PROTOCOLS:
                    break  # an interim answer is none; after a 101, HTTP is over
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
            raise lost(exc, link.lost_by) from None
        except HttpProcessingError as exc:
            # aiohttp's sessions say it so.
            raise aiohttp.ClientResponseError(
                request.request_info, (), status=exc.code, message=exc.message
            ) from None
        with ended_with_its_connection(content, link.connection):
            answer = await read_answer(content, message.code, message.headers, self._max_body_bytes)
        if not content.is_eof() or not link.take_back():
            link.close()
        return answer

    def _renewed(self) -> _Pool:
        """A pool of new connections; those of the old one are trusted no longer."""
        if self._pool is not None:
            self._pool.retire()
            self._retired.add(self._pool)
        loop = asyncio.get_running_loop()
        self._pool = _Pool(
            loop,
            aiohttp.ClientRequest(
                hdrs.METH_GET,
                self._url,
                headers=self._headers,
                loop=loop,
                ssl=self._ssl,
                proxy=None if self._proxy is None else URL(self._proxy),
            ),
        )
        return self._pool

    async def _close_unused(self) -> None:
        """Close the connectors of retired pools that no request is using any more."""
        unused = [pool for pool in self._retired if not pool.users]
        self._retired.difference_update(unused)
        await close_all(pool.connector.close for pool in unused)

    async def close(self) -> None:
        """Close every connection; see `Transport.close`."""
        pools = [*self._retired, *([self._pool] if self._pool else [])]
        self._retired.clear()
        self._pool = None
        for pool in pools:
            pool.retire()
        await close_all(pool.connector.close for pool in pools)


def _go_on(link: Link, pool: _Pool, key: ApiKey, following: Next, answer: Answer) -> bool:
    """Send the request that follows on an answer, on the same connection; whether there is one."""
    if pool.is_retired or is_mocked() or (call_id := following(answer)) is None:
        return False
    try:
        link.transport.write(
            f"{pool.before}{path_segment(call_id)}{pool.after}{key.authorization()}{_END}".encode()
        )
    except BaseException as exc:
        exc.__traceback__ = None  # see `LaneTransport.get`
        raise
    return True


class _Pool:
    """The connections that are trusted alike.

    Attributes:
        connector: Where they come from.
        request: What all requests have in common, as aiohttp writes it.
        before: A request's text up to the id.
        after: Its text from there to the key.
        idle: Those that nobody uses; the one used last is used next, so that the others may rest.
        users: Requests under way.
        is_retired: Whether none is to be used again.
        create_future: Makes what a request waits for.
        room: Where they put what arrives; `None` if each has a room of its own.

    Args:
        loop: The event loop.
        request: See above.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, request: aiohttp.ClientRequest) -> None:
        self.connector = Connector()
        self.request = request
        self.before = f"{request.method} {request.url.raw_path_qs}"
        fields = [*request.headers.items(), (hdrs.AUTHORIZATION, "")]
        lines = "\r\n".join(f"{name}: {value}" for name, value in fields)
        self.after = f" HTTP/1.1\r\n{lines}"
        self.idle: list[Link] = []
        self.users = 0
        self.is_retired = False
        self.create_future: Callable[[], asyncio.Future[Answer | None]] = loop.create_future
        self.room = common_room(loop)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """See to it that connections which rest are given back."""
        if self._timer is None:
            self._timer = self._loop.call_later(_REST, self._rest)

    def taken(self) -> Link | None:
        """A connection that was idle; `None` if there is none."""
        while self.idle:
            link = self.idle.pop()
            if not link.transport.is_closing():
                return link
            link.close()  # it is lost, and will hear of it in this turn of the loop
        return None

    def forget(self, link: Link) -> None:
        """Use a connection no longer: it is lost, or something came on it unasked."""
        if link in self.idle:
            self.idle.remove(link)

    def retire(self) -> None:
        """Keep no connection any more; who closes the connector waits until all are gone."""
        self.is_retired = True
        if self._timer is not None:
            self._timer.cancel()
        while self.idle:
            self.idle.pop().give_back()

    def _rest(self) -> None:
        """Give back what nobody has used since this was last called."""
        self._timer = None
        idle, self.idle[:] = self.idle[:], [link for link in self.idle if not link.rested]
        for link in idle:
            if link.rested:
                link.give_back()
            link.rested = True
        if self.idle or self.users:
            self.watch()


if TYPE_CHECKING:
    from calls_async._transport import RelayTransport

    _conforms: type[RelayTransport] = LaneTransport
