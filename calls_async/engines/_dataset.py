"""A dataset as its driver sees it; the rule: what is there is not made again, and never mixed.

Before anything is sent, the ids are read up to the last chunk that is finished, and each finished
part must be that of the same ids. So a destination of another job is refused while nothing of this
one is in it.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from calls_async.engines._chunks import FORMAT, Chunk, index_of
from calls_async.engines._parts import CALLS, ERRORS, REPLACING, SUFFIX, Part, PartCounts
from calls_async.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from calls_async.engines._place import Place

MANIFEST: Final = "_calls_async.json"

_HELD: Final = 1_000
"""Unfinished chunks that are held back while finished ones are looked at. A run that was killed
leaves as many as it had under way; more are missing only where somebody has deleted parts."""

_READERS: Final = 16
"""Threads that look into parts: an object store takes its time for each, and takes many at once."""


class Dataset:
    """A destination, and what is in it when a run begins.

    Args:
        place: Where it is.
        base_url: Where its calls are from.
        chunk_size: Ids to a chunk.

    Raises:
        OutputError: It cannot be used, or something else is there.
    """

    def __init__(self, place: Place, *, base_url: str, chunk_size: int) -> None:
        self._place = place
        self._manifest: dict[str, Any] = {
            "format": FORMAT,
            "baseUrl": base_url,
            "chunkSize": chunk_size,
        }
        self._found = self._read_manifest()
        finished = self._parts_in(CALLS)
        if finished and self._found is None:
            raise self._foreign(f"it has parts, and no {MANIFEST} that tells whose they are")
        self._check(self._found or self._manifest)
        self._finished: dict[int, str] = {}
        for name in finished:
            index = index_of(name)
            if index is None or index in self._finished:
                raise self._foreign(f"{CALLS}/{name}{SUFFIX} is no part of it")
            self._finished[index] = name
        self._failing = set(self._parts_in(ERRORS)) & set(finished)
        self._unsure = set(place.names(REPLACING))
        self._last = max(self._finished, default=-1)

    def begin(self) -> None:
        """Make its folders.

        Raises:
            OutputError: They cannot be made.
        """
        self._place.prepare(CALLS, ERRORS, REPLACING)

    def todo(
        self,
        chunks: Iterable[Chunk],
        *,
        retry_failed: bool,
        on_finished: Callable[[Chunk, PartCounts], object],
    ) -> Iterator[Chunk]:
        """The chunks that are to be made.

        Args:
            chunks: All chunks of the job.
            retry_failed: Whether finished chunks that have failures are among them.
            on_finished: Called with each one that is not, and what is in its part.

        Raises:
            OutputError: The dataset is of other ids.
        """
        held: list[Chunk] = []
        failures = self._failures() if self._failing else {}
        for chunk in chunks:
            if not chunk.index:
                self._claim(chunk)
            if self._is_to_be_made(chunk, retry_failed=retry_failed):
                held.append(chunk)
            else:
                failed_by = failures.pop(chunk.name, Counter[str]())
                fetched = len(chunk.ids) - failed_by.total()
                on_finished(chunk, PartCounts(fetched=fetched, failed_by=failed_by))
            if chunk.index >= self._last or len(held) > _HELD:
                yield from held
                held.clear()
        if self._finished:
            raise self._foreign("it has parts of ids that are not given any more")

    def _is_to_be_made(self, chunk: Chunk, *, retry_failed: bool) -> bool:
        found = self._finished.pop(chunk.index, None)
        if found is None:
            return True
        if found != chunk.name:
            raise self._foreign(f"chunk {chunk.index} of it has other ids")
        return found in self._unsure or (retry_failed and found in self._failing)

    def _claim(self, first: Chunk) -> None:
        """Say whose dataset it is, or make sure that it is this job's."""
        manifest = self._manifest | {"firstPart": first.name}
        if self._found is None:
            content = json.dumps(manifest, indent=2).encode() + b"\n"
            self._place.write(MANIFEST, content)
        elif self._found.get("firstPart") != first.name:
            raise self._foreign("it begins with other ids")

    def _read_manifest(self) -> dict[str, Any] | None:
        content = self._place.read(MANIFEST)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._foreign(f"its {MANIFEST} is damaged")
        return found  # pyright: ignore[reportUnknownVariableType]

    def _check(self, found: dict[str, Any]) -> None:
        for member, told in (
            ("format", "it is of another version of calls_async: {}"),
            ("baseUrl", "its calls are from {}"),
            ("chunkSize", "it was begun with chunk_size={}"),
        ):
            if found.get(member) != self._manifest[member]:
                raise self._foreign(told.format(found.get(member)))

    def _parts_in(self, folder: str) -> list[str]:
        names = self._place.names(folder)
        return [
            name.removesuffix(SUFFIX)
            for name in names
            if name.endswith(SUFFIX) and not name.startswith((".", "_"))
        ]

    def _failures(self) -> dict[str, Counter[str]]:
        names = sorted(self._failing)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="calls-async") as pool:
            return dict(zip(names, pool.map(self._failed_by, names), strict=True))

    def _failed_by(self, name: str) -> Counter[str]:
        return Part(place=self._place, name=name).failed_by()

    def _foreign(self, problem: str) -> OutputError:
        url = self._place.url
        return OutputError(
            f"{url} is of another job: {problem}; choose another destination", output=url
        )
