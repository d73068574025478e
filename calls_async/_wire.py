"""What one request brings back, as plain values: transports make them, the verdict reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from multidict import MultiMapping


class Answer(NamedTuple):
    """A complete answer, whatever its status.

    It is a tuple because every request makes one, and no other frozen class is made as fast.

    Attributes:
        status: The HTTP status code.
        headers: The header fields, case-insensitive, repeated fields kept apart.
        body: The content, decoded from its transfer and content encodings.
        silent: Whether the transport knows that no field says anything about sending more, so that
            they need not be looked through for that.
    """

    status: int
    headers: MultiMapping[str]
    body: bytes
    silent: bool = False

    def __repr__(self) -> str:
        # A server may have echoed the key in any of the others.
        return f"Answer(status={self.status})"
