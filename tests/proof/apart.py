"""A client in a process of its own: what is measured is its memory alone, and its loop's turns.

`python -m tests.proof.apart WAY URL SECONDS ID ...` fetches the ids one after the other, after an
ordinary call that warms everything up, and writes what it measured, pickled.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from calls_async import CallsClient, CallsError, RetryPolicy, Timeouts
from tests.kit import ROOT
from tests.proof.loops import blocked, run_watched, watched
from tests.ways import over, taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proof.tally import Tally

KEY = "sk_test_of_the_proof"
ORDINARY = "ordinary"
"""The id that the server must answer with its record."""
GROWN = 64
"""MB of memory that an answer may cost at most."""
STATUS = Path("/proc/self/status")


@attrs.frozen(kw_only=True)
class Measured:
    """One call.

    Attributes:
        end: The record as received, or an error of ours; a text: the repr of something foreign.
        grown: MB of memory at the most, beyond what the call before had left.
        blocked: Seconds of the loop's longest turn.
    """

    end: bytes | CallsError | str
    grown: float
    blocked: float

    def judge(self, tally: Tally, case: str, *, short: bool) -> None:
        """Put down what it cost."""
        blocked(tally, case, self.blocked, short=short)
        tally.measured("most memory, MB", self.grown)
        if self.grown > GROWN:
            tally.found(case, "leaks", f"{self.grown:.0f} MB")

    async def again(self) -> bytes:
        """What the user got, once more."""
        if isinstance(self.end, CallsError):
            raise self.end
        if isinstance(self.end, bytes):
            return self.end
        raise RuntimeError(self.end)


async def fetched_apart(url: str, ids: Sequence[str], *, seconds: float) -> list[Measured]:
    """Fetch in a process of its own, by the way that is gone here.

    Each attempt has so many seconds, and is the only one.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, taken(), url, str(seconds), *ids),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30 + (30 + seconds) * len(ids)):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    measured: list[Measured] = pickle.loads(base64.b64decode(out))
    return measured


async def _measure(url: str, seconds: float, ids: Sequence[str]) -> list[Measured]:
    once = RetryPolicy(max_attempts=1, max_throttled_attempts=1)
    timeouts = Timeouts(attempt=seconds, total=20 + seconds)
    measured: list[Measured] = []
    async with CallsClient(KEY, base_url=url) as client:
        await client.get_call(ORDINARY)
    for call_id in ids:
        before = _megabytes("VmRSS")
        _forget_peak()
        watched().forget()
        end: bytes | CallsError | str
        try:
            # Each has a client of its own, which no earlier 429 has slowed down. One that hangs
            # must not stop the sweep.
            async with (
                asyncio.timeout(30 + seconds),
                CallsClient(KEY, base_url=url, retry=once, timeouts=timeouts) as client,
            ):
                end = (await client.fetch_call(call_id)).raw
        except CallsError as exc:
            end = exc
        except Exception as exc:  # noqa: BLE001 (it is what is looked for)
            end = repr(exc)
        await asyncio.sleep(0)  # the last turn counts as well
        grown = _megabytes("VmHWM") - before
        measured.append(Measured(end=end, grown=grown, blocked=watched().longest))
    return measured


def _megabytes(name: str) -> float:
    """A line of this process' status; 0 where the system does not show it."""
    if not STATUS.exists():
        return 0.0
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def _forget_peak() -> None:
    """Let the highest memory so far be what it is now, as proc(5) says of `clear_refs`."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


if __name__ == "__main__":
    # Under its own name: what is pickled here is read by others.
    from tests.proof import apart

    way, url, seconds, *ids = sys.argv[1:]
    with over(way):
        pickled = pickle.dumps(run_watched(apart._measure(url, float(seconds), ids)))
    sys.stdout.write(base64.b64encode(pickled).decode())
