"""What is logged, at which level, how often, and with which fields."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle

import pytest

from calls_async import CallsClient, CallsError, ConfigurationError, Limits, events
from calls_async.telemetry import LoggingHook
from calls_async.testing import FakeTransport, Fault, Sandbox, fake_client
from tests.kit import call_ids, in_virtual_time

ID = "call-1"
KEY = "sk_live_0a1b2c3d4e5f6071"
SLOW = Fault.status(429, headers={"Retry-After": "3"})


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "calls_async")
    return caplog


def lines(log, *, least=logging.INFO):
    """(level, event) of each line."""
    return [
        (record.levelname, record.calls_event)
        for record in log.records
        if record.name == "calls_async" and record.levelno >= least
    ]


@in_virtual_time
async def test_a_call_that_succeeds_is_no_line(log):
    """Nor are its retries, short of DEBUG."""
    transport = FakeTransport(faults={ID: [Fault.status(500), Fault.reset]})
    async with fake_client(transport, hooks=(LoggingHook(),)) as client:
        await client.get_call(ID)
        await client.gather_calls(call_ids(50))
    assert lines(log) == []


@in_virtual_time
async def test_an_outage_is_two_lines(log):
    """One when it begins and one when it ends, however many attempts fail in between."""
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, hooks=(LoggingHook(),)) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(200)))
        await asyncio.sleep(60.0)
        transport.reachable = True
        await batch
    outage = [line for line in lines(log) if "outage" in line[1]]
    assert outage == [("WARNING", "outage_entered"), ("WARNING", "outage_left")]
    entered, left = (record for record in log.records if "outage" in record.calls_event)
    assert 0.0 < entered.calls_seconds < left.calls_seconds
    assert "batches hold" in entered.getMessage()
    assert "answers again" in left.getMessage()


@in_virtual_time
async def test_a_silence_and_a_new_pace_are_a_line_each(log):
    """What the server asks of all calls is told once, at INFO."""
    transport = FakeTransport(faults={call_id: [SLOW] for call_id in call_ids(20)})
    async with fake_client(transport, hooks=(LoggingHook(),)) as client:
        await client.gather_calls(call_ids(20))
    assert lines(log)[:2] == [("INFO", "cool_down"), ("INFO", "pace")]
    silence, pace = log.records[:2]
    assert silence.calls_seconds == 3.0
    assert silence.getMessage() == "the server asks for silence: nothing is sent for 3.0 s"
    assert pace.calls_rate > 0.0


def cool_down(at, seconds=1.0):
    return events.CoolDownEntered(at=at, seconds=seconds)


def test_what_repeats_itself_is_counted(log):
    """Once in a period; the next line says how many there were."""
    hook = LoggingHook(period=60.0)
    for at in (0.0, 1.0, 59.9, 60.0, 61.0):
        hook(cool_down(at))
    hook(events.PaceChanged(at=62.0, rate=None))
    hook(events.OutageEntered(at=62.0, seconds=1.0))
    hook(events.OutageEntered(at=63.0, seconds=1.0))
    assert [record.calls_held for record in log.records] == [0, 2, 0, 0, 0]
    assert log.records[1].getMessage().endswith("(2 more like this since the last line)")
    hook.flush()
    assert log.records[-1].getMessage() == "1 more of cool_down were not logged one by one"
    assert (log.records[-1].levelname, log.records[-1].calls_held) == ("INFO", 1)
    hook.flush()
    hook(cool_down(130.0))
    assert log.records[-1].calls_held == 0


@in_virtual_time
async def test_calls_that_fail_are_warnings_and_not_a_flood(log):
    """A few of each kind are logged, and then they are counted."""
    hook = LoggingHook(burst=3)
    faults = {f"gone-{n}": Fault.status(404) for n in range(1000)} | {"no": Fault.status(403)}
    async with fake_client(FakeTransport(faults=faults), hooks=(hook,)) as client:
        await client.gather_calls(faults, return_exceptions=True)
    assert lines(log) == [("WARNING", "call_failed")] * 4
    assert [record.calls_error for record in log.records] == [
        *["NotFoundError"] * 3, "PermissionDeniedError",
    ]  # fmt: skip
    hook.flush()
    assert log.records[-1].calls_held == 997
    first = log.records[0]
    assert (first.calls_id, first.calls_status, first.calls_attempts) == ("gone-0", 404, 1)
    assert (first.calls_stopped_by, first.calls_request_id) == ("final", "req-1")
    assert first.getMessage() == (
        "call 'gone-0' failed after 0.00 s (attempts: 1): NotFoundError: "
        "the server answered 404 Not Found"
    )


@in_virtual_time
async def test_debug_tells_everything(log):
    """Each request, wait and retry, for who looks for a fault."""
    log.set_level(logging.DEBUG, "calls_async")
    transport = FakeTransport(faults={ID: [Fault.status(500)], "b": [SLOW]}, latency=1.0)
    limits = Limits(max_concurrency=1)
    async with fake_client(transport, hooks=(LoggingHook(),), limits=limits) as client:
        await client.gather_calls([ID, "b"])
        call = asyncio.create_task(client.get_call("c"))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.wait([call])
    told = {event for level, event in lines(log, least=logging.DEBUG) if level == "DEBUG"}
    assert told == {
        "attempt_finished", "attempt_cancelled", "call_cancelled", "call_fetched", "call_parked",
        "retry_scheduled",
    }  # fmt: skip
    fields = {name for record in log.records for name in vars(record) if name[:6] == "calls_"}
    assert fields >= {"calls_id", "calls_serial", "calls_attempt", "calls_delay", "calls_reason"}
    for record in log.records:
        assert record.getMessage()


@pytest.mark.usefixtures("way")
async def test_no_key_and_no_body_is_logged(log):
    """At no level, whatever a server echoes."""
    log.set_level(logging.DEBUG, "calls_async")
    echo = Fault.status(403, body=f"body {KEY}", headers={"X-Request-Id": f"for {KEY}"})
    async with (
        Sandbox(api_keys=(KEY,), faults={"b": echo}) as sandbox,
        CallsClient(KEY, base_url=sandbox.base_url, hooks=(LoggingHook(),)) as client,
    ):
        await client.gather_calls(["a", "b"], return_exceptions=True)
    told = "".join(f"{vars(record)} {record.getMessage()}" for record in log.records)
    assert "PermissionDeniedError" in told
    assert "0a1b2c3d4e5f6071" not in told
    assert "body" not in told
    assert "John" not in told  # of the record


@in_virtual_time
async def test_an_id_with_a_line_break_is_one_line(log):
    """Who may choose ids cannot forge lines."""
    async with fake_client(hooks=(LoggingHook(),)) as client:
        with pytest.raises(CallsError):
            await client.get_call("a\nERROR all is lost")
    (record,) = log.records
    assert "\n" not in record.getMessage()


@in_virtual_time
async def test_another_logger_may_be_given(log):
    """For who sorts the logs of several clients."""
    log.set_level(logging.INFO, "jobs.nightly")
    async with fake_client(hooks=(LoggingHook(logging.getLogger("jobs.nightly")),)) as client:
        with pytest.raises(CallsError):
            await client.get_call("..")
    assert [record.name for record in log.records] == ["jobs.nightly"]


@in_virtual_time
async def test_a_level_that_is_off_costs_no_tally(log):
    """Nothing is counted that would not have been logged."""
    log.set_level(logging.ERROR, "calls_async")
    hook = LoggingHook()
    async with fake_client(hooks=(hook,)) as client:
        with pytest.raises(CallsError):
            await client.get_call("..")
    assert hook._tallies == {}


@pytest.mark.parametrize(
    "options", [{"period": -1.0}, {"period": float("nan")}, {"burst": 0}], ids=str
)
def test_options_that_cannot_work_are_refused(options):
    """Here and now, by name."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        LoggingHook(**options)


def test_a_hook_goes_along_when_its_client_is_sent_to_another_process():
    """It pickles with its options, and logs on the other side under the same name."""
    copy = pickle.loads(pickle.dumps(LoggingHook(period=7.0, burst=2)))
    assert (copy._period, copy._burst, copy._logger.name) == (7.0, 2, "calls_async")


@in_virtual_time
async def test_structlog_makes_json_of_it():
    """With structlog's formatter each line is an object, whose fields are those of the record."""
    structlog = pytest.importorskip("structlog", reason="installed by `nox -s telemetry`")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger = logging.getLogger("calls_async")
    logger.addHandler(handler)
    try:
        transport = FakeTransport(faults={"gone": Fault.status(404)})
        async with fake_client(transport, hooks=(LoggingHook(),)) as client:
            with pytest.raises(CallsError):
                await client.get_call("gone")
    finally:
        logger.removeHandler(handler)
    told = json.loads(out.getvalue())
    assert (told["level"], told["calls_event"]) == ("warning", "call_failed")
    assert (told["calls_id"], told["calls_status"]) == ("gone", 404)
