"""What the tests of telemetry share; it needs OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from calls_async.telemetry import OpenTelemetryHook, _tracing

EPOCH = 1_700_000_000
"""When virtual time begins, in seconds."""


def virtual_clock(patch):
    """Let the time of day be that of the event loop."""
    clock = SimpleNamespace(
        time_ns=lambda: round((EPOCH + asyncio.get_running_loop().time()) * 1e9)
    )
    patch.setattr(_tracing, "time", clock)


@attrs.define
class Memory:
    """Spans and metrics, kept in memory."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(init=False)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def hook(self, **options: Any) -> OpenTelemetryHook:
        """A hook that tells this memory."""
        return OpenTelemetryHook(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    @property
    def calls(self) -> list[Any]:
        """The spans of calls."""
        return [span for span in self.exporter.get_finished_spans() if span.name == "calls.fetch"]

    @property
    def requests(self) -> list[Any]:
        """The spans of requests."""
        return [span for span in self.exporter.get_finished_spans() if span.name[:3] == "GET"]

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of each metric, by its name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The values of a counter or gauge, or the counts of a histogram, by its own labels."""
        return {
            tuple(
                value
                for key, value in sorted(point.attributes.items())
                if key.startswith(("calls.", "error.", "http.response."))
            ): getattr(point, "value", getattr(point, "count", None))
            for point in self.metrics().get(name, ())
        }


def seconds(nanoseconds):
    """A span's time, in seconds since virtual time began."""
    return nanoseconds / 1e9 - EPOCH
