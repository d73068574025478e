"""A service that fetches the calls whose ids it finds in a table: `python -m examples.service`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
from typing import TYPE_CHECKING

from calls_async import CallsClient, ClientClosedError, Failed, Fetched, StoppedBy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GRACE = float(os.environ.get("CALLS_GRACE", "20"))  # seconds for what is in flight at the end
SIGNALS = (signal.SIGINT, signal.SIGTERM)
THE_BATCH_ENDED = {StoppedBy.CLOSED, StoppedBy.KEY_REFUSED, StoppedBy.PATIENCE}
TODO = """SELECT rowid, id FROM calls WHERE raw IS NULL AND error IS NULL AND rowid > ?
          ORDER BY rowid LIMIT 500"""

log = logging.getLogger("service")


async def main(path: str) -> None:
    """Fetch, until a signal comes."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE IF NOT EXISTS calls (id TEXT UNIQUE, raw BLOB, error TEXT)")
    ids: asyncio.Queue[str] = asyncio.Queue(maxsize=1000)
    async with CallsClient() as client, asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(find_ids(db, ids)),
            group.create_task(tell(client)),
            group.create_task(drain_on_signal(client)),
        ]
        await fetch(client, ids, db)
        for helper in helpers:
            helper.cancel()
    log.info("stopped")


async def find_ids(db: sqlite3.Connection, ids: asyncio.Queue[str]) -> None:
    """Put each id of the table that has no outcome into the queue; it may be filled meanwhile."""
    last = 0
    while True:
        for row, call_id in db.execute(TODO, [last]).fetchall():
            await ids.put(call_id)
            last = row
        await asyncio.sleep(0.5)


async def given(ids: asyncio.Queue[str]) -> AsyncIterator[str]:
    """The ids, one by one."""
    while True:
        yield await ids.get()


async def fetch(client: CallsClient, ids: asyncio.Queue[str], db: sqlite3.Connection) -> None:
    """Write each outcome down; an id without one is found again by the next run."""
    try:
        async with client.stream_calls(given(ids)) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case Fetched(id=call_id, raw=raw):
                        db.execute("UPDATE calls SET raw = ? WHERE id = ?", [raw, call_id])
                    case Failed(error=error) if error.stopped_by in THE_BATCH_ENDED:
                        pass
                    case Failed(id=call_id, error=error):
                        reason = f"{type(error).__name__}: {error}"
                        db.execute("UPDATE calls SET error = ? WHERE id = ?", [reason, call_id])
    except ClientClosedError:
        pass  # a signal has come; any other error ends the service, for its supervisor to see


async def tell(client: CallsClient) -> None:
    """Log every ten seconds how it goes."""
    while True:
        now = client.statistics()
        log.info("fetched %d, failed %d, %d retries", now.fetched, now.failed, now.retries)
        if now.cool_down or now.outage:
            log.warning("the server wants %.0f s of silence, or is away", now.cool_down)
        await asyncio.sleep(10)


async def drain_on_signal(client: CallsClient) -> None:
    """At the first signal finish what was begun; the second one ends the process, as ever."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, signalled.set)
    await signalled.wait()
    for number in SIGNALS:
        loop.remove_signal_handler(number)
    log.info("stopping within %g s", GRACE)
    await client.close(grace=GRACE)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(os.environ.get("CALLS_DB", "calls.db")))
