"""Which way requests go: over the lane, which is the usual one, or over a session of aiohttp's.

A client goes over a session where the lane cannot serve (see `calls_async._transport._choice`), so
what is proven of one is proven of both. The rule: who sweeps does not know by which way.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

import calls_async._core
from calls_async._transport import SessionTransport, open_transport

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL: Final = "lane"
WAYS: Final = (USUAL, "session")


@contextmanager
def over(way: str) -> Iterator[None]:
    """Let new clients go this way."""
    opened = {USUAL: open_transport, "session": SessionTransport}[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls_async._core, "open_transport", opened)
        yield


def taken() -> str:
    """The way that new clients go now."""
    return USUAL if vars(calls_async._core)["open_transport"] is open_transport else "session"


def is_usual() -> bool:
    """Whether that is the usual one; what uses no way at all need not be repeated for the other."""
    return taken() == USUAL
