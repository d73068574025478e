"""Requests one behind the other through a session; the rule: what all have in common is made once.

A session makes for each request a URL, headers, cookies, a proxy, a timeout and a request anew,
which is more than a quarter of what the request costs. But a client middleware of aiohttp's may
call its handler as often as it likes, and change the request before: retries are written so. A
series is a middleware that, where an answer is ordinary, gives the request the URL of the next id,
and lets its handler send it.

Only what is the same for each of the requests may be left out. So an injected session with
middlewares, traces, cookies, a proxy, or a class of its own for requests is asked for each of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs

from calls_async._transport._mocks import is_mocked
from calls_async._transport._reading import answer_with, has_come_whole
from calls_async._transport._translate import lost
from calls_async._wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from yarl import URL

    from calls_async._transport import Next
    from calls_async.errors import TransportError


async def single_try(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET a second time when a kept-alive connection was lost."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and aiohttp does not try these again
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        disconnect = lost(exc, exc.__cause__)
    raise disconnect  # out here, so that aiohttp's exception is not its context


def can_have_series(session: aiohttp.ClientSession) -> bool:
    """Whether a session may do nothing for each request that a series would leave out.

    What may change meanwhile is looked at with each answer, and its own middlewares by the caller.
    """
    return (
        type(session) is aiohttp.ClientSession
        and type(session.cookie_jar) in {aiohttp.CookieJar, aiohttp.DummyCookieJar}
        and not is_mocked()  # a mock may copy what it is given, and a series has the session
    )


class Series:
    """The middleware of the requests of one relay.

    Args:
        session: The session.
        following: See `RelayTransport.relay`.
        url_of: The URL of an id.
        is_trusted: Whether the session's connections are still to be used.
        most: The longest body that is read, in bytes.

    Attributes:
        last: The last answer, or why it could not be read, if that was done here.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        following: Next,
        *,
        url_of: Callable[[str], URL],
        is_trusted: Callable[[], bool],
        most: int,
    ) -> None:
        self.last: Answer | TransportError | None = None
        self._session = session
        self._cookies = session.cookie_jar
        self._headers = session.headers.copy()
        self._following = following
        self._url_of = url_of
        self._is_trusted = is_trusted
        self._most = most

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and those behind it; the response to the last one."""
        while True:
            response = await single_try(request, handler)
            if not self._is_ordinary(request, response):
                return response
            headers = response.headers
            body = response.content.read_nowait()
            self.last = came = answer_with(body, response.status, headers, self._most)
            if not isinstance(came, Answer) or (call_id := self._following(came)) is None:
                return response
            self.last = None
            request.url = request.original_url = self._url_of(call_id)

    def _is_ordinary(
        self, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse
    ) -> bool:
        """Whether an answer is a 200 that came at one go, and another request may follow it."""
        session = self._session
        return (
            response.status == HTTPStatus.OK
            and has_come_whole(response)
            # Without cookies the session would give and take none with the next request either.
            and not len(self._cookies)
            and hdrs.COOKIE not in request.headers
            and hdrs.SET_COOKIE not in response.headers
            and session.headers == self._headers
            and not session.trace_configs
            and type(request) is aiohttp.ClientRequest
            # To its headers aiohttp adds one, by which it no longer knows the connection again.
            and request.proxy is None
            and self._is_trusted()
            and not session.closed
            and not is_mocked()
        )
