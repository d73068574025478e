"""What the server's side saw; the rule: every request on the wire is in it, and no key ever is.

The counters are always exact. The entries themselves are bounded, because a ledger must not be what
fills the memory in a run of ten million calls.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

import attrs

__all__ = ["Ledger", "LedgerEntry"]

_KEEP: Final = 100_000


@attrs.frozen(kw_only=True)
class LedgerEntry:
    r"""One request, as it arrived and as it was decided.

    Attributes:
        number: Which request it was, from 1.
        at: When it arrived, in seconds by the event loop's clock.
        path: The path as received, still percent-encoded; bytes outside ASCII as `\xff`.
        call_id: The id, decoded; `None` where the path is no call's.
        attempt: Which request of this id it is, from 1; 0 where there is no id.
        status: The status of the answer; `None` where no whole answer was to arrive.
        fault: The name of the fault; `None` where nothing was made to go wrong.
        key_accepted: Whether the request carried a key that the server knows.
        fresh: Whether it was the first on its connection. The fake has no connections: there it
            is whether a fresh one was asked for.
        request_id: The answer's `x-request-id`.
    """

    number: int
    at: float
    path: str
    call_id: str | None
    attempt: int
    status: int | None
    fault: str | None
    key_accepted: bool
    fresh: bool
    request_id: str


class Ledger:
    """Counts requests, and keeps the latest of them. `len(ledger)` is the number of all.

    Args:
        keep: How many entries are kept, the latest; 0 keeps the counters alone.
    """

    def __init__(self, *, keep: int = _KEEP) -> None:
        if keep < 0:
            raise ValueError(f"keep must be 0 or more, not {keep}")
        self.keep: Final = keep
        self._entries: deque[LedgerEntry] = deque()
        self._latest: dict[str, LedgerEntry] = {}
        self._total = 0
        self._statuses: Counter[int | None] = Counter()
        self._faults: Counter[str] = Counter()
        self._in_flight = 0
        self._max_in_flight = 0

    def __len__(self) -> int:
        return self._total

    def __repr__(self) -> str:
        return f"<Ledger of {self._total} requests, {self._in_flight} in flight>"

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The latest requests in the order of their arrival, as many as are kept."""
        return tuple(self._entries)

    @property
    def by_status(self) -> dict[int | None, int]:
        """How many requests were to be answered with which status; `None`: with no whole answer."""
        return dict(self._statuses)

    @property
    def by_fault(self) -> dict[str, int]:
        """How many requests met which fault."""
        return dict(self._faults)

    @property
    def in_flight(self) -> int:
        """Requests that arrived and are neither answered nor given up by the client."""
        return self._in_flight

    @property
    def max_in_flight(self) -> int:
        """The largest number of requests that were in flight at the same time."""
        return self._max_in_flight

    def requests_of(self, call_id: str) -> int:
        """How many requests there were for this id, as far back as entries are kept.

        Raises:
            ValueError: This ledger keeps no entries.
        """
        if not self.keep:
            raise ValueError("this ledger keeps no entries: it knows no single ids")
        latest = self._latest.get(call_id)
        return 0 if latest is None else latest.attempt

    def begin(
        self,
        *,
        at: float,
        path: str,
        call_id: str | None,
        status: int | None,
        fault: str | None,
        key_accepted: bool,
        fresh: bool,
    ) -> str:
        """Enter a request that has arrived; its request id comes back."""
        self._total += 1
        self._statuses[status] += 1
        if fault is not None:
            self._faults[fault] += 1
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        request_id = f"req-{self._total}"
        if self.keep:
            self._enter(
                LedgerEntry(
                    number=self._total,
                    at=at,
                    path=path,
                    call_id=call_id,
                    attempt=0 if call_id is None else self.requests_of(call_id) + 1,
                    status=status,
                    fault=fault,
                    key_accepted=key_accepted,
                    fresh=fresh,
                    request_id=request_id,
                )
            )
        return request_id

    def end(self) -> None:
        """A request is no longer in flight."""
        self._in_flight -= 1

    def _enter(self, entry: LedgerEntry) -> None:
        if len(self._entries) == self.keep:
            oldest = self._entries.popleft()
            if oldest.call_id is not None and self._latest[oldest.call_id] is oldest:
                del self._latest[oldest.call_id]
        self._entries.append(entry)
        if entry.call_id is not None:
            self._latest[entry.call_id] = entry
