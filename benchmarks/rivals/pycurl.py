"""libcurl through pycurl; the rule: its own multi interface, driven by a selector, without asyncio.

So what it costs has no event loop in it, and nobody could do anything else meanwhile. It is here as
a floor for clients that are written in C.
"""

from __future__ import annotations

import selectors
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pycurl

from benchmarks.target import HEADERS, Run, Target
from calls_async._codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


class Multi:
    """As many transfers at once as there are handles, over one iterator of ids."""

    def __init__(self, target: Target) -> None:
        self._calls = target.calls
        self._selector = selectors.DefaultSelector()
        self._due: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, target.width)
        self._handles = [self._handle(target) for _ in range(target.width)]

    def _handle(self, target: Target) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.HTTPHEADER, [f"{name}: {HEADERS[name]}" for name in HEADERS])
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.NOPROXY, "*")
        handle.setopt(pycurl.TIMEOUT, 30)
        if target.authority is not None:
            handle.setopt(pycurl.CAINFO, str(target.authority))
        return handle

    def run(self, ids: Sequence[str]) -> list[Any]:
        """Fetch them all."""
        results: list[Any] = [None] * len(ids)
        numbered = iter(enumerate(ids))
        idle = list(self._handles)
        under_way: dict[pycurl.Curl, tuple[int, list[bytes]]] = {}
        while True:
            while idle and (item := next(numbered, None)) is not None:
                handle, (place, call_id) = idle.pop(), item
                parts: list[bytes] = []
                handle.setopt(pycurl.URL, self._calls + call_id)
                handle.setopt(pycurl.WRITEFUNCTION, parts.append)
                under_way[handle] = place, parts
                self._multi.add_handle(handle)
            if not under_way:
                return results
            self._turn()
            left = 1
            while left:
                left, good, bad = self._multi.info_read()
                if bad:
                    raise ConnectionError(bad[0][2])
                for handle in good:
                    self._multi.remove_handle(handle)
                    idle.append(handle)
                    place, parts = under_way.pop(handle)
                    assert handle.getinfo(pycurl.RESPONSE_CODE) == 200
                    results[place] = decode_call(b"".join(parts))

    def _turn(self) -> None:
        timeout = None if self._due is None else max(0.0, self._due - time.monotonic())
        for key, events in self._selector.select(timeout):
            mask = pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0
            mask |= pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
            self._multi.socket_action(key.fd, mask)
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        known = descriptor in self._selector.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self._selector.unregister(descriptor)
            return
        events = selectors.EVENT_READ if what & pycurl.POLL_IN else 0
        events |= selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        (self._selector.modify if known else self._selector.register)(descriptor, events)

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def close(self) -> None:
        """Close the connections."""
        for handle in self._handles:
            handle.close()
        self._multi.close()
        self._selector.close()


@asynccontextmanager
async def lane(target: Target) -> AsyncGenerator[Run]:
    """One multi handle, whose connections stay open between batches."""
    multi = Multi(target)

    async def run(ids: Sequence[str]) -> list[Any]:
        return multi.run(ids)

    try:
        yield run
    finally:
        multi.close()
