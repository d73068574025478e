"""The way to the server: a small protocol, and the transports that conform to it.

A transport turns one id into one request and one answer. It retries nothing, decides nothing and
raises nothing foreign: what goes wrong on the way comes back as a `TransportError` value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from calls_async._transport._choice import open_transport
from calls_async._transport._lane import LaneTransport
from calls_async._transport._session import SessionTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from calls_async._secret import ApiKey
    from calls_async._wire import Answer
    from calls_async.errors import TransportError

__all__ = ["LaneTransport", "SessionTransport", "Transport", "open_transport"]


class Transport(Protocol):
    """What the client needs of a transport: the lane, the session transport, or a fake one."""

    @property
    def name(self) -> str:
        """What `Statistics.transport` says."""
        ...

    def get(
        self,
        call_id: str,
        key: ApiKey,
        headers: Mapping[str, str] | None = None,
        *,
        fresh: bool = False,
    ) -> Awaitable[Answer | TransportError]:
        """Send one `GET /v1/calls/{id}` and read the whole answer.

        It has no timeout of its own: the caller cancels it. After a cancellation nothing is left
        behind, neither a connection in use nor a task.

        Args:
            call_id: A valid id, not yet percent-encoded.
            key: The key that this request carries.
            headers: Further fields for this request: checked, and none that it has already.
            fresh: Use a connection that nothing was received on before, and no longer trust those
                that were open until now.

        Returns:
            The answer, whatever its status, or what kept it from arriving. The error is not yet
            complete: `call_id`, `attempts`, `elapsed` and `stopped_by` are the caller's to add.
        """
        ...

    async def close(self) -> None:
        """Close every connection; requests in flight end with a `TransportError`."""
        ...
