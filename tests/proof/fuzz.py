"""Generated header fields, bodies and whole answers, by hypothesis: thousands of each target.

A failure is shrunk, and named by its smallest example. Coverage-guided fuzzing of the same targets
is in `fuzzing`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.proof.tally import Tally
from tests.proof.targets import PEER, TARGETS, as_test

if TYPE_CHECKING:
    from tests.proof.targets import Target

NAME: Final = "fuzz"
SHARE: Final = 100
"""The short form tries one example of so many."""


async def sweep(*, short: bool) -> Tally:
    """Fuzz every target. In a thread, because hypothesis and the targets are no coroutines."""
    return await asyncio.to_thread(_sweep, SHARE if short else 1)


def _sweep(share: int) -> Tally:
    tally = Tally(NAME)
    try:
        for target in TARGETS:
            fuzz(target, target.examples // share, tally)
    finally:
        PEER.close()
    return tally


def fuzz(target: Target, examples: int, tally: Tally) -> None:
    """Try so many examples of a target, and put down how each ended."""

    def ended(end: str) -> None:
        tally.ends[f"{target.name}: {end}"] += 1

    try:
        as_test(target, examples=examples, ended=ended)()
    except AssertionError as exc:
        tally.note(target.name, "wrong", _smallest(exc))
    except TimeoutError as exc:
        tally.note(target.name, "hangs", _smallest(exc))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is foreign
        tally.note(target.name, "foreign", _smallest(exc))


def _smallest(exc: Exception) -> str:
    """The error, and the example that hypothesis noted on it."""
    return "\n".join([repr(exc), *getattr(exc, "__notes__", ())])
