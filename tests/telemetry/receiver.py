"""A small collector: it takes what is exported by OTLP over HTTP, and decodes it.

The rule: what it has is what came over the wire, so a test that looks here has tested the whole
path. It listens on loopback only.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import attrs
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Told:
    """One event of a span: its name, when it was (in seconds of the epoch), and its attributes."""

    name: str
    at: float
    attributes: dict[str, Any]


@attrs.frozen
class Span:
    """A span as it was received.

    Attributes:
        name: Its name.
        kind: `1`: internal, `3`: client.
        span_id: Its own id.
        parent_id: Its parent's; empty for a root.
        trace_id: The trace's.
        began: When, in seconds of the epoch.
        ended: When.
        failed: Whether its status is an error.
        attributes: Its attributes.
        events: Its events.
    """

    name: str
    kind: int
    span_id: str
    parent_id: str
    trace_id: str
    began: float
    ended: float
    failed: bool
    attributes: dict[str, Any]
    events: tuple[Told, ...]


@attrs.define
class Receiver:
    """What has been received.

    Attributes:
        url: Where to export to.
        spans: All spans, in the order in which they came.
        metrics: All metrics, by name; of each the latest.
        bodies: What came, as bytes.
    """

    url: str = ""
    spans: list[Span] = attrs.field(factory=list)
    metrics: dict[str, Any] = attrs.field(factory=dict)
    bodies: list[bytes] = attrs.field(factory=list)

    def take(self, path: str, body: bytes) -> bytes:
        """Take what was posted; the answer's body."""
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans += map(_span, scope.spans)
            return ExportTraceServiceResponse().SerializeToString()
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return ExportMetricsServiceResponse().SerializeToString()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver in a thread of its own, for as long as the block lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = receiver.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def _span(raw: Any) -> Span:
    return Span(
        name=raw.name,
        kind=raw.kind,
        span_id=raw.span_id.hex(),
        parent_id=raw.parent_span_id.hex(),
        trace_id=raw.trace_id.hex(),
        began=raw.start_time_unix_nano / 1e9,
        ended=raw.end_time_unix_nano / 1e9,
        failed=raw.status.code == 2,
        attributes=attributes_of(raw.attributes),
        events=tuple(
            Told(event.name, event.time_unix_nano / 1e9, attributes_of(event.attributes))
            for event in raw.events
        ),
    )


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Attributes, as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
