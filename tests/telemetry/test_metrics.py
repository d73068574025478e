"""Metrics, as the SDK's in-memory reader has them."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from calls_async import CallsError, Limits, RetryPolicy
from calls_async.telemetry import OpenTelemetryHook, _metrics
from calls_async.testing import FakeTransport, Fault, fake_client
from tests.kit import call_ids, in_virtual_time
from tests.telemetry.kit import Memory

ID = "call-1"
SLOW = Fault.status(429, headers={"Retry-After": "3"})


@pytest.fixture
def memory():
    return Memory()


def points(memory, name):
    """The data points of a metric."""
    return memory.metrics()[name]


# --- Requests ------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_duration_of_requests_is_measured(memory):
    """By status and error, with the labels and the buckets that the conventions ask for."""
    transport = FakeTransport(latency=0.3, faults={ID: [Fault.status(500), Fault.reset]})
    options = {"hooks": (memory.hook(),), "base_url": "https://api.example.com:8443/v2"}
    async with fake_client(transport, **options) as client:
        await client.get_call(ID)
    told = {
        (
            point.attributes.get("http.response.status_code"),
            point.attributes.get("error.type"),
        ): point
        for point in points(memory, "http.client.request.duration")
    }
    assert set(told) == {(500, "500"), (None, "ProtocolError"), (200, None)}
    record = told[200, None]
    assert record.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "api.example.com",
        "server.port": 8443,
        "url.scheme": "https",
        "url.template": "/v2/v1/calls/{id}",
    }
    assert (record.count, record.sum) == (1, pytest.approx(0.3))
    assert record.explicit_bounds == _metrics.SECONDS


@in_virtual_time
async def test_active_requests_go_up_and_down(memory):
    """What is in flight is counted; whatever ends it, it is counted off."""
    transport = FakeTransport(latency=1.0, faults={"cut": Fault.reset, "never": Fault.stall})
    policy = RetryPolicy(max_attempts=1)
    async with fake_client(transport, hooks=(memory.hook(),), retry=policy) as client:
        calls = [asyncio.create_task(client.get_call(x)) for x in ("a", "b", "cut", "never")]
        await asyncio.sleep(0.5)
        (point,) = points(memory, "http.client.active_requests")
        assert point.value == 4
        await asyncio.sleep(1.0)
        (point,) = points(memory, "http.client.active_requests")
        assert point.value == 1
        calls[-1].cancel()
        await asyncio.wait(calls)
        (point,) = points(memory, "http.client.active_requests")
        assert point.value == 0
        calls[2].exception()
    count = sum(point.count for point in points(memory, "http.client.request.duration"))
    assert count == 3  # a request that was given up has no duration


# --- Calls ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_calls_are_counted_by_outcome(memory):
    """Fetched, failed (with the error and why there was no further try) and cancelled."""
    transport = FakeTransport(latency=1.0, faults={"gone": Fault.status(404)})
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        await client.gather_calls(["a", "b", "gone"], return_exceptions=True)
        call = asyncio.create_task(client.get_call("c"))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.wait([call])
    assert memory.values("calls.client.call.duration") == {
        ("fetched",): 2,
        ("failed", "final", "NotFoundError"): 1,
        ("cancelled",): 1,
    }


@in_virtual_time
async def test_retries_are_counted_by_cause(memory):
    """Each by the class of the error that made it necessary."""
    faults = {ID: [Fault.status(500), Fault.reset, Fault.status(500), SLOW]}
    policy = RetryPolicy(max_attempts=9)
    async with fake_client(
        FakeTransport(faults=faults), hooks=(memory.hook(),), retry=policy
    ) as client:
        await client.get_call(ID)
    assert memory.values("calls.client.retries") == {
        ("ServerError",): 2,
        ("ProtocolError",): 1,
        ("RateLimitedError",): 1,
    }
    assert memory.values("calls.client.cool_downs") == {(): 1}


@in_virtual_time
async def test_waits_are_measured_by_reason(memory):
    """What calls waited for, and for how long."""
    options = {"hooks": (memory.hook(),), "limits": Limits(max_concurrency=1)}
    async with fake_client(FakeTransport(latency=1.0, faults={"a": [SLOW]}), **options) as client:
        await client.gather_calls(["a", "b"])
    (cooled,) = (
        point
        for point in points(memory, "calls.client.wait.duration")
        if point.attributes["calls.wait.reason"] == "cool_down"
    )
    assert cooled.count == 1
    assert cooled.sum >= 3.0
    assert cooled.explicit_bounds == _metrics.LONG_SECONDS


@in_virtual_time
async def test_an_outage_is_counted_and_measured(memory):
    """When nobody answers any more, once; a gauge says for how long by now."""
    transport = FakeTransport(reachable=False)
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        batch = asyncio.create_task(client.gather_calls(call_ids(50)))
        await asyncio.sleep(30.0)
        assert memory.values("calls.client.outages") == {(): 1}
        ((seconds,)) = memory.values("calls.client.outage").values()
        assert seconds == pytest.approx(client.statistics().outage)
        assert seconds > 20.0
        transport.reachable = True
        await batch
        assert memory.values("calls.client.outage") == {(): 0.0}


@in_virtual_time
async def test_no_metric_has_an_id_or_anything_else_without_bounds(memory):
    """However many ids there are, the labels are those of a handful of kinds."""
    ids = [f"secret-{number}" for number in range(300)]
    transport = FakeTransport(latency=0.01, fault_share=0.2, permanent_share=0.1)
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        await client.gather_calls(ids, return_exceptions=True)
    told = memory.metrics()
    labels = [str(dict(point.attributes)) for each in told.values() for point in each]
    assert len(told) >= 10
    assert not any("secret" in label for label in labels)
    assert len(labels) < 60


@in_virtual_time
async def test_nothing_is_kept_of_a_call_that_is_over(memory):
    """A hook that lives as long as a service does not grow with it."""
    hook = memory.hook()
    transport = FakeTransport(latency=0.01, fault_share=0.3, permanent_share=0.1)
    async with fake_client(transport, hooks=(hook,), limits=Limits(hedge=0.05)) as client:
        await client.gather_calls(call_ids(300), return_exceptions=True)
    assert hook._metrics._began == hook._metrics._parked == hook._metrics._sent == {}
    assert hook._tracing._calls == {}


# --- Gauges --------------------------------------------------------------------------------------

GAUGES = {
    "calls.client.concurrency.limit": "concurrency",
    "calls.client.concurrency.max": "max_concurrency",
    "calls.client.cool_down": "cool_down",
    "calls.client.outage": "outage",
    "calls.client.pace": "pace",
    "calls.client.retry_budget": "budget",
    "calls.client.waiting": "waiting",
}


@in_virtual_time
async def test_gauges_are_what_the_statistics_say(memory):
    """Whenever they are collected, in whichever thread."""
    transport = FakeTransport(latency=0.1, faults={ID: [SLOW]})
    async with fake_client(transport, hooks=(memory.hook(),)) as client:
        batch = asyncio.create_task(client.gather_calls([ID, *call_ids(99)[2:]]))
        await asyncio.sleep(2.0)
        told = []
        thread = threading.Thread(target=lambda: told.append(memory.metrics()))
        thread.start()
        thread.join()
        (metrics,), statistics = told, client.statistics()
        assert statistics.cool_down > 0.0
        assert statistics.pace is not None
        for name, attribute in GAUGES.items():
            (point,) = metrics[name]
            assert point.value == pytest.approx(getattr(statistics, attribute)), name
        await batch


@in_virtual_time
async def test_a_client_at_full_speed_has_no_pace(memory):
    """There is no number for it, so there is no point."""
    async with fake_client(hooks=(memory.hook(),)) as client:
        await client.get_call(ID)
        assert "calls.client.pace" not in memory.metrics()


@in_virtual_time
async def test_clients_with_the_same_attributes_are_added_up(memory):
    """Limits and waits are added, the longest silence and the smallest budget count."""
    hook = memory.hook()
    slow = {"limits": Limits(max_rate=2.0)}
    async with fake_client(hooks=(hook,), **slow) as one, fake_client(hooks=(hook,), **slow) as two:
        await one.get_call(ID)
        await two.get_call(ID)
        await two.with_options(retry=RetryPolicy()).get_call(ID)  # which is no third client
        assert memory.values("calls.client.pace") == {(): 4.0}
        assert memory.values("calls.client.concurrency.max") == {(): 128}
        assert memory.values("calls.client.retry_budget") == {(): 500}


@in_virtual_time
async def test_hooks_with_other_attributes_are_told_apart(memory):
    """Every metric has them; a second hook of the same provider is not lost."""
    day, night = (memory.hook(attributes={"calls.client": name}) for name in ("day", "night"))
    transport = FakeTransport(faults={ID: [Fault.status(500)]})
    async with fake_client(transport, hooks=(day,)) as one, fake_client(hooks=(night,)) as two:
        await one.get_call(ID)
        await two.get_call("x")
        for name, told in memory.metrics().items():
            names = {point.attributes["calls.client"] for point in told}
            assert names <= {"day", "night"}, name
            if name in GAUGES or name == "http.client.request.duration":
                assert names == {"day", "night"}, name


@in_virtual_time
async def test_a_client_that_is_gone_is_shown_no_longer(memory):
    """A hook keeps no client alive."""
    hook = memory.hook()
    async with fake_client(hooks=(hook,)) as client:
        await client.get_call(ID)
    assert "calls.client.waiting" in memory.metrics()
    del client
    gc.collect()
    assert "calls.client.waiting" not in memory.metrics()
    async with fake_client(hooks=(hook,)) as client:
        await client.get_call(ID)
        assert len(hook._metrics._gauges._observed) == 1


@in_virtual_time
async def test_providers_are_told_apart(memory):
    """Each provider has gauges of its own, of the clients that tell it."""
    other = Memory()
    async with fake_client(hooks=(memory.hook(),)) as client:
        await client.get_call(ID)
        other.hook()
        assert "calls.client.waiting" in memory.metrics()
        assert other.metrics() == {}


@in_virtual_time
async def test_the_global_provider_is_found_whenever_it_is_set(monkeypatch):
    """A hook that is made before the application has set its provider tells that one."""
    from opentelemetry.metrics import _internal  # noqa: PLC0415

    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(_internal, "_METER_PROVIDER_SET_ONCE", _internal.Once())
    monkeypatch.setattr(_internal, "_PROXY_METER_PROVIDER", _internal._ProxyMeterProvider())
    monkeypatch.setattr(_metrics, "_global", [])
    before = OpenTelemetryHook()
    reader = InMemoryMetricReader()
    _internal.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    after = OpenTelemetryHook(attributes={"calls.client": "b"})
    async with fake_client(hooks=(before,)) as one, fake_client(hooks=(after,)) as two:
        with pytest.raises(CallsError):
            await one.get_call("..")
        await two.get_call(ID)
        memory = Memory()
        memory.reader = reader
        assert len(points(memory, "calls.client.waiting")) == 2
        assert len(points(memory, "calls.client.call.duration")) == 2
