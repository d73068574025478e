"""The way to the server: a small protocol, and the transports that conform to it.

A transport turns one id into one request and one answer. It retries nothing, decides nothing and
raises nothing foreign: what goes wrong on the way comes back as a `TransportError` value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from calls_async._transport._choice import open_transport
from calls_async._transport._lane import LaneTransport
from calls_async._transport._session import SessionTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from calls_async._secret import ApiKey
    from calls_async._wire import Answer
    from calls_async.errors import TransportError

__all__ = [
    "LaneTransport",
    "Next",
    "RelayTransport",
    "SessionTransport",
    "Transport",
    "open_transport",
]

Next: TypeAlias = "Callable[[Answer], str | None]"
"""Takes an answer, and says which id to ask for next on its connection."""


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


@runtime_checkable
class RelayTransport(Transport, Protocol):
    """A transport that can send the next request where the answer to the last one arrives."""

    def relay(
        self, call_id: str, key: ApiKey, following: Next
    ) -> Awaitable[Answer | TransportError]:
        """Send one request as `get` does, and others behind it on the same connection.

        Args:
            call_id: A valid id, not yet percent-encoded.
            key: The key that these requests carry.
            following: Called with each answer that is ordinary. It takes the answer and says which
                id to ask for next, at once; `None`: the relay is over.

        Returns:
            The last answer. Unless `following` has ended the relay, it has not seen that one.
        """
        ...
