"""What a client does, for those who look after it: hooks for OpenTelemetry and for `logging`.

Both are built on the public events alone, and are switched on by handing them to the client::

    client = CallsClient(hooks=(OpenTelemetryHook(), LoggingHook()))

OpenTelemetry is an extra, `calls_async[otel]`, and is imported when the first `OpenTelemetryHook`
is made.
"""

from __future__ import annotations

from calls_async.telemetry._logging import LoggingHook
from calls_async.telemetry._otel import OpenTelemetryHook

__all__ = ["LoggingHook", "OpenTelemetryHook"]
