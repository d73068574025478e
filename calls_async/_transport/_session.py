"""The ordinary transport; the rule: one `get` is one request.

What aiohttp would do on its own is switched off, so that nothing is sent or followed that the
client did not decide: redirects, cookies, netrc, environment proxies, its timeouts, its decoders
and its hidden second try of a GET. In a relay, one pass through the session sends many requests;
see `_series`. An injected session keeps its own cookies, headers, proxy,
connector and middlewares, which are its owner's decisions. What aiohttp raises becomes a value of
ours in the error table.

The modules beside this one and it are the only door to aiohttp.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from calls_async._ids import path_segment
from calls_async._transport._connector import Connector, ended_with_its_connection
from calls_async._transport._reading import answer_with, has_come_whole, read_answer
from calls_async._transport._request import calls_path, proxy_of, request_headers
from calls_async._transport._series import Series, can_have_series, single_try
from calls_async._transport._translate import translated
from calls_async.errors import ConfigurationError, ConnectError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from ssl import SSLContext

    from calls_async._secret import ApiKey
    from calls_async._transport import Next
    from calls_async._wire import Answer
    from calls_async.errors import TransportError

UNTIMED: Final = aiohttp.ClientTimeout()
"""The caller times the attempt; aiohttp's own total would count the wait for a connection too."""


class SessionTransport:
    """Sends requests through an `aiohttp.ClientSession`: one of its own, or one that is injected.

    Args:
        base_url: What `/v1/calls/{id}` is appended to, without a slash at its end.
        max_body_bytes: The longest body that is read, in bytes.
        headers: The caller's own headers.
        user_agent: The `User-Agent` header.
        session: An injected session, which is used and never closed.
        ssl: The TLS context; `None`: the system's authorities and aiohttp's defaults.
        proxy: The URL of a proxy.
        trust_env: Whether the environment may name the proxy, where `proxy` does not and the base
            URL is no loopback host. netrc is never read: the only credential is the key.
    """

    name = "session"

    def __init__(
        self,
        *,
        base_url: str,
        max_body_bytes: int,
        headers: Mapping[str, str],
        user_agent: str,
        session: aiohttp.ClientSession | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
    ) -> None:
        _check_session(session)
        self._base_url = URL(base_url)
        self._prefix = calls_path(self._base_url)
        self._max_body_bytes = max_body_bytes
        self._headers = request_headers(headers, user_agent)
        self._ssl: SSLContext | bool = True if ssl is None else ssl
        self._proxy = proxy_of(base_url, proxy, trust_env=trust_env)
        self._injected = None if session is None else self._injected_pool(session)
        self._pool: _Pool | None = self._injected
        self._retired: set[_Pool] = set()

    async def get(
        self,
        call_id: str,
        key: ApiKey,
        headers: Mapping[str, str] | None = None,
        *,
        fresh: bool = False,
        following: Next | None = None,
    ) -> Answer | TransportError:
        """Send one request and read the whole answer; see `Transport.get`.

        With `following` others are sent behind it; see `RelayTransport.relay`.
        """
        pool = self._take_pool(fresh=fresh)
        if pool is self._injected and pool.session.closed:
            return ConnectError("the injected session is closed: its owner did that too early")
        series = None if following is None else self._series(pool, following)
        options: dict[str, Any] = {} if series is None else {"middlewares": (series,)}
        pool.users += 1
        try:
            # The headers are no local of this frame: tools that show locals would show the key.
            response = await pool.session.get(
                self._url_of(call_id),
                headers={**pool.headers, hdrs.AUTHORIZATION: key.authorization()}
                if headers is None
                else {**pool.headers, **headers, hdrs.AUTHORIZATION: key.authorization()},
                allow_redirects=False,
                ssl=self._ssl,
                **{**pool.options, **options},
            )
            if series is not None and series.last is not None:
                return series.last
            content = response.content
            if has_come_whole(response):
                return answer_with(
                    content.read_nowait(), response.status, response.headers, self._max_body_bytes
                )
            async with response:
                with ended_with_its_connection(content, response.connection):
                    return await read_answer(
                        content, response.status, response.headers, self._max_body_bytes
                    )
        except Exception as exc:  # noqa: BLE001 (whatever it is, it must not escape)
            return translated(exc, key)
        except BaseException as exc:
            # Who cancels may chain this, and show the locals of aiohttp's frames: the headers.
            exc.__traceback__ = None
            raise
        finally:
            pool.users -= 1
            if self._retired:
                await self._close_unused()

    def relay(
        self, call_id: str, key: ApiKey, following: Next
    ) -> Awaitable[Answer | TransportError]:
        """Send requests one behind the other; see `RelayTransport.relay`."""
        return self.get(call_id, key, following=following)

    def _series(self, pool: _Pool, following: Next) -> Series | None:
        """What sends many requests in one pass; `None` if the session has to see each of them."""
        if not (pool.is_plain and can_have_series(pool.session)):
            return None
        return Series(
            pool.session,
            following,
            url_of=self._url_of,
            is_trusted=lambda: pool is self._pool,
            most=self._max_body_bytes,
        )

    def _url_of(self, call_id: str) -> URL:
        return self._base_url.with_path(self._prefix + path_segment(call_id), encoded=True)

    def _take_pool(self, *, fresh: bool) -> _Pool:
        """The session to use, with its connections; opened when it is first needed."""
        if fresh and self._pool is not None and self._pool.owned:
            # A connection that brought another id's record stays one answer behind for ever, so
            # none of those at hand is used again. An injected session's are not ours to drop.
            self._retired.add(self._pool)
            self._pool = None
        if self._pool is None:
            self._pool = self._open_pool()
        return self._pool

    def _open_pool(self) -> _Pool:
        """A session of its own, which knows by itself what all requests have in common.

        To say it with each request costs more. Only the key is never among its defaults; nor is
        the rest where there is a proxy, because aiohttp tells a proxy all of them.
        """
        nothing = CIMultiDict[str]()
        known, said = (nothing, self._headers) if self._proxy else (self._headers, nothing)
        session = aiohttp.ClientSession(
            connector=Connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=known,
            auto_decompress=False,
            timeout=UNTIMED,
            proxy=self._proxy,
            middlewares=(single_try,),
        )
        return _Pool(session, headers=said, options={}, owned=True)

    def _injected_pool(self, session: aiohttp.ClientSession) -> _Pool:
        """The caller's session, whose own settings each request of ours replaces."""
        # A request's own middlewares replace the session's, and aiohttp has no public name for
        # those: without this read an injected session would silently lose its own.
        theirs: Sequence[aiohttp.ClientMiddlewareType] = getattr(session, "_middlewares", ())
        options = {
            "raise_for_status": False,
            "auto_decompress": False,
            "timeout": UNTIMED,
            "proxy": self._proxy,
            # Ours is outermost, next to aiohttp's loop, so that theirs meet aiohttp's own
            # exceptions and what they raise is not tried again either.
            "middlewares": (single_try, *theirs),
        }
        return _Pool(
            session, headers=self._headers, options=options, owned=False, is_plain=not theirs
        )

    async def _close_unused(self) -> None:
        """Close the retired sessions that no request is using any more."""
        unused = [pool for pool in self._retired if not pool.users]
        self._retired.difference_update(unused)
        if unused:
            await close_all(pool.session.close for pool in unused)

    async def close(self) -> None:
        """Close every connection of its own; see `Transport.close`."""
        pools = [*self._retired, *([self._pool] if self._pool else [])]
        self._retired.clear()
        self._pool = self._injected
        await close_all(pool.session.close for pool in pools if pool.owned)


def _check_session(session: object) -> None:
    if session is None:
        return
    if not isinstance(session, aiohttp.ClientSession):
        kind = type(session).__name__
        raise ConfigurationError(f"session must be an aiohttp.ClientSession, not {kind}")
    if session.auth is not None:  # aiohttp would refuse every request that names both
        raise ConfigurationError("session has an auth= of its own, but Authorization is the key's")


class _Pool:
    """A session and what hangs on it.

    Attributes:
        session: The session.
        headers: What each request says beside the key, where the session does not say it.
        options: How each request is sent, where the session does not know it.
        owned: Whether it is ours to close.
        is_plain: Whether it has no middlewares but ours.
        users: Requests in flight on it.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        headers: Mapping[str, str],
        options: dict[str, Any],
        owned: bool,
        is_plain: bool = True,
    ) -> None:
        self.session = session
        self.headers = headers
        self.options = options
        self.owned = owned
        self.is_plain = is_plain
        self.users = 0


async def close_all(closes: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Close all of these sessions or connectors, also if it is cancelled meanwhile.

    aiohttp closes the connections first, and then waits until they are gone. So if each gets its
    turn, a cancellation costs no more than one of these waits.
    """
    async with AsyncExitStack() as closing:
        for close in closes:
            closing.push_async_callback(close)


if TYPE_CHECKING:
    from calls_async._transport import RelayTransport

    _conforms: type[RelayTransport] = SessionTransport
