"""A worker's part in a run; the rule: this room alone is imported only where Dask is there."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from calls_async.engines._worker import move_in, move_out

_WorkerPlugin: Final[Any] = import_module("distributed").WorkerPlugin


class RunPlugin(_WorkerPlugin):  # type: ignore[misc]  # without Dask's types
    """Opens a home for a run on each worker, those that join later too, and closes it.

    Attributes:
        run: The name of the run.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    def setup(self, worker: Any) -> None:
        """Called by a worker before its first task."""
        del worker
        move_in(self.run)

    async def teardown(self, worker: Any) -> None:
        """Called when the run is over, when another takes its place, or when the worker ends."""
        del worker
        await move_out(self.run)
