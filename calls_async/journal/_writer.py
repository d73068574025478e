"""The journal of an event loop; the rule: a thread writes, one transaction after the other.

What is to be written gathers while a transaction is under way and for a moment after it, and goes
into the next one together. Who brings more than a transaction holds waits. So the memory is
bounded, and the loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar

from calls_async import CallsError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from calls_async import Failed, Outcome
    from calls_async.journal._rows import Settled, Source
    from calls_async.journal._store import Store

P = ParamSpec("P")
R = TypeVar("R")

GATHER: Final = 0.05
"""Seconds from the first thing that is to be written to the transaction. A kill loses no more than
that and what the transaction under way holds. A commit costs about 0.2 ms of CPU, and a sync."""

IDS: Final = 4_000
"""Ids in one transaction. Random ids hit random pages of their index, and in a large transaction
several of them share one: with 1,000 each costs twice as much as with 10,000. But outcomes wait for
the transaction before theirs, and a kill loses what waits."""

OUTCOMES: Final = 500
"""Outcomes in one transaction, about half a megabyte."""


class Writer:
    """Writes to a journal while it is entered; on the way out everything is committed.

    Args:
        store: The journal, opened for writing. Nobody else of this process writes meanwhile.
        news: Set after each transaction, and when there will be no more.
    """

    def __init__(self, store: Store, news: asyncio.Event) -> None:
        self._store = store
        self._news = news
        self.refused: list[Failed] = []
        """Outcomes of ids that are new and not valid; they are committed."""
        self._lease = store.lease()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calls-async-journal")
        self._known = 0
        self._ids: list[object] = []
        self._outcomes: list[Settled] = []
        self._source: Source | None = None
        self._some = asyncio.Event()
        self._much = asyncio.Event()
        self._brought = 0  # things that were brought; so many of them are committed:
        self._done = 0
        self._ending = False
        self._written: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._lease.__enter__()
        self._known = self._store.asked()
        self._task = asyncio.create_task(self._write_on())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending = True
        self._some.set()
        self._much.set()
        task = self._task
        interrupted: asyncio.CancelledError | None = None
        while task is not None and not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as again:  # a transaction takes milliseconds
                interrupted = again
        self._thread.shutdown()
        self._lease.__exit__(None, None, None)
        if interrupted is not None:
            raise interrupted
        trouble = None if task is None or task.cancelled() else task.exception()
        # That there is no room is worth more than why the job ended; a cancellation is not held up.
        if trouble is not None and trouble is not exc and isinstance(exc, CallsError | None):
            raise trouble

    async def add(self, call_id: object, source: Source | None = None) -> None:
        """Add one id, and note how far its source was read with it.

        Raises:
            JournalError: The journal cannot be written.
        """
        self._ids.append(call_id)
        self._source = source
        await self._bring(full=len(self._ids) >= IDS)

    def note(self, source: Source) -> None:
        """Note how far a source was read, with what was added so far."""
        self._source = source
        self._brought += 1

    async def commit(self) -> None:
        """Wait until what was brought so far is committed.

        Raises:
            JournalError: The journal cannot be written.
        """
        wanted = self._brought
        while self._done < wanted:
            self._some.set()
            await self._next_transaction()

    async def settle(self, place: int, outcome: Outcome) -> None:
        """Enter the final outcome of the id at this place.

        Raises:
            JournalError: The journal cannot be written.
        """
        self._outcomes.append((place, time.time(), outcome))
        await self._bring(full=len(self._outcomes) >= OUTCOMES)

    def check(self) -> None:
        """Make sure that it still writes.

        Raises:
            JournalError: The journal cannot be written.
        """
        if self._task is not None and self._task.done():
            self._task.result()
            raise JournalError(f"the journal {self._store.path} is no longer written")

    async def ask(self, question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask the journal something, in the thread, after the transactions before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: question(*args, **kwargs))

    async def _bring(self, *, full: bool) -> None:
        self.check()
        self._brought += 1
        self._some.set()
        if full:
            await self._next_transaction()

    async def _next_transaction(self) -> None:
        """Wait for the end of a transaction; the next one begins without delay."""
        self.check()
        self._much.set()
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._written)
        self.check()

    async def _write_on(self) -> None:
        """Write what has gathered, again and again, until the end."""
        try:
            while await self._gathered():
                ids, outcomes, source = self._ids, self._outcomes, self._source
                self._ids, self._outcomes, self._source = [], [], None
                brought = self._brought
                self.refused += await self.ask(
                    self._store.write,
                    ids,
                    outcomes,
                    known=self._known,
                    source=source,
                )
                self._done = brought
                self._tell()
        finally:
            # Those who wait find out by themselves what became of this task.
            asyncio.get_running_loop().call_soon(self._tell)

    async def _gathered(self) -> bool:
        """Wait until there is enough to write; `False`: there will be no more."""
        await self._some.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER):
                await self._much.wait()
        if self._ending:
            return bool(self._ids or self._outcomes or self._source is not None)
        self._some.clear()
        self._much.clear()
        return True

    def _tell(self) -> None:
        """Wake those who wait for a transaction."""
        written, self._written = self._written, None
        if written is not None and not written.done():
            written.set_result(None)
        self._news.set()
