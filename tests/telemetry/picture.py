"""Draws the trace of a bulk job, from the spans that a collector received.

The rule: whatever is in the picture came over the wire. The job is run against the sandbox's own
endpoint with a rate limit, in virtual time and with a fixed seed, and its spans are exported by
OTLP over HTTP to the receiver beside this module. So the picture is the same to the byte each time.

`python -m tests.telemetry.picture` writes it to where the docs have it.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

from calls_async import Limits
from calls_async.telemetry import OpenTelemetryHook
from calls_async.testing import FakeTransport, Fault, fake_client, run_in_virtual_time
from tests.telemetry.kit import virtual_clock
from tests.telemetry.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.telemetry.receiver import Span

PLACE: Final = Path(__file__).parents[2] / "docs" / "_static" / "telemetry" / "trace.svg"

INK: Final = "#7d8590"
GOOD: Final = "#2a93c9"
BAD: Final = "#d6455d"
THROTTLED: Final = "#d98324"
WAIT: Final = "#9670d6"
PAUSE: Final = "#2f9e6e"

LEFT: Final = 92
WIDTH: Final = 860
ROW: Final = 15
TOP: Final = 64
FOOT: Final = 44


# --- The job -------------------------------------------------------------------------------------


def spans_of_the_job() -> list[Span]:
    """Run the job, and give what a collector received of it."""
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        virtual_clock(patch)
        exporter = OTLPSpanExporter(f"{receiver.url}/v1/traces")
        tracers = TracerProvider(shutdown_on_exit=False, id_generator=_Numbers())
        tracers.add_span_processor(SimpleSpanProcessor(exporter))

        run_in_virtual_time(_job(tracers))
        tracers.shutdown()
        return receiver.spans


class _Numbers(IdGenerator):
    """Ids that are numbers, so that they take nothing from the client's random ones."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._ids)

    def generate_trace_id(self) -> int:
        return next(self._ids)


async def _job(tracers: TracerProvider) -> None:
    """Fetch 28 calls of a server that takes four a second, and six at once after a pause."""
    random.seed(7)
    hook = OpenTelemetryHook(tracer_provider=tracers)
    faults = {"call-04": [Fault.reset], "call-19": [Fault.status(502)]}
    server = FakeTransport(max_rate=4.0, burst=6, latency=(0.15, 0.4), faults=faults)
    limits = Limits(max_concurrency=10)
    with tracers.get_tracer("nightly").start_as_current_span("export"):
        async with fake_client(server, hooks=(hook,), limits=limits) as client:
            await client.gather_calls([f"call-{number:02}" for number in range(28)])


# --- The picture ---------------------------------------------------------------------------------


def draw(spans: Sequence[Span]) -> str:
    """The trace as SVG: a row for each call, and the time from left to right."""
    calls = sorted(
        (span for span in spans if span.name == "calls.fetch"),
        key=lambda span: (span.began, span.attributes["calls.call.index"]),
    )
    began = min(call.began for call in calls)
    ended = max(call.ended for call in calls)
    scale = (WIDTH - LEFT - 14) / (ended - began)

    def x(at: float) -> float:
        return LEFT + (at - began) * scale

    height = TOP + ROW * len(calls) + FOOT
    lines = [*_head(height, len(calls)), *_legend(), *_axis(ended - began, scale, height)]
    for number, call in enumerate(calls):
        requests = [span for span in spans if span.parent_id == call.span_id]
        lines += _row(call, requests, TOP + number * ROW, x)
    return "\n".join((*lines, "</svg>", ""))


def _row(call: Span, requests: Sequence[Span], y: int, x) -> Iterator[str]:
    name = call.attributes["calls.call.id"]
    yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
    yield _line(x(call.began), x(call.ended), y + 7.5, INK, 'stroke-width="1" opacity="0.5"')
    for begin, end in _between(call, "calls.retry_scheduled", requests):
        yield _line(x(begin), x(end), y + 7.5, PAUSE, 'stroke-width="3" stroke-dasharray="2 3"')
    for begin, end in _between(call, "calls.parked", requests):
        yield _bar(x(begin), x(end), y + 5, 5, WAIT, 0.55)
    for request in requests:
        status = request.attributes.get("http.response.status_code")
        colour = GOOD if status == 200 else THROTTLED if status == 429 else BAD
        yield _bar(x(request.began), x(request.ended), y + 2, 11, colour, 1.0)


def _between(call: Span, name: str, requests: Sequence[Span]) -> Iterator[tuple[float, float]]:
    """From each event of that name to what ended it: the next event, or the next request."""
    for event in call.events:
        if event.name == name:
            ends = [other.at for other in call.events if other.at > event.at]
            ends += [span.began for span in requests if span.began > event.at]
            yield event.at, min(ends, default=call.ended)


def _head(height: int, number: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-labelledby="title desc">'
    )
    yield '<title id="title">The trace of a bulk job that is throttled</title>'
    yield (
        f'<desc id="desc">{number} calls, one below the other, over time: requests that brought a '
        "record, refused ones, waits behind the gate, and pauses before retries.</desc>"
    )
    # No background, and colours of medium lightness: for a light page and for a dark one.
    yield f"<style>text {{ font: 11px sans-serif; fill: {INK}; }}</style>"


def _legend() -> Iterator[str]:
    kinds = (
        (GOOD, "a record (200)"),
        (THROTTLED, "refused (429)"),
        (BAD, "failed"),
        (WAIT, "waits behind the gate"),
        (PAUSE, "pauses before a retry"),
    )
    left = float(LEFT)
    for colour, words in kinds:
        if colour == PAUSE:
            yield _line(left, left + 18, 17.5, colour, 'stroke-width="3" stroke-dasharray="2 3"')
        else:
            thin = colour == WAIT
            yield _bar(
                left,
                left + 18,
                15 if thin else 12,
                5 if thin else 11,
                colour,
                0.55 if thin else 1.0,
            )
        yield f'<text x="{left + 24:g}" y="21">{words}</text>'
        left += 40 + 6.1 * len(words)


def _axis(seconds: float, scale: float, height: int) -> Iterator[str]:
    bottom = height - FOOT + 6
    for second in range(int(seconds) + 1):
        at = LEFT + second * scale
        yield (
            f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="{INK}" '
            'stroke-width="0.5" opacity="0.35"/>'
        )
        yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{second}</text>'
    yield f'<text x="{WIDTH - 14}" y="{bottom + 32}" text-anchor="end">seconds</text>'


def _bar(  # noqa: PLR0917 (a box has that many)
    begin: float, end: float, y: float, height: float, colour: str, opacity: float
) -> str:
    width = max(1.5, end - begin)
    return (
        f'<rect x="{begin:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="1.5" '
        f'fill="{colour}" opacity="{opacity:g}"/>'
    )


def _line(begin: float, end: float, y: float, colour: str, how: str) -> str:
    return f'<line x1="{begin:.1f}" y1="{y:g}" x2="{end:.1f}" y2="{y:g}" stroke="{colour}" {how}/>'


if __name__ == "__main__":
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(draw(spans_of_the_job()), encoding="utf-8")
