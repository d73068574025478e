"""A job of the command line; the rule: however it ends, the journal has it, and the rest is left.

What makes it end is a reason that is told: all ids have their outcome, Ctrl-C, a refused key, a
server that nobody reaches, a file of ids that is wrong in the middle, a full disk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import attrs

from calls_async import AuthenticationError, CallsError, ConfigurationError, SourceError
from calls_async.cli._exits import Exit
from calls_async.cli._signals import heeding
from calls_async.cli._watch import watching
from calls_async.cli._words import complaint, duration
from calls_async.journal import export_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from calls_async import CallsClient
    from calls_async.cli._sources import ReadAhead
    from calls_async.cli._talk import Talk
    from calls_async.cli._view import View
    from calls_async.cli._watch import Watch
    from calls_async.journal import JobStatus, Journal

_CENSUS: Final = 1.0
"""Seconds between two looks at how many ids the journal has."""
_LOOK: Final = 0.1
"""Seconds between two looks at what is still in flight when the job is to end."""
_GRACE: Final = 2.0
"""Seconds in which a job that is to end still lets those go that wait for their turn. At full speed
that is enough for all of them; behind a pace or a closed gate they are not waited for."""


@attrs.define(kw_only=True)
class Job:
    """One run of `calls-async fetch` or `retry`.

    Attributes:
        client: The client; it is closed at the end.
        journal: The journal, opened for writing.
        watch: What sees the job; it is a hook of the client.
        ids: The ids; `None`: those that the journal has.
        digest: A name of the content of `ids`, if it has one.
        retry_failed: Whether failures that may be tried again are.
        fail_fast: Whether the first failure ends the job.
    """

    client: CallsClient
    journal: Journal
    watch: Watch
    ids: ReadAhead | None = None
    digest: str | None = None
    retry_failed: bool = False
    fail_fast: bool = False
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    async def run(self, view: View) -> End:
        """Fetch what is left."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self._look()
        work = asyncio.create_task(self._export())
        reason: CallsError | None = None
        async with self.client, watching(view, self.watch, self.client) as show_now:
            others = [
                asyncio.create_task(self._count_on()),
                asyncio.create_task(self._wind_down(work)),
            ]
            with heeding(lambda: self._heed(work, show_now)):
                try:
                    await work
                except asyncio.CancelledError:
                    pass  # by a second Ctrl-C, or because nothing was in flight any more
                except CallsError as exc:
                    reason = exc
                finally:
                    for other in others:
                        other.cancel()
                    await asyncio.gather(*others, work, return_exceptions=True)
        return End(
            status=self.journal.status(),
            seconds=clock() - began,
            reason=reason,
            interrupted=self._stop.is_set(),
        )

    async def _export(self) -> None:
        await export_calls(
            self.client,
            self.ids,
            self.journal,
            retry_failed=self.retry_failed,
            fail_fast=self.fail_fast,
            on_outcome=self.watch.take,
            digest=self.digest,
            stop=self._stop,
        )

    def _heed(self, work: asyncio.Task[None], show_now: Callable[[], None]) -> None:
        """Ctrl-C."""
        if self._stop.is_set():
            work.cancel()
        self._stop.set()
        self.watch.stopping = True
        show_now()

    async def _count_on(self) -> None:
        """Keep the watch's numbers true."""
        while True:
            await asyncio.sleep(_CENSUS)
            self._look()

    async def _wind_down(self, work: asyncio.Task[None]) -> None:
        """Once the job is to end, end it when all that is in flight then has its answer."""
        await self._stop.wait()
        clock = asyncio.get_running_loop().time
        stopped, wire = clock(), self.watch.on_the_wire
        quiet = 0
        while True:
            await asyncio.sleep(_LOOK)
            # Two looks, so that what was answered between them has been entered.
            quiet = 0 if wire else quiet + 1
            late = clock() > stopped + _GRACE and all(since > stopped for since in wire.values())
            if late or quiet > 1:
                work.cancel()
                return

    def _look(self) -> None:
        """See how many ids there are. Outcomes are counted as they come."""
        status = self.journal.status()
        if not self.watch.asked:
            self.watch.fetched, self.watch.failed = status.fetched, status.failed
        self.watch.asked = status.asked
        self.watch.reading = self.ids is not None and self.ids.reading


@attrs.frozen(kw_only=True)
class End:
    """How a job ended.

    Attributes:
        status: What the journal has.
        seconds: How long it took.
        reason: The error that ended it before every id had its outcome.
        interrupted: Whether it was told to end.
    """

    status: JobStatus
    seconds: float
    reason: CallsError | None
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether every id has its outcome."""
        return self.reason is None and not (self.status.left or self.interrupted)

    @property
    def code(self) -> Exit:
        """The exit code."""
        if isinstance(self.reason, AuthenticationError | ConfigurationError):
            return Exit.CONFIGURATION
        if isinstance(self.reason, SourceError):
            return Exit.USAGE
        if self.reason is None and not self.complete:
            return Exit.INTERRUPTED
        return Exit.FAILED if self.reason or self.status.failed else Exit.FETCHED

    def tell(self, talk: Talk, *, journal: str, listed: str | None) -> None:
        """Give account.

        Args:
            talk: How.
            journal: What the user calls the journal.
            listed: Where the failures are listed, or are to be.
        """
        status = self.status
        lines = [*self._how_far(journal), *_failures(status, journal, listed)]
        if self.reason is not None:
            lines.append(f"stopped: {complaint(self.reason)}")
        talk.tell(
            "end",
            *lines,
            journal=journal,
            asked=status.asked,
            fetched=status.fetched,
            failed=status.failed,
            failedBy=dict(status.failed_by),
            retryable=status.retryable,
            left=status.left,
            seconds=round(self.seconds, 3),
            complete=self.complete,
            interrupted=self.interrupted,
            stoppedBy=None if self.reason is None else type(self.reason).__name__,
            message=None if self.reason is None else complaint(self.reason),
            exitCode=int(self.code),
        )

    def _how_far(self, journal: str) -> list[str]:
        status = self.status
        told = f"{status.fetched:,} of {status.asked:,} fetched in {duration(self.seconds)}"
        if self.complete:
            return [f"{told} (journal: {journal})"]
        if self.interrupted:
            told = f"interrupted: {told}"
        return [
            f"{told}; all of it is in {journal}",
            f"{status.left:,} left: run the same command again to go on",
        ]


def _failures(status: JobStatus, journal: str, listed: str | None) -> list[str]:
    if not status.failed:
        return []
    most = sorted(status.failed_by.items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in most)
    lines = [f"{status.failed:,} failed: {kinds}"]
    if listed is None:
        lines.append(f"to list them: calls-async export {journal} --errors FILE")
    if status.retryable:
        lines.append(
            f"{status.retryable:,} of them may be tried again: calls-async retry {journal}"
        )
    return lines
