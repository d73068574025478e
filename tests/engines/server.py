"""A sandbox in a process of its own, which tells its ledger when it is asked; see `kit.Server`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from calls_async.testing import Ledger, Sandbox


async def main(options):
    async with Sandbox(ledger=Ledger(keep=1_000_000), **options) as sandbox:
        gc.freeze()
        gc.disable()  # it would hold up arrivals, which then come at once
        sys.stdout.write(f"{sandbox.base_url}\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            entries = [(e.at, e.call_id, e.status) for e in sandbox.ledger.entries]
            sys.stdout.write(f"{json.dumps(entries)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
