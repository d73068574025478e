"""How the cases of a sweep ended; the rule: as a record, as an error of ours, or badly.

Badly is one of four: something foreign escaped, a wrong record reached the user, it never ended, or
it left something behind. A sweep is whatever goes through all cases of a kind: each byte, each bit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from calls_async import CallsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

HANGS_AFTER = 10.0
"""Seconds in which a case must be over, where the sweep does not know better."""


@attrs.define
class Tally:
    """The ends of all cases of one sweep.

    Attributes:
        name: The sweep.
        ends: How many cases ended in which way: "record", or the type of the error.
        foreign: The cases from which an exception escaped that is none of ours, and which it was.
        wrong: The cases that gave a wrong record, or accepted what no policy allows.
        hangs: The cases that did not end.
        leaks: The cases that left something behind: a task, a socket, a timer, a part of the key.
        most: What was measured besides, and the most of it in any case.
    """

    name: str
    ends: Counter[str] = attrs.field(factory=Counter)
    foreign: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)
    hangs: list[str] = attrs.field(factory=list)
    leaks: list[str] = attrs.field(factory=list)
    most: dict[str, float] = attrs.field(factory=dict)

    @property
    def cases(self) -> int:
        """All cases, however they ended."""
        return self.ends.total()

    @property
    def bad(self) -> list[str]:
        """What went wrong, a line each, to be shown by an assertion."""
        kinds = ("foreign", "wrong", "hangs", "leaks")
        return [f"{kind}: {case}" for kind in kinds for case in getattr(self, kind)]

    async def judge(
        self,
        case: str,
        work: Awaitable[T],
        *,
        accept: Callable[[T], bool],
        seconds: float = HANGS_AFTER,
    ) -> T | BaseException:
        """Await one case and put down how it ended.

        Args:
            case: Its name, which tells how to see it again.
            work: What the user awaits.
            accept: Whether a result may reach the user.
            seconds: When it counts as hanging.

        Returns:
            The result, or what was raised.
        """
        end: Any
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                end = await work
        except CallsError as exc:
            end = exc
            self.ends[type(exc).__name__] += 1
        except (Exception, asyncio.CancelledError) as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is the sweep that is cancelled
            end = exc
            if limit.expired():
                self.note(case, "hangs")
            else:
                self.note(case, "foreign", repr(exc))
        else:
            if accept(end):
                self.ends["record"] += 1
            else:
                self.note(case, "wrong", repr(end)[:200])
        return end

    def note(self, case: str, kind: str, what: str = "") -> None:
        """Count a case that ended badly; `kind` is the name of one of the four lists."""
        self.ends[kind] += 1
        self.found(case, kind, what)

    def found(self, case: str, kind: str, what: str = "") -> None:
        """Put down what an already counted case did badly besides."""
        getattr(self, kind).append(f"{case}: {what}" if what else case)

    def measured(self, what: str, value: float) -> None:
        """Keep the most of a measured thing."""
        self.most[what] = max(value, self.most.get(what, value))

    def merge(self, other: Tally, label: str = "") -> None:
        """Add the cases of another sweep, whose names are told with a label in front."""
        self.ends.update(other.ends)
        for kind in ("foreign", "wrong", "hangs", "leaks"):
            getattr(self, kind).extend(f"{label}{case}" for case in getattr(other, kind))
        for what, value in other.most.items():
            self.measured(what, value)
