"""How far a job is, for people and for programs; the rule: the journal alone is asked.

So it can be asked at any time, also while another process writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from calls_async.cli._terminal import foreign
from calls_async.cli._words import duration, per_second

if TYPE_CHECKING:
    from datetime import datetime

    from calls_async.journal import JobStatus


def told(status: JobStatus) -> Table:
    """The status for people."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    done = status.fetched + status.failed
    repeated = f" ({status.duplicates:,} given again)" if status.duplicates else ""
    table.add_row("ids", f"{status.asked:,}{repeated}")
    table.add_row("done", f"{done:,}{_share(done, status.asked)}")
    table.add_row("fetched", f"{status.fetched:,}")
    table.add_row("failed", Text(f"{status.failed:,}", style="red" if status.failed else ""))
    for family, number in sorted(status.failed_by.items(), key=lambda item: -item[1]):
        table.add_row("", foreign(f"{number:,} {family}"))
    if status.failed:
        table.add_row("", f"{status.retryable:,} of them may be tried again")
    table.add_row("left", f"{status.left:,}")
    table.add_row("rate", "unknown" if status.rate is None else per_second(status.rate))
    if status.left:
        forecast = status.forecast
        table.add_row("forecast", "unknown" if forecast is None else duration(max(1.0, forecast)))
    table.add_row("begun", _time(status.started_at))
    if status.last_at is not None:
        table.add_row("last", _time(status.last_at))
    return table


def members(status: JobStatus) -> dict[str, Any]:
    """The status for programs. The members are documented in the reference of the command line."""
    return {
        "asked": status.asked,
        "duplicates": status.duplicates,
        "done": status.fetched + status.failed,
        "fetched": status.fetched,
        "failed": status.failed,
        "failedBy": dict(status.failed_by),
        "retryable": status.retryable,
        "left": status.left,
        "rate": status.rate,
        "forecast": status.forecast,
        "startedAt": _iso(status.started_at),
        "lastAt": None if status.last_at is None else _iso(status.last_at),
    }


def _share(part: int, whole: int) -> str:
    # Rounded down: 100% is said of all, and of nothing less.
    return f" ({100 * part // whole}%)" if whole else ""


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
