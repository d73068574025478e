"""Ids in chunks; the rule: the same ids in the same order give chunks of the same names.

A chunk is what an engine repeats if a worker is lost, and what becomes one part of the dataset. Its
name tells its place and its content, so a part that is there under that name need not be made.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async._ids import check_call_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT: Final = 1
"""The version of the chunks' names and of the parts; it is part of the digest."""

_DIGITS: Final = 16
"""Hexadecimal digits of the digest: 64 bits, beside the chunk's place."""


@attrs.frozen(kw_only=True)
class Chunk:
    """Some of the ids.

    Attributes:
        index: Its place among the chunks, from 0.
        ids: The distinct ids, in the order in which they first occurred in it.
        repeats: Occurrences beside those.
        name: What its part is called.
    """

    index: int
    ids: tuple[str, ...] = attrs.field(repr=False)  # Dask logs the arguments of a task that failed
    repeats: int
    name: str


def chunks(ids: Iterable[str], size: int) -> Iterator[Chunk]:
    """The ids, so many occurrences to a chunk; one chunk is held at a time.

    Raises:
        InvalidCallIdError: An id is no text, so it has no digest. An invalid text is an id like any
            other here, and fails where it is fetched.
    """
    given = iter(ids)
    index = 0
    while taken := list(islice(given, size)):
        digest = hashlib.sha256(b"calls_async %d" % FORMAT)
        for call_id in taken:
            digest.update(_framed(call_id))
        distinct = tuple(dict.fromkeys(taken))
        yield Chunk(
            index=index,
            ids=distinct,
            repeats=len(taken) - len(distinct),
            name=f"part-{index:08d}-{digest.hexdigest()[:_DIGITS]}",
        )
        index += 1


def index_of(name: str) -> int | None:
    """The place of the chunk whose part has this name; `None` if it is no part's name."""
    kind, _, rest = name.partition("-")
    index, _, digest = rest.partition("-")
    return int(index) if kind == "part" and index.isdecimal() and digest else None


def _framed(call_id: Any) -> bytes:
    """The id with its length before it, so that no two lists of ids look the same."""
    if not isinstance(call_id, str):
        problem = check_call_id(call_id)
        assert problem is not None  # noqa: S101 (what is no str is no id)
        raise problem
    text = call_id.encode(errors="surrogatepass")
    return b"%d:%b" % (len(text), text)
