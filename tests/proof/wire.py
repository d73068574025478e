"""What the sweeps of the wire share; the rule: each case has a client and a path of its own.

So no case slows another one down or is served by its connection: gate, retry budget and connections
are one client's, and the server sees by the path whose request it answers. Many cases run at the
same time, because they wait for each other's sockets most of the time.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp.client_proto
import aiohttp.http_parser
import attrs

from calls_async import CallsClient, CallsError, Fetched, RetryPolicy, Timeouts, structure_call
from tests.proof.answers import BODY, CALL, CALL_ID, OTHER_BODY, OTHER_ID
from tests.proof.leftovers import nothing_left
from tests.rawserver import http, raw_server
from tests.ways import USUAL, over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.proof.tally import Tally
    from tests.rawserver import Exchange

AT_ONCE = 32
"""Cases that run at the same time."""
BATCH = 1000
"""Cases between two looks at what was left behind."""

ONCE = RetryPolicy(max_attempts=1, max_throttled_attempts=1)
"""What comes back is what the user sees."""
AGAIN = RetryPolicy(max_attempts=10, backoff_base=0.0, throttle_backoff_base=0.0)
"""Retries, at once, and so many that a busy machine cannot use them up."""
PATIENT = Timeouts(attempt=8.0, total=9.0)
"""So long that no case can end by it, unless it would have hung."""


End: TypeAlias = Fetched | CallsError
Law: TypeAlias = "Callable[[End], str]"
"""What is wrong with an end; an empty text if nothing is."""


@attrs.frozen(kw_only=True)
class Case:
    """One call, and what the server does with it.

    Attributes:
        name: Tells how to see it again.
        answer: What the server does with a request, as a script of the raw server, and which
            request of this case it is, from 1.
        law: What the end has to be.
        warm: Whether a good call comes first, on the same connection.
        then: What the end of a good call has to be that comes next; `None`: none comes.
        retry: The client's policy.
        timeouts: The client's timeouts.
    """

    name: str
    answer: Callable[[Exchange, int], Any]
    law: Law
    warm: bool = False
    then: Law | None = None
    retry: RetryPolicy = ONCE
    timeouts: Timeouts = PATIENT


def brings(end: End, body: bytes = BODY, call_id: str = CALL_ID) -> bool:
    """Whether it is the record of this id, and `body` is what was received."""
    if not isinstance(end, Fetched) or end.raw != body:
        return False
    told = CALL if body == BODY else structure_call(json.loads(body))
    return end.id == end.call.id == call_id and end.call == told


def other_or_error(end: End) -> str:
    """For a good call on a connection that may be spoilt: its own record, or an error."""
    if isinstance(end, CallsError) or brings(end, OTHER_BODY, OTHER_ID):
        return ""
    return "neither its record nor an error"


def other(end: End) -> str:
    """For a good call that may be tried again: its own record."""
    return "" if brings(end, OTHER_BODY, OTHER_ID) else f"not its record: {end!r}"


async def go_through(tally: Tally, cases: Iterable[Case]) -> None:
    """Run all cases, and look from time to time at what they left behind."""
    waiting = iter(cases)
    while batch := list(islice(waiting, BATCH)):
        async with nothing_left(tally, f"{batch[0].name} to {batch[-1].name}"):
            await _run(tally, batch)


async def _run(tally: Tally, batch: list[Case]) -> None:
    came: list[list[tuple[str, int]]] = [[] for _ in batch]  # ids and connections, of each case

    def script(exchange: Exchange) -> Any:
        _, number, *_, call_id = exchange.target.split("/")
        case, seen = batch[int(number)], came[int(number)]
        seen.append((call_id, exchange.connection))
        if call_id == OTHER_ID:
            return http(OTHER_BODY)
        return case.answer(exchange, sum(call_id == CALL_ID for call_id, _ in seen))

    async with raw_server(script) as server:
        todo = iter(enumerate(batch))

        async def work() -> None:
            for number, case in todo:
                await _carry_out(tally, case, f"{server.url}/{number}", came[number])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        try:
            await server.quiet()
        except TimeoutError:
            left = f"{server.open} connections"
            tally.found(f"{batch[0].name} to {batch[-1].name}", "leaks", left)


async def _carry_out(tally: Tally, case: Case, url: str, came: list[tuple[str, int]]) -> None:
    async with CallsClient(
        "sk_test_of_the_sweeps", base_url=url, retry=case.retry, timeouts=case.timeouts
    ) as client:
        if case.warm:
            await client.fetch_call(OTHER_ID)
        end = await _judged(tally, case.name, client, CALL_ID, case.law)
        requests = [connection for call_id, connection in came if call_id == CALL_ID]
        # On a busy machine a brief attempt may be over before the server has read its request.
        unread = end.attempts - len(requests) if isinstance(end, End) else 0
        if unread < 0 or (unread and case.timeouts is PATIENT):
            tally.found(case.name, "wrong", f"{end.attempts} attempts, {len(requests)} requests")
        if case.warm and requests[:1] != [came[0][1]]:
            tally.found(case.name, "wrong", "it was not sent on the connection that was open")
        if case.then is not None:
            await _judged(tally, f"{case.name}, the call after it", client, OTHER_ID, case.then)


async def _judged(
    tally: Tally, name: str, client: CallsClient, call_id: str, law: Law
) -> Fetched | BaseException:
    end = await tally.judge(name, client.fetch_call(call_id), accept=lambda got: not law(got))
    if isinstance(end, CallsError) and (complaint := law(end)):
        tally.found(name, "wrong", f"{complaint}: {end!r}"[:300])
    return end


# --- Who reads answers ---------------------------------------------------------------------------

PARSERS: Final[dict[str, Any]] = {
    name: vars(aiohttp.http_parser)[cls]
    for name, cls in (("llhttp", "HttpResponseParserC"), ("python", "HttpResponseParserPy"))
    if cls in vars(aiohttp.http_parser)
}
"""aiohttp reads answers with one in C, where that could be built, and else with one in Python."""
READERS: Final = (USUAL, *PARSERS)
"""The lane, which has aiohttp read what is unusual; and the session, with either parser."""


@contextmanager
def read_by(name: str) -> Iterator[None]:
    """Let the lane read answers, or the session with this parser, as it would without the other."""
    if name == USUAL:
        yield
        return
    usual = aiohttp.client_proto.HttpResponseParser
    aiohttp.client_proto.HttpResponseParser = PARSERS[name]
    try:
        with over("session"):
            yield
    finally:
        aiohttp.client_proto.HttpResponseParser = usual


async def go_through_with_each_reader(
    tally: Tally, cases: Callable[[str, int, int], Iterable[Case]], *, step: int
) -> None:
    """Run cases with each reader.

    Args:
        tally: Where their ends are put down.
        cases: Gives, for a reader's name, every so many-th case from the so many-th on. Each reader
            begins elsewhere, so that together they see more than one of them would.
        step: Every so many-th; 1 is all of them.
    """
    for number, name in enumerate(READERS):
        with read_by(name):
            await go_through(tally, cases(name, number % step, step))
