"""The public types, as users meet them; read by mypy and pyright (`nox -s types`), never run.

`assert_type` says what a checker has to infer; `assert_never`, that a match is exhaustive. An
annotation that gets looser makes this file an error.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, assert_never, assert_type

import tenacity

from calls_async import (
    Call,
    CallsClient,
    CallsError,
    CallType,
    DecodeError,
    Event,
    Failed,
    Fetched,
    FleetPace,
    HeaderHook,
    Hook,
    Limits,
    ObservingHook,
    RateLimitedError,
    Reservation,
    RetryPolicy,
    Statistics,
    StatusError,
    Timeouts,
    Violation,
    gather_calls,
    structure_call,
    unstructure_call,
)
from calls_async.engines.redis import PaceStatistics, SharedPace
from calls_async.journal import FailureRecord, FetchedRecord, JobStatus, Journal, export_calls
from calls_async.telemetry import LoggingHook, OpenTelemetryHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def one_call(client: CallsClient, call_id: str) -> None:
    assert_type(await client.get_call(call_id), Call)
    assert_type(await client.get_call(call_id, timeout=5), Call)
    assert_type(await client.fetch_call(call_id), Fetched)


def record(call: Call) -> None:
    assert_type(call.call_type, CallType | str)
    assert_type(call.created_at, datetime)
    assert_type(call.started_at, datetime | None)
    assert_type(call.contact.first_name, str | None)
    assert_type(call.contact.is_unknown, bool | None)
    assert_type(structure_call(unstructure_call(call)), Call)


async def lists(client: CallsClient, ids: list[str]) -> None:
    assert_type(await client.gather_calls(ids), list[Call])
    assert_type(await client.gather_calls(ids, return_exceptions=False), list[Call])
    assert_type(await client.gather_calls(ids, return_exceptions=True), list[Call | CallsError])
    assert_type(await gather_calls(ids), list[Call])
    assert_type(await gather_calls(ids, return_exceptions=True), list[Call | CallsError])


async def list_as_told(
    client: CallsClient, ids: tuple[str, ...], *, return_exceptions: bool
) -> None:
    mixed = await client.gather_calls(ids, return_exceptions=return_exceptions)
    assert_type(mixed, list[Call] | list[Call | CallsError])


def some_ids() -> Iterator[str]:
    yield "call-1"


async def more_ids() -> AsyncIterator[str]:
    yield "call-2"


async def stream(client: CallsClient) -> None:
    async with client.stream_calls(some_ids()) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Fetched | Failed)
            match outcome:
                case Fetched(id=call_id, index=index, call=call, raw=raw):
                    assert_type(call_id, str)
                    assert_type(index, int)
                    assert_type(call, Call)
                    assert_type(raw, bytes)
                case Failed(error=error):
                    assert_type(error, CallsError)
                case _:
                    assert_never(outcome)

    async for outcome in client.stream_calls(more_ids()):
        assert_type(outcome, Fetched | Failed)


async def errors(client: CallsClient) -> None:
    try:
        await client.get_call("call-1")
    except RateLimitedError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.retry_at, datetime | None)
    except StatusError as error:
        assert_type(error.status, int)
    except DecodeError as error:
        assert_type(error.violations, tuple[Violation, ...])
    except CallsError as error:
        assert_type(error.call_id, str | None)
        assert_type(error.retryable, bool)


async def key_of_now() -> str:
    return "sk_test_1"


def hook(event: Event) -> None: ...


async def construction() -> None:
    async with CallsClient() as client:
        assert_type(client, CallsClient)
        assert_type(client.statistics(), Statistics)
    CallsClient(lambda: "sk_test_1", base_url="https://calls.example.com", hooks=[hook])
    parent = CallsClient(
        key_of_now,
        retry=RetryPolicy(
            stop=tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(10),
            wait=tenacity.wait_exponential_jitter(max=5),
            retry=tenacity.retry_if_exception_type(CallsError),
        ),
        timeouts=Timeouts(attempt=5, total=20),
        limits=Limits(max_concurrency=8, max_rate=50),
    )
    assert_type(parent.with_options(timeouts=Timeouts(total=60)), CallsClient)
    await parent.close()


async def jobs(client: CallsClient, ids: AsyncIterator[str]) -> None:
    with Journal.open("calls.journal") as journal:
        assert_type(await export_calls(client, ids, journal, digest="sha256:0"), JobStatus)
        assert_type(await export_calls(client, None, journal, retry_failed=True), JobStatus)
    for record in Journal.open("calls.journal", read_only=True).fetched():
        assert_type(record, FetchedRecord)
        assert_type(record.raw, bytes)
    for failure in journal.failed(retryable=True):
        assert_type(failure, FailureRecord)
        assert_type(failure.status, int | None)


class OwnPace:
    async def reserve(self, most: int) -> Reservation:
        return Reservation(0.0, 0.005, most)

    async def park(self, seconds: float) -> None: ...

    async def close(self) -> None: ...


async def fleet() -> None:
    shared = SharedPace("redis://localhost", rate=200, when_away="hold")
    assert_type(shared.statistics(), PaceStatistics)
    paces: list[FleetPace] = [shared, OwnPace()]
    assert_type(await paces[0].reserve(5), Reservation)
    CallsClient(pace=shared)
    await gather_calls([], pace=OwnPace())


def telemetry() -> None:
    """Both hooks are hooks, and one is all that a hook can be."""
    otel = OpenTelemetryHook(attributes={"calls.client": "nightly"})
    log = LoggingHook(period=30, burst=1)
    hooks: tuple[Hook, ...] = (otel, log)
    adding: HeaderHook = otel
    observing: ObservingHook = otel
    CallsClient(hooks=(*hooks, adding, observing))
    assert_type(log.flush(), None)
