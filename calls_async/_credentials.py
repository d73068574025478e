"""The key at hand; the rule: a provider is asked for the first key, and again once per refused key.

However many calls are refused at the same moment, one of them asks and all use the answer.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

from calls_async._secret import ApiKey
from calls_async.errors import ConfigurationError

if TYPE_CHECKING:
    from calls_async.config import KeyProvider


class Credentials:
    """The current key of one client.

    Args:
        source: The key, or the provider to ask for it.
    """

    def __init__(self, source: ApiKey | KeyProvider) -> None:
        self._provider = None if isinstance(source, ApiKey) else source
        self.held = source if isinstance(source, ApiKey) else None
        """The key to use now; `None` while the provider has not been asked."""
        self._last = self.held
        # A number for each, not the key: a client that lives long has its key rotated often, and a
        # key takes memory for what it scrubs, besides that it is a secret.
        self._refused: set[int] = set()
        self._asking = asyncio.Lock()

    async def current(self) -> ApiKey:
        """The key to use now, asked for if need be.

        Raises:
            ConfigurationError: The provider gave none that could be a key.
        """
        if self.held is None:
            async with self._asking:
                if self.held is None:
                    self.held = await self._ask()
        return self.held

    async def renewed(self, refused: ApiKey) -> ApiKey | None:
        """Another key than the one that was refused; `None` if there is none.

        Raises:
            ConfigurationError: The provider gave none that could be a key.
        """
        if self._provider is None:
            return None
        async with self._asking:
            if self.held in (refused, None) and hash(refused) not in self._refused:
                # From here on nobody sends the refused key, whatever comes of the asking.
                self.held = None
                self._refused.add(hash(refused))
                try:
                    self.held = await self._ask()
                except asyncio.CancelledError:
                    self._refused.discard(hash(refused))  # the next in line asks in its place
                    raise
        return None if self.held == refused else self.held

    async def _ask(self) -> ApiKey:
        assert self._provider is not None  # noqa: S101 (without one there is nothing to ask)
        try:
            given = self._provider()
            if inspect.isawaitable(given):
                given = await given
        except Exception as exc:
            raise ConfigurationError(f"the api_key provider raised {type(exc).__name__}") from exc
        try:
            self._last = ApiKey(given, origin="what the api_key provider gave", after=self._last)
        finally:
            del given  # tools that print a traceback's locals shall not find it in this frame
        return self._last
