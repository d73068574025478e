"""Being told to end; the rule: the first Ctrl-C finishes what is in flight, the second does not.

SIGTERM is the same as Ctrl-C: that is how a system that shuts down, or a supervisor, asks.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heeding(handler: Callable[[], None]) -> Generator[None]:
    """Call `handler` in the running event loop with each signal to end, until the block is left."""
    loop = asyncio.get_running_loop()

    def woken(*_: object) -> None:
        # A signal may come anywhere in the loop's own work, so it is handled in a turn of its own.
        loop.call_soon_threadsafe(handler)

    with _handled(woken):
        yield


@contextmanager
def terminable() -> Generator[None]:
    """Let SIGTERM raise `KeyboardInterrupt`, as Ctrl-C does, so that nothing is left half done."""
    with _handled(signal.default_int_handler):
        yield


@contextmanager
def stopping(handler: Callable[[], None]) -> Generator[None]:
    """Call `handler` with the first signal, and raise `KeyboardInterrupt` with the next.

    This is for work without an event loop; the handler may run between any two of its steps.
    """
    told = False

    def woken(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            signal.default_int_handler(number, frame)
        told = True
        handler()

    with _handled(woken):
        yield


@contextmanager
def sparing_children() -> Generator[None]:
    """Let processes that are started in the block have no part in Ctrl-C."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: Callable[..., Any] | signal.Handlers) -> Generator[None]:
    before: dict[signal.Signals, Any] = {}
    with suppress(ValueError):  # outside the main thread there are no signals to handle
        for number in _SIGNALS:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
