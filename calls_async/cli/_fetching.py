"""Fetching ids into a file; the rule: however it ends, each id is in exactly one account.

Fetched, failed or missing: that is what is written and what is said, after the last id as well as
after Ctrl-C or a refused key. Records are written as they come, so memory does not grow with them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from calls_async import AuthenticationError, CallsError, Failed, Fetched
from calls_async.cli._exits import Exit
from calls_async.cli._rows import error_line
from calls_async.cli._terminal import talk
from calls_async.cli._view import watching
from calls_async.cli._words import complaint, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calls_async import CallsClient, Outcome
    from calls_async.cli._output import WholeFile
    from calls_async.cli._rows import Format
    from calls_async.cli._view import View


@attrs.define(kw_only=True)
class FetchJob:
    """One run of `calls-async fetch`.

    Attributes:
        client: The client; it is closed at the end.
        ids: What to fetch, each id once.
        records: Where the records go.
        format: How a record becomes a line.
        errors: Where the ids without a record go.
    """

    client: CallsClient
    ids: Sequence[str]
    records: WholeFile
    format: Format
    errors: WholeFile | None
    _settled: bytearray = attrs.field(init=False)
    """A byte for each id, which is less than a set of those that are missing."""
    _failed: Counter[str] = attrs.field(factory=Counter[str], init=False)
    _first: CallsError | None = attrs.field(default=None, init=False)
    _key_refused: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._settled = bytearray(len(self.ids))

    async def run(self, view: View) -> Exit:
        """Fetch, write and give account.

        Raises:
            CommandError: A file cannot be written.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            ended = await self._consume(view)
        except asyncio.CancelledError:
            self._give_account(clock() - began, None, interrupted=True)
            raise
        self._give_account(clock() - began, ended)
        if self._key_refused:
            return Exit.CONFIGURATION
        return Exit.FETCHED if self.records.lines == len(self.ids) else Exit.FAILED

    async def _consume(self, view: View) -> CallsError | None:
        """Take every outcome; the error, if one ended the batch before the last id."""
        async with (
            self.client,
            watching(view, self.client, total=len(self.ids)),
            self.client.stream_calls(self.ids) as outcomes,
        ):
            try:
                async for outcome in outcomes:
                    self._take(outcome)
            except CallsError as exc:  # the key was refused, or nobody answered for too long
                return exc
        return None

    def _take(self, outcome: Outcome) -> None:
        match outcome:
            case Fetched():
                self.records.write(self.format.line(outcome))
            case Failed(id=call_id, error=error):
                self._failed[type(error).__name__] += 1
                self._first = self._first or error
                self._key_refused |= isinstance(error, AuthenticationError)
                self._list(call_id, error)
        self._settled[outcome.index] = True

    def _list(self, call_id: str, error: CallsError | None) -> None:
        if self.errors is not None:
            self.errors.write(error_line(call_id, error))

    # --- The account -----------------------------------------------------------------------------

    def _give_account(
        self, seconds: float, ended: CallsError | None, *, interrupted: bool = False
    ) -> None:
        """Put the files in place, and say what is in them and what is not."""
        missing = self._settled.count(0)
        self._list_missing(ended)
        fetched = self.records.lines
        if fetched:
            self.records.commit()  # otherwise an older file of that name stays
        if self.errors is not None:
            self.errors.commit()

        where = self.records.name if fetched else "no record, so no file"
        told = f"{fetched:,} of {len(self.ids):,} fetched in {duration(seconds)}: {where}"
        talk(f"interrupted: {told}" if interrupted else told)
        if failed := self._failed.total():
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self._failed.most_common())
            talk(f"{failed:,} failed: {kinds}")
        if missing:
            talk(f"{missing:,} missing: no outcome yet")
        if failed or missing:
            listed = "use --errors FILE" if self.errors is None else self.errors.name
            talk(f"list of the ids without a record: {listed}")
        if reason := ended or self._first:
            talk(f"{'stopped' if ended else 'first failure'}: {complaint(reason)}")

    def _list_missing(self, ended: CallsError | None) -> None:
        for call_id, settled in zip(self.ids, self._settled, strict=True):
            if not settled:
                self._list(call_id, ended)
