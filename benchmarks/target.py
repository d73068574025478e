"""What a lane is given, and what it gives; the rule: the same for all of them.

A lane opens its client once, and then runs batches of ids: some to warm up, and those that are
measured. What it returns for each id shows that the call came back, and is kept until the end, as
`gather_calls` keeps its calls; only a stream gives them away.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from calls_async.models import Call

if TYPE_CHECKING:
    from pathlib import Path

UNSTEADY: Final = "too busy a machine"
"""What a failure says that is no fault of the code."""
KEY: Final = "sk_test_benchmark"
HEADERS: Final = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
"""What all of them send besides their own headers."""


@attrs.frozen(kw_only=True)
class Target:
    """Where a lane goes, and how.

    Attributes:
        url: The server's base URL.
        width: Calls at once.
        authority: The file with the authority of the server's certificate; `None`: plain http.
    """

    url: str
    width: int
    authority: Path | None = None

    @property
    def calls(self) -> str:
        """What the id is appended to."""
        return f"{self.url}/v1/calls/"

    def context(self) -> ssl.SSLContext | None:
        """The TLS context; `None`: plain http."""
        return None if self.authority is None else ssl.create_default_context(cafile=self.authority)


Run: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[object]]]
"""Fetches these ids. One entry for each of them, in their order: a call, what was parsed, the body,
or, of what is not kept, the id itself."""
Open: TypeAlias = Callable[[Target], AbstractAsyncContextManager[Run]]
"""Opens a lane's client."""


async def in_parallel(
    ids: Sequence[str], fetch: Callable[[str], Awaitable[object]], width: int
) -> Sequence[object]:
    """As many tasks as are at work at once, over one iterator: the least that asyncio needs."""
    results: list[Any] = [None] * len(ids)
    numbered = iter(enumerate(ids))

    async def work() -> None:
        for place, call_id in numbered:
            results[place] = await fetch(call_id)

    await asyncio.gather(*(work() for _ in range(width)))
    return results


def check(ids: Sequence[str], results: Sequence[object]) -> None:
    """Make sure that each id got what it asked for.

    Raises:
        RuntimeError: One did not.
    """
    if len(ids) != len(results):
        raise RuntimeError(f"{len(results)} of {len(ids)} calls came back")
    for call_id, result in zip(ids, results, strict=True):
        if not _is_of(call_id, result):
            raise RuntimeError(f"{call_id} brought {result!r:.200}")


def _is_of(call_id: str, result: object) -> bool:
    match result:
        case Call(id=found):
            return found == call_id
        case {"id": found}:
            return bool(found == call_id)
        case bytes():
            return b'"id":"%b"' % call_id.encode() in result
        case str():
            return result == call_id
        case _:
            return False
