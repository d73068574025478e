"""Client and server in a network of their own; the rule: it is the kernel that loses the packets.

`unshare` gives the program a network namespace, where nothing but it and its server lives, and
`nft` and `tc` hurt the packets of the loopback interface there. The machine's own network is not
touched, and no privilege is needed where unprivileged user namespaces are allowed.

`python -m tests.peers.netns NAME` is what runs inside; it prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async import CallsClient, CallsError, Limits, RetryPolicy, Timeouts
from calls_async.testing import Sandbox
from tests.kit import ROOT, call_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE: Final = 120.0
"""Seconds in which a case must be over."""


@attrs.frozen
class Trouble:
    """What happens to the packets.

    Attributes:
        rules: What the kernel does with packets on their way out; `{port}` is the server's.
        rate: Kilobits a second that the interface lets through; `None`: no limit.
        begins: Seconds after the batch's start; 0: before it.
        ends: Seconds after the batch's start; `None`: never.
        single: Whether one call is made, and not a batch.
        ids: How many ids a batch has.
    """

    rules: tuple[str, ...] = ()
    rate: int | None = None
    begins: float = 0.0
    ends: float | None = None
    single: bool = False
    ids: int = 300


TROUBLES: Final = {
    "loss": Trouble(("tcp sport {port} numgen random mod 100 < 10 drop",)),
    "loss both ways": Trouble(
        (
            "tcp sport {port} numgen random mod 100 < 5 drop",
            "tcp dport {port} numgen random mod 100 < 5 drop",
        )
    ),
    "resets now and then": Trouble(
        ("tcp dport {port} numgen random mod 100 < 3 reject with tcp reset",)
    ),
    "reset after some packets": Trouble(
        ("tcp dport {port} ct original packets > 12 reject with tcp reset",)
    ),
    "black hole for a while": Trouble(("tcp sport {port} drop",), begins=0.05, ends=2.5, ids=3000),
    "narrow": Trouble(rate=1024),
    "black hole": Trouble(("tcp sport {port} drop",), single=True),
    "reset at once": Trouble(("tcp dport {port} reject with tcp reset",), single=True),
}
"""By name; in a batch every id must have its record in the end, a single call meets its end."""


def missing() -> str | None:
    """Why it cannot be done here; `None` if it can."""
    for program, package in {"unshare": "util-linux", "ip": "iproute2", "tc": "iproute2"}.items():
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: {package})"
    if shutil.which("nft") is None:
        return "nft is not installed (Debian: nftables)"
    tried = subprocess.run(  # noqa: S603 (the command is this file's)
        [*_INSIDE, "nft", "list", "tables"], capture_output=True, text=True, check=False
    )
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else None


_INSIDE: Final = ("unshare", "--map-root-user", "--net")


def run(name: str) -> dict[str, Any]:
    """What became of one case, in a network of its own."""
    done = subprocess.run(  # noqa: S603 (the command is this file's)
        [*_INSIDE, sys.executable, "-m", "tests.peers.netns", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE + 10.0,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# --- Inside --------------------------------------------------------------------------------------


async def _inside(trouble: Trouble) -> dict[str, Any]:
    async with Sandbox() as sandbox, asyncio.timeout(PATIENCE):
        port = int(sandbox.base_url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        if trouble.begins:
            loop.call_later(trouble.begins, _begin, trouble, port)
        else:
            _begin(trouble, port)
        if trouble.ends is not None:
            loop.call_later(trouble.ends, _end)
        client = CallsClient(
            sandbox.api_key,
            base_url=sandbox.base_url,
            retry=RetryPolicy(max_attempts=3),
            timeouts=Timeouts(attempt=1.0, total=30.0),
            limits=Limits(max_concurrency=32),
        )
        began = time.monotonic()
        async with client:
            if trouble.single:
                ends = [await _one(client)]
            else:
                ids = call_ids(trouble.ids)
                calls = await client.gather_calls(ids, return_exceptions=True)
                ends = [
                    type(call).__name__ if isinstance(call, CallsError) else str(call.id == wanted)
                    for wanted, call in zip(ids, calls, strict=True)
                ]
            requests = client.statistics().requests
        return {
            "ends": Counter(ends),
            "requests": requests,
            "arrived": len(sandbox.ledger),
            "seconds": round(time.monotonic() - began, 2),
        }


async def _one(client: CallsClient) -> str:
    try:
        await client.get_call("call-1")
    except CallsError as exc:
        return f"{type(exc).__name__} after {exc.attempts}"
    return "True"


def _begin(trouble: Trouble, port: int) -> None:
    for rule in trouble.rules:
        _system("nft", f"add rule inet trouble out {rule.format(port=port)}")
    if trouble.rate is not None:
        limits = f"rate {trouble.rate}kbit burst 70000 latency 400ms"
        _system("tc", *f"qdisc replace dev lo root tbf {limits}".split())


def _end() -> None:
    _system("nft", "flush chain inet trouble out")


def _system(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 (the commands are this file's)


def main(arguments: Sequence[str]) -> None:
    """Run one case, in the namespace that this process is in."""
    (name,) = arguments
    _system("ip", "link", "set", "lo", "up")
    _system("nft", "add table inet trouble")
    _system("nft", "add chain inet trouble out { type filter hook output priority 0 ; }")
    told = asyncio.run(_inside(TROUBLES[name]))
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
