"""What one request brings back, as plain values: transports make them, the verdict reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from multidict import MultiMapping


@attrs.frozen(kw_only=True)
class Answer:
    """A complete answer, whatever its status.

    Attributes:
        status: The HTTP status code.
        headers: The header fields, case-insensitive, repeated fields kept apart.
        body: The content, decoded from its transfer and content encodings.
    """

    status: int
    headers: MultiMapping[str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
