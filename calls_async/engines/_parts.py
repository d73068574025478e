"""Parts of a dataset; the rule: a chunk is finished when its part of records is there.

A dataset is a folder:

- `calls/part-….parquet`: the records of a chunk, in the order of its ids. It is written last, and
  there is one for every finished chunk, without a row if nothing could be fetched.
- `errors/part-….parquet`: the failures of the same chunk; none where nothing failed.
- `_replacing/part-…`: there while the failures of a finished chunk are replaced. Two files cannot
  be renamed at once. If who replaces them is killed in between, the records are right, and the
  failures that have a record by then are taken out by whoever comes next.
- `_calls_async.json`: whose dataset it is.

Readers that are given `calls/*.parquet` see whole parts only, at any moment.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async.errors import OutputError
from calls_async.journal import _parquet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calls_async.engines._place import Place

CALLS: Final = "calls"
ERRORS: Final = "errors"
REPLACING: Final = "_replacing"
SUFFIX: Final = ".parquet"


@attrs.frozen(kw_only=True)
class PartCounts:
    """What is in the part of a chunk.

    Attributes:
        fetched: Records.
        failed_by: Failures, by the name of their error's class.
    """

    fetched: int
    failed_by: Mapping[str, int]


@attrs.frozen(kw_only=True)
class Part:
    """The part of one chunk. All methods block, and raise an `OutputError` where the place does.

    Attributes:
        place: The dataset.
        name: The chunk's name.
    """

    place: Place
    name: str

    def calls(self) -> Any | None:
        """Its records, if the chunk is finished."""
        content = self.place.read(self._calls)
        return None if content is None else self._table(content, self._calls)

    def errors(self) -> list[dict[str, Any]]:
        """Its failures, by the names of the columns."""
        content = self.place.read(self._errors)
        if content is None:
            return []
        rows: list[dict[str, Any]] = self._table(content, self._errors).to_pylist()
        return rows

    def failed_by(self) -> Counter[str]:
        """Its failures, by the name of their error's class."""
        content = self.place.read(self._errors)
        if content is None:
            return Counter()
        table = self._table(content, self._errors, ["error"])
        return Counter(table.column(0).to_pylist())

    def counts(self) -> PartCounts | None:
        """What is in it, if the chunk is finished; what a kill left undone is done first."""
        if self.place.has(f"{REPLACING}/{self.name}"):
            self._heal()
        content = self.place.read(self._calls)
        if content is None:
            return None
        try:
            fetched = _parquet.rows_in(content)
        except ValueError as exc:
            raise self._damaged(self._calls, exc) from exc
        return PartCounts(fetched=fetched, failed_by=self.failed_by())

    def finish(self, calls: Any, errors: Any) -> PartCounts:
        """Write it for the first time, unless somebody else has done so meanwhile.

        Dask gives a chunk to another worker if it takes one for dead. Should that one live, the
        first to finish wins, so that records and failures are of the same run.
        """
        if (there := self.counts()) is not None:
            return there
        self._put_errors(errors)
        self.place.write(self._calls, _parquet.file_of(calls))
        return _counted(calls, errors)

    def replace(self, calls: Any, errors: Any) -> PartCounts:
        """Write it anew, when some of its failures have become records."""
        mark = f"{REPLACING}/{self.name}"
        self.place.write(mark, b"")
        self.place.write(self._calls, _parquet.file_of(calls))
        self._put_errors(errors)
        self.place.remove(mark)
        return _counted(calls, errors)

    def _heal(self) -> None:
        """Finish what somebody who replaced the part did not get to."""
        calls = self.calls()
        if calls is not None:
            fetched = set(calls.column("id").to_pylist())
            content = self.place.read(self._errors)
            if content is not None:
                errors = self._table(content, self._errors)
                ids = errors.column("id").to_pylist()
                left = [row for row, call_id in enumerate(ids) if call_id not in fetched]
                self._put_errors(_parquet.joined([errors], left))
        self.place.remove(f"{REPLACING}/{self.name}")

    def _put_errors(self, errors: Any) -> None:
        if errors.num_rows:
            self.place.write(self._errors, _parquet.file_of(errors))
        else:
            self.place.remove(self._errors)  # of a run that was killed before it was finished

    def _table(self, content: bytes, name: str, columns: list[str] | None = None) -> Any:
        try:
            return _parquet.table_of(content, columns)
        except ValueError as exc:
            raise self._damaged(name, exc) from exc

    def _damaged(self, name: str, exc: ValueError) -> OutputError:
        where = f"{self.place.url}/{name}"
        return OutputError(f"{where} is no part, or damaged: {exc}; delete it", output=where)

    @property
    def _calls(self) -> str:
        return f"{CALLS}/{self.name}{SUFFIX}"

    @property
    def _errors(self) -> str:
        return f"{ERRORS}/{self.name}{SUFFIX}"


def _counted(calls: Any, errors: Any) -> PartCounts:
    return PartCounts(fetched=calls.num_rows, failed_by=Counter(errors.column("error").to_pylist()))
