"""What each part costs alone, with pyperf; the rule: a component is measured as the client uses it.

`python -m benchmarks.components` takes pyperf's own options. What is beside ours (`orjson.loads`,
a default cattrs converter) is in the same table.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from multidict import CIMultiDict

from benchmarks.machine import installed
from benchmarks.record import ids, record
from benchmarks.rivals.script import converter
from calls_async import Call, Fetched, Limits, structure_call, unstructure_call
from calls_async._codec import decode_call
from calls_async._retry import until_settled
from calls_async._scope import Scope
from calls_async._throttle import Throttle
from calls_async._verdict import Done
from calls_async._wire import Answer
from calls_async.bulk import OutcomeStream
from calls_async.bulk._source import numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyperf

MANY: Final = 1_000
"""Ids that go through the window at a time."""
WIDTH: Final = 128
WANTED: Final = list(ids(MANY, seed=0))
BODIES: Final = [record(call_id.encode()) for call_id in WANTED]
DOCUMENTS: Final = [orjson.loads(body) for body in BODIES]
CALLS: Final = [decode_call(body) for body in BODIES]


def over(values: list[Any], function: Callable[[Any], object]) -> Callable[[], None]:
    """All values one after the other: a thousand records, and not one a thousand times."""

    def each() -> None:
        for value in values:
            function(value)

    return each


def done() -> Done:
    return Done(call=CALLS[0], answer=Answer(200, CIMultiDict(), BODIES[0]))


async def retry_door() -> None:
    """The loop of a thousand calls that are settled at once."""
    settled = done()

    async def attempt() -> Done:
        return settled

    for _ in range(MANY):
        await until_settled(attempt, asyncio.sleep)


def outcome(call: Call) -> Fetched:
    """One outcome, as the fetcher makes it."""
    return Fetched(
        id=call.id,
        index=1,
        call=call,
        raw=b"",
        attempts=1,
        elapsed=0.02,
        request_id="0123456789abcdef",
    )


class TrivialJob:
    """A batch whose calls are there at once."""

    stopped = None
    spare = WIDTH
    fetched = outcome(CALLS[0])

    async def fetch(self, call_id: str, index: int) -> Fetched:  # noqa: ARG002 (of the protocol)
        """The same outcome each time."""
        return self.fetched

    def pull(self, timeout: object) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """A source that never waits."""
        return contextlib.nullcontext()

    def check_home(self) -> None:
        """It is."""

    def leave(self) -> None:
        """Nothing to do."""


async def window() -> None:
    """A thousand ids through the bulk room."""
    job: Any = TrivialJob()
    async with OutcomeStream(lambda _: job, numbered(WANTED), width=WIDTH) as outcomes:
        async for _ in outcomes:
            pass


def gate() -> tuple[Callable[[], None], Callable[[], None]]:
    """Admitting and releasing, and learning from an answer besides."""
    throttle = Throttle(Limits(), max_cool_down=120.0, loop=asyncio.new_event_loop())
    scope, answer = Scope(), done()

    def admit() -> None:
        assert throttle.admit_at_once(scope) is not None
        throttle.release()

    def learn() -> None:
        permit = throttle.admit_at_once(scope)
        assert permit is not None
        throttle.learn(answer, permit)
        throttle.release()

    return admit, learn


def add_all(runner: pyperf.Runner) -> None:
    """Measure each component."""
    admit, learn = gate()
    for name, values, function in (
        ("codec: decode_call", BODIES, decode_call),
        ("codec: structure_call", DOCUMENTS, structure_call),
        ("codec: unstructure_call", CALLS, unstructure_call),
        ("beside it: orjson.loads", BODIES, orjson.loads),
        ("beside it: a default converter", BODIES, lambda body: converter.loads(body, Call)),
        ("outcome: Fetched", CALLS, outcome),
    ):
        runner.bench_func(name, over(values, function), inner_loops=MANY)
    runner.bench_func("gate: admit, release", admit)
    runner.bench_func("gate: admit, learn, release", learn)
    runner.bench_async_func("retry door", retry_door, inner_loops=MANY)
    runner.bench_async_func("window, an id", window, inner_loops=MANY)
    if importlib.util.find_spec("calls_async._transport._head") is not None:
        add_head(runner)


def add_head(runner: pyperf.Runner) -> None:
    """The lane's reading of a head, with lengths and request ids as the records have them."""
    heads: Any = importlib.import_module("calls_async._transport._head").Heads()
    answers = [
        b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: keep-alive\r\nx-request-id: %032x" % (len(body), number)
        for number, body in enumerate(BODIES)
    ]
    runner.bench_func("lane: head", over(answers, heads.read), inner_loops=MANY)


def measured(*, fast: bool) -> dict[str, list[float]]:
    """Seconds of each component, in processes of pyperf's own; nothing if pyperf is missing."""
    if installed("pyperf") is None:
        return {}
    import pyperf  # noqa: PLC0415 (not everybody has it)

    sizes = ["--fast", "--processes=3"] if fast else ["--processes=7"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "components.json"
        command = [sys.executable, "-m", "benchmarks.components", "--quiet", *sizes]
        command += ["-o", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (this module)
        suite = pyperf.BenchmarkSuite.load(str(file))
        return {each.get_name(): list(each.get_values()) for each in suite.get_benchmarks()}


def main() -> None:
    import pyperf  # noqa: PLC0415 (not everybody has it)

    add_all(pyperf.Runner(program_args=("-m", "benchmarks.components")))


if __name__ == "__main__":
    main()
