"""Gathering; the rule: a result for every id given, in their order, as `asyncio.gather` has it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import TYPE_CHECKING, Any

from calls_async._ids import check_call_id
from calls_async.bulk._crew import Crew
from calls_async.bulk._source import checked, misplaced, number
from calls_async.outcomes import Failed

if TYPE_CHECKING:
    from calls_async._relay import Arrival
    from calls_async.bulk._crew import Job, OpenJob
    from calls_async.bulk._source import CallIds
    from calls_async.errors import CallsError
    from calls_async.models import Call
    from calls_async.outcomes import Outcome


async def gather(
    open_job: OpenJob, ids: CallIds, *, width: int, return_exceptions: bool
) -> list[Call | CallsError]:
    """Fetch all ids, each distinct one once, and return what became of them, in their order.

    Raises:
        CallsError: An id failed for good and `return_exceptions` is false. By then everything else
            was cancelled and has ended. An invalid id is found before anything is sent.
    """
    ids = checked(ids)
    wanted = _Wanted(return_exceptions=return_exceptions)
    if isinstance(ids, AsyncIterable):
        async with aclosing(number(ids)) as given:
            async for index, call_id in given:
                wanted.add(index, call_id)
    else:
        try:
            for index, call_id in enumerate(ids):
                wanted.add(index, call_id)
        except StopAsyncIteration as exc:
            raise misplaced() from exc
    await _Gathering(open_job, wanted, width=width).run()
    return wanted.all_results()


class _Wanted:
    """What is to be gathered, and what became of it.

    There is no object for each id, because there may be millions of them.

    Args:
        return_exceptions: Whether errors are results.
    """

    def __init__(self, *, return_exceptions: bool) -> None:
        self.return_exceptions = return_exceptions
        self.first: dict[str, int] = {}
        """Each valid id, and where it occurs for the first time."""
        self._refused: list[tuple[Any, int]] = []  # what is no valid id may not even be hashable
        self._repeats: list[int] = []  # where others occur once more
        # One for each occurrence; until all are there, a repeated one is the place of the first.
        self.results: list[Any] = []

    def add(self, index: int, call_id: Any) -> None:
        """Note one more id.

        Raises:
            InvalidCallIdError: It is none, and errors are no results.
        """
        problem = check_call_id(call_id)
        if problem is None:
            place = self.first.setdefault(call_id, index)
            self.results.append(place)
            if place != index:
                self._repeats.append(index)
        elif self.return_exceptions:
            self._refused.append((call_id, index))
            self.results.append(None)
        else:
            raise problem

    def each(self) -> Iterator[tuple[Any, int]]:
        """Each distinct id, with its place."""
        return chain(self._refused, self.first.items())

    def all_results(self) -> list[Call | CallsError]:
        """What became of each occurrence, in their order."""
        results = self.results
        for index in self._repeats:
            results[index] = results[results[index]]
        return results


class _Gathering(Crew):
    """The workers of a gather, which put each result into its place.

    Args:
        open_job: Opens the batch.
        wanted: What is fetched.
        width: How many ids may be on their way.
    """

    def __init__(self, open_job: OpenJob, wanted: _Wanted, *, width: int) -> None:
        super().__init__(open_job, width=width)
        self._wanted = wanted
        self._left_over = wanted.each()
        self._valid = wanted.first
        self._results = wanted.results
        self._final: CallsError | None = None

    async def run(self) -> None:
        """Fetch everything; raises the first final failure, unless errors are results."""
        try:
            self._begin()
            while self.busy and self._final is None:
                await self._news()
        finally:
            await self.disband()
        if (error := self._final or self._error) is not None:
            raise error

    def pull(self, job: Job) -> tuple[Any, int] | None:  # noqa: ARG002 (each id gets its error)
        if self._drained or self._over:
            return None
        for pulled in self._left_over:
            return pulled
        self._drained = True
        return None

    async def _leave_source(self) -> None:
        self._left_over = iter(())

    def is_valid(self, call_id: Any) -> bool:
        """See `Crew.is_valid`; what was found to be valid before is found again faster."""
        return isinstance(call_id, str) and call_id in self._valid

    def keep(self, arrival: Arrival) -> None:
        """See `Crew.keep`; a gather has no use for more than the record."""
        self._results[arrival.index] = arrival.call

    def put(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            self._results[outcome.index] = outcome.call
        elif self._wanted.return_exceptions:
            self._results[outcome.index] = outcome.error
        else:
            self._final = self._final or outcome.error
            self._drained = True
            self._wake_all()
