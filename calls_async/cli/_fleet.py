"""A job on a cluster; the rule: this process reads the ids and tells, and the workers do the rest.

How it ends is told as for a job with a journal. The first Ctrl-C lets the chunks under way finish,
the second calls them off.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import attrs
import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from calls_async import AuthenticationError, CallsError, ConfigurationError, Limits, SourceError
from calls_async.cli._exits import Exit
from calls_async.cli._signals import sparing_children, stopping
from calls_async.cli._words import complaint, duration, per_second
from calls_async.engines.dask import export_calls_dask
from calls_async.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from calls_async import ClientOptions, FleetPace
    from calls_async.cli._talk import Talk
    from calls_async.engines.dask import DaskProgress, DaskSummary

LOCAL: Final = "local"
"""The address that means a cluster of this machine's own, for the time of the job."""

_THREADS: Final = 4
"""Chunks at one time in each worker of such a cluster: one that waits for its last id costs no
time then."""
_PATIENCE: Final = "20s"
"""How long a scheduler may take to answer."""
_EVERY: Final = 10.0
"""Seconds between two lines."""
_WINDOW: Final = 15.0
"""Seconds back that the speed is measured over; parts come in leaps."""


@attrs.frozen(kw_only=True)
class Fleet:
    """One run of `calls-async fetch --dask`.

    Attributes:
        address: Where the scheduler is, or `LOCAL`.
        out: Where the dataset is to be; `None` is refused.
        chunk_size: Ids to a part.
        retry_failed: Whether failures of finished parts are tried again.
        max_rate: Requests a second of the whole fleet, at most.
        pace: What keeps it; without it the rate is shared out evenly.
        concurrency: Requests at the same time of each client.
        patience: How long a chunk goes on while nobody answers.
        base_url: Where the API is, in place of the variable.
    """

    address: str
    out: str | None
    chunk_size: int
    retry_failed: bool
    max_rate: float | None
    pace: FleetPace | None
    concurrency: int
    patience: float
    base_url: str | None

    def run(self, ids: Iterator[str], talk: Talk) -> Exit:
        """Do the job, and give account."""
        if self.out is None:
            raise click.UsageError("--dask: give --out FOLDER for the parts, or a URL.")
        limits = Limits(max_concurrency=self.concurrency, patience=self.patience)
        config: ClientOptions = {"base_url": self.base_url, "limits": limits, "pace": self.pace}
        seen = _Seen()
        stop = Event()
        summary: DaskSummary | None = None
        reason: CallsError | None = None
        with _cluster(self.address) as client, choose_view(talk) as view, stopping(stop.set):

            def show(progress: DaskProgress) -> None:
                seen.take(progress, stopping=stop.is_set())
                view.show(seen)

            try:
                summary = export_calls_dask(
                    client,
                    ids,
                    self.out,
                    config=config,
                    chunk_size=self.chunk_size,
                    retry_failed=self.retry_failed,
                    max_rate=self.max_rate if self.pace is None else None,
                    progress=show,
                    stop=stop,
                )
            except KeyboardInterrupt:
                stop.set()
            except CallsError as exc:
                reason = exc
        return _account(talk, self.out, seen, summary, reason, interrupted=stop.is_set())


@contextmanager
def _cluster(address: str) -> Generator[Any]:
    """A client of Dask's; where the address is `LOCAL`, of a cluster that ends with the block."""
    try:
        distributed: Any = import_module("distributed")
    except ImportError as exc:
        problem = "--dask needs Dask: pip install 'calls_async[dask]'"
        raise ConfigurationError(problem) from exc
    if address == LOCAL:
        with sparing_children():
            cluster = distributed.LocalCluster(
                threads_per_worker=_THREADS,
                n_workers=import_module("dask.system").CPU_COUNT,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
        with cluster, distributed.Client(cluster) as client:
            yield client
        return
    try:
        client = distributed.Client(address, timeout=_PATIENCE)
    except (OSError, ValueError) as exc:
        raise EngineError(f"no scheduler answers at {address}: {exc}") from exc
    with client:
        yield client


# --- The end -------------------------------------------------------------------------------------


def _account(
    talk: Talk,
    out: str,
    seen: _Seen,
    summary: DaskSummary | None,
    reason: CallsError | None,
    *,
    interrupted: bool,
) -> Exit:
    """Give account, and say which code the command ends with."""
    told = summary or seen.progress
    complete = summary is not None and summary.complete
    asked, fetched, failed, parts, seconds = (
        (0, 0, 0, 0, 0.0)
        if told is None
        else (told.asked, told.fetched, told.failed, told.parts, told.elapsed)
    )
    failed_by = {} if told is None else dict(told.failed_by)
    line = f"{fetched:,} of {asked:,} fetched in {duration(seconds)}, {parts:,} parts: {out}"
    lines = [f"interrupted: {line}" if interrupted and not complete else line]
    if failed:
        most = sorted(failed_by.items(), key=lambda item: -item[1])
        lines.append(f"{failed:,} failed: {', '.join(f'{n:,} {kind}' for kind, n in most)}")
        lines.append(f"they are in {out.rstrip('/')}/errors; --retry-failed tries them again")
    if reason is not None:
        lines.append(f"stopped: {complaint(reason)}")
    if not complete:
        lines.append("run the same command again to go on")
    code = _code(reason, complete=complete, failed=failed)
    talk.tell(
        "end",
        *lines,
        dataset=out,
        asked=asked,
        fetched=fetched,
        failed=failed,
        failedBy=failed_by,
        parts=parts,
        seconds=round(seconds, 3),
        complete=complete,
        interrupted=interrupted,
        stoppedBy=None if reason is None else type(reason).__name__,
        message=None if reason is None else complaint(reason),
        exitCode=int(code),
    )
    return code


def _code(reason: CallsError | None, *, complete: bool, failed: int) -> Exit:
    if isinstance(reason, AuthenticationError | ConfigurationError):
        return Exit.CONFIGURATION
    if isinstance(reason, SourceError):
        return Exit.USAGE
    if reason is None and not complete:
        return Exit.INTERRUPTED
    return Exit.FAILED if reason or failed else Exit.FETCHED


# --- While it runs -------------------------------------------------------------------------------


class _Seen:
    """The latest of what a job has told, and how quick it is.

    Attributes:
        progress: How far the job is; `None` before it has told anything.
        stopping: Whether only what is under way is still finished.
    """

    def __init__(self) -> None:
        self.progress: DaskProgress | None = None
        self.stopping = False
        self._history: deque[tuple[float, int]] = deque()

    def take(self, progress: DaskProgress, *, stopping: bool) -> None:
        """Note how far the job is."""
        self.progress, self.stopping = progress, stopping
        self._history.append((progress.elapsed, progress.fetched + progress.failed))
        while self._history[0][0] < progress.elapsed - _WINDOW and len(self._history) > 2:
            self._history.popleft()

    @property
    def speed(self) -> float:
        """Calls per second, over the last few seconds."""
        (since, before), (until, done) = self._history[0], self._history[-1]
        return (done - before) / max(1.0, until - since)

    @property
    def line(self) -> str:
        """How far the job is, on one line."""
        told = self.progress
        if told is None:
            return "nothing yet"
        so_far = " so far" if told.reading else ""
        return (
            f"{told.fetched + told.failed:,} of {told.asked:,}{so_far} done, "
            f"{told.failed:,} failed, {per_second(self.speed)}"
        )

    @property
    def cluster(self) -> str:
        """What the cluster does, on one line."""
        told = self.progress
        if told is None or not told.workers:
            return "waiting for workers"
        state = (
            " · finishing what is under way; Ctrl-C again stops at once" if self.stopping else ""
        )
        return f"{told.workers:,} workers · {told.under_way:,} chunks under way{state}"


class _View(Protocol):
    def show(self, seen: _Seen) -> None:
        """Show the job as it is now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class _Lines:
    """A line at the start, and every ten seconds."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._due = float("-inf")

    def show(self, seen: _Seen) -> None:
        told = seen.progress
        if told is None or told.elapsed < self._due:
            return
        self._due = told.elapsed + _EVERY
        self._talk.tell(
            "progress",
            f"{seen.line}, {seen.cluster}",
            asked=told.asked,
            done=told.fetched + told.failed,
            fetched=told.fetched,
            failed=told.failed,
            failedBy=dict(told.failed_by),
            callsPerSecond=round(seen.speed, 3),
            parts=told.parts,
            chunksUnderWay=told.under_way,
            workers=told.workers,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class _Live:
    """A picture that is drawn in place, and is gone at the end."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, seen: _Seen) -> None:
        self._live.update(fleet_picture(seen), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


def fleet_picture(seen: _Seen) -> Group:
    """The job in three lines that fit any width."""
    told = seen.progress
    done = 0 if told is None else told.fetched + told.failed
    asked = 0 if told is None else told.asked
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True, min_width=7)
    lines.add_column(no_wrap=True, overflow="ellipsis")
    lines.add_row("calls", Text(seen.line))
    lines.add_row("cluster", Text(seen.cluster))
    return Group(ProgressBar(total=max(1, asked), completed=done), lines)


def choose_view(talk: Talk) -> _View:
    """The view for what standard error is, and for how the user wants to be talked to."""
    console = Console(stderr=True)
    if talk.for_people and console.is_interactive and console.file.isatty():
        return _Live(console)
    return _Lines(talk)
