"""All that is compared; the rule: a lane is opened by a process of its own, which imports only it.

So a peer that is not installed, or does not work, is a row that says so, and nothing that one of
them does to a process (patches, threads, a larger heap) is another one's cost.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.machine import installed

if TYPE_CHECKING:
    from benchmarks.target import Open


@attrs.frozen(kw_only=True)
class Lane:
    """One way to fetch many calls.

    Attributes:
        name: What the tables call it.
        where: The module and the function that open it, and the transport if it is ours.
        needs: What has to be installed besides what the library needs.
        alone: Whether it makes one call at a time.
        loops: The event loops that it can be compared on.
        share: The part of the calls that it makes, where all would take as long as all the others.
        own: Whether it is part of this checkout, so that it must work.
    """

    name: str
    where: str
    needs: tuple[str, ...] = ()
    alone: bool = False
    loops: tuple[str, ...] = ("asyncio", "uvloop")
    share: float = 1.0
    own: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot run; `None` if it can."""
        lacking = [name for name in self.needs if installed(name) is None]
        return f"not installed: {', '.join(lacking)}" if lacking else None

    def load(self) -> Open:
        """The function that opens it."""
        module, function, *arguments = self.where.split(":")
        found = getattr(importlib.import_module(f"benchmarks.rivals.{module}"), function)
        return functools.partial(found, **dict(each.split("=") for each in arguments))


def _ours(name: str, function: str, *, alone: bool = False) -> tuple[Lane, Lane]:
    lane, ordinary = (
        Lane(name=f"{name}, {way}", where=f"ours:{function}:transport={way}", alone=alone, own=True)
        for way in ("lane", "ordinary")
    )
    return lane, ordinary


def _peer(name: str, *besides: str, **options: Any) -> Lane:
    return Lane(name=name, where=f"{name}:lane", needs=(name, *besides), **options)


SCRIPT: Final = Lane(name="the user's script", where="script:script", own=True)
BARE: Final = Lane(name="bare aiohttp", where="bare:bare", own=True)
BARE_ALONE: Final = Lane(
    name="bare aiohttp, one at a time", where="bare:bare", alone=True, own=True
)
GATHER, GATHER_ORDINARY = _ours("gather_calls", "gather")
STREAM, STREAM_ORDINARY = _ours("stream_calls", "stream")
GET, GET_ORDINARY = _ours("get_call", "get", alone=True)
FLOOR: Final = Lane(name="sockets by hand", where="floor:floor", own=True)
FLOOR_UNREAD: Final = Lane(
    name="sockets by hand, nothing read", where="floor:floor_unread", own=True
)
RUST: Final = (_peer("pyreqwest"), _peer("wreq"))
PEERS: Final = (
    _peer("httpx", "sniffio", share=0.25),
    _peer("niquests", share=0.25),
    _peer("aiosonic"),
    *RUST,
    _peer("pycurl", loops=("asyncio",)),  # which it does not use
)

LANES: Final = (
    SCRIPT, BARE, *PEERS, GATHER_ORDINARY, STREAM_ORDINARY, GATHER, STREAM, FLOOR, FLOOR_UNREAD,
    BARE_ALONE, GET_ORDINARY, GET,
)  # fmt: skip
"""In the order of the tables."""
NAMED: Final = {lane.name: lane for lane in LANES}
