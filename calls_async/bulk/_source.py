"""Where ids come from; the rule: anything that can be iterated, and one `str` is no such thing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, TypeAlias

from calls_async.errors import ConfigurationError

CallIds: TypeAlias = Iterable[str] | AsyncIterable[str]
"""Ids from anything that can be iterated, synchronously or asynchronously."""

Numbered: TypeAlias = AsyncGenerator[tuple[int, str], None]
"""Ids, each with its position among those that the caller gave."""


def misplaced() -> RuntimeError:
    """The error for a `StopAsyncIteration` of an ordinary iterable.

    Raised as it is, in a coroutine, it would pass for the end of the ids.
    """
    return RuntimeError("an ordinary iterable of ids raised StopAsyncIteration")


def checked(ids: CallIds) -> CallIds:
    """`ids` as they were given.

    Raises:
        ConfigurationError: It is nothing that holds ids; one `str` is not, though it iterates.
    """
    given: Any = ids
    if isinstance(given, str | bytes) or not isinstance(given, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"ids must be an iterable of call ids, not one {type(ids).__name__}: "
            "for a single call use get_call"
        )
    return ids


def numbered(ids: CallIds) -> Numbered:
    """The ids one by one, from whatever holds them, each with its position.

    Raises:
        ConfigurationError: It is nothing that holds ids.
    """
    return number(checked(ids))


async def number(ids: CallIds) -> Numbered:
    """The ids of what was checked, one by one, each with its position."""
    if isinstance(ids, AsyncIterable):
        index = 0
        async for call_id in ids:
            yield index, call_id
            index += 1
    else:
        for pair in enumerate(ids):
            yield pair
