"""Which transport serves a client; the rule: the lane, wherever it does all that a session would.

A session that the caller gives has cookies, headers, middlewares, traces and timeouts of its own,
some without a public name, so that only it can honour them. A plain http request through a proxy
has another form. And a test may have mocked aiohttp's session, which a lane would go past; see
`_mocks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yarl import URL

from calls_async._transport._lane import LaneTransport
from calls_async._transport._mocks import is_mocked
from calls_async._transport._request import proxy_of
from calls_async._transport._session import SessionTransport, close_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from aiohttp import ClientSession

    from calls_async._secret import ApiKey
    from calls_async._transport import Next, RelayTransport, Transport
    from calls_async._wire import Answer
    from calls_async.errors import TransportError


def open_transport(
    *,
    session: ClientSession | None,
    base_url: str,
    proxy: str | None,
    trust_env: bool,
    **options: Any,
) -> Transport:
    """The transport for a client's options; see `SessionTransport` for what they are."""
    ordinary = SessionTransport(
        session=session, base_url=base_url, proxy=proxy, trust_env=trust_env, **options
    )
    proxy = proxy_of(base_url, proxy, trust_env=trust_env)
    if session is not None or (proxy is not None and URL(base_url).scheme == "http"):
        return ordinary
    return UnmockedLane(LaneTransport(base_url=base_url, proxy=proxy, **options), ordinary)


class UnmockedLane:
    """The lane, and the session transport in its place while a test has mocked aiohttp's session.

    Args:
        lane: The one.
        ordinary: The other.
    """

    def __init__(self, lane: LaneTransport, ordinary: SessionTransport) -> None:
        self._lane = lane
        self._ordinary = ordinary

    @property
    def name(self) -> str:
        """The name of the one that serves now."""
        return self._ordinary.name if is_mocked() else self._lane.name

    def get(
        self,
        call_id: str,
        key: ApiKey,
        headers: Mapping[str, str] | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 (by its place; its name would cost each call)
    ) -> Awaitable[Answer | TransportError]:
        """Send one request and read the whole answer; see `Transport.get`."""
        # Not `async`: one more coroutine for each call would only hand the other's result on.
        if is_mocked():
            return self._ordinary.get(call_id, key, headers, fresh=fresh)
        return self._lane.get(call_id, key, headers, fresh)

    def relay(
        self, call_id: str, key: ApiKey, following: Next
    ) -> Awaitable[Answer | TransportError]:
        """Send requests one behind the other; see `RelayTransport.relay`."""
        transport = self._ordinary if is_mocked() else self._lane
        return transport.relay(call_id, key, following)

    async def close(self) -> None:
        """Close every connection; see `Transport.close`."""
        await close_all((self._lane.close, self._ordinary.close))


if TYPE_CHECKING:
    _conforms: type[RelayTransport] = UnmockedLane
