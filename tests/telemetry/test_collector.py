"""The whole path: OTLP over HTTP, to a receiver that decodes what came over the wire."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="installed by the same")

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from calls_async import CallsClient, RetryPolicy
from calls_async.telemetry import OpenTelemetryHook
from calls_async.testing import Fault, Sandbox
from tests.telemetry.receiver import attributes_of, receiving

KEY = "sk_live_fedcba9876543210"


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with receiving() as receiver:
        yield receiver


async def test_spans_and_metrics_reach_a_collector(receiver):
    """A batch on the sandbox, with faults and over sockets, is seen by a collector as it was."""
    tracers = TracerProvider(shutdown_on_exit=False)
    spans = OTLPSpanExporter(f"{receiver.url}/v1/traces", compression=Compression.Gzip)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    hook = OpenTelemetryHook(tracer_provider=tracers, meter_provider=meters)
    faults = {"a": [Fault.reset, Fault.status(500)], "b": Fault.status(404, body=KEY)}
    try:
        async with Sandbox(api_keys=(KEY,), faults=faults) as sandbox:
            options = {"hooks": (hook,), "retry": RetryPolicy(backoff_base=0.0)}
            async with CallsClient(KEY, base_url=sandbox.base_url, **options) as client:
                with tracers.get_tracer("job").start_as_current_span("nightly"):
                    await client.gather_calls(["a", "b", "c"], return_exceptions=True)
                meters.force_flush()
        tracers.force_flush()
    finally:
        tracers.shutdown()
        meters.shutdown()

    (root,) = (span for span in receiver.spans if span.name == "nightly")
    calls = {
        span.attributes["calls.call.id"]: span
        for span in receiver.spans
        if span.parent_id == root.span_id
    }
    requests = [span for span in receiver.spans if span.kind == 3]
    assert set(calls) == {"a", "b", "c"}
    assert {span.trace_id for span in receiver.spans} == {root.trace_id}
    assert len(receiver.spans) == 1 + len(calls) + len(requests)
    assert len(requests) == len(sandbox.ledger) == 5
    by_call = {
        name: [span for span in requests if span.parent_id == call.span_id]
        for name, call in calls.items()
    }
    assert [span.attributes.get("http.response.status_code") for span in by_call["a"]] == [
        None, 500, 200,
    ]  # fmt: skip
    assert [event.name for event in calls["a"].events] == ["calls.retry_scheduled"] * 2
    assert {name: call.failed for name, call in calls.items()} == {
        "a": False,
        "b": True,
        "c": False,
    }
    for name, call in calls.items():
        for span in by_call[name]:
            assert root.began <= call.began <= span.began <= span.ended <= call.ended

    duration = receiver.metrics["http.client.request.duration"]
    assert duration.unit == "s"
    counted = {
        attributes_of(point.attributes).get("http.response.status_code"): point.count
        for point in duration.histogram.data_points
    }
    assert counted == {None: 1, 500: 1, 404: 1, 200: 2}
    (budget,) = receiver.metrics["calls.client.retry_budget"].gauge.data_points
    assert 0 < budget.as_int <= 500
    assert not any(b"fedcba9876543210" in body for body in receiver.bodies)
