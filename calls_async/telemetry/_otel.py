"""The hook for OpenTelemetry; the rule: it hands each event on, and imports nothing before it must.

The API alone is needed (`opentelemetry-api`). Without an SDK, which is the application's to choose
and to set up, all that is told here comes to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calls_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

    from calls_async.events import AttemptStarted, Event, Statistics


class OpenTelemetryHook:
    """Makes spans and metrics of what a client does, and sends the trace along with each request.

    One hook may serve any number of clients of a process; their metrics are added up. Give clients
    whose metrics are to be told apart hooks with other `attributes`.

    Args:
        tracer_provider: Where spans go; `None`: the global provider.
        meter_provider: Where metrics go; `None`: the global provider.
        propagator: What writes the trace into a request's header fields; `None`: the global one,
            which writes `traceparent`, `tracestate` and `baggage` unless it is told otherwise.
        attributes: Further attributes of all metrics. Keep their values few.

    Raises:
        ConfigurationError: OpenTelemetry's API is not installed, or is too old.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        try:
            from calls_async.telemetry._metrics import Metrics  # noqa: PLC0415 (the module's rule)
            from calls_async.telemetry._tracing import Tracing  # noqa: PLC0415
        except ImportError as exc:
            raise ConfigurationError(
                "OpenTelemetryHook needs opentelemetry-api: pip install 'calls_async[otel]'"
            ) from exc
        self._given = {
            "tracer_provider": tracer_provider,
            "meter_provider": meter_provider,
            "propagator": propagator,
            "attributes": None if attributes is None else dict(attributes),
        }
        self._tracing = Tracing(tracer_provider, propagator)
        self._metrics = Metrics(meter_provider, dict(attributes or {}))

    def __call__(self, event: Event) -> None:
        """A hook; see `calls_async.events.Hook`."""
        context = self._tracing.told(event)
        self._metrics.told(event, context)

    def headers_for(self, request: AttemptStarted) -> Mapping[str, str]:
        """See `calls_async.events.HeaderHook`."""
        return self._tracing.headers_for(request)

    def observe(self, statistics: Callable[[], Statistics]) -> None:
        """See `calls_async.events.ObservingHook`."""
        self._metrics.observe(statistics)

    def __reduce__(self) -> tuple[Any, ...]:
        # So that a client goes on telling when it has been sent to another process.
        return _restored, (self._given,)


def _restored(given: dict[str, Any]) -> OpenTelemetryHook:
    return OpenTelemetryHook(**given)
