"""Metrics; the rule: no id, no URL and nothing else without bounds is ever in a label.

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP
(https://opentelemetry.io/docs/specs/semconv/http/http-metrics/) where there are any; what is this
client's own begins with `calls.client.`. What the client knows as a whole is read from its
statistics, whenever the metrics are collected.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from calls_async import __version__, events
from calls_async.outcomes import Failed
from calls_async.telemetry._tracing import SCHEMA, SCOPE
from calls_async.telemetry._words import METHOD, Target, error_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider

    from calls_async.events import Event, Statistics

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bounds that the conventions advise for requests."""
LONG_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Those for calls and waits, which may take as long as a batch has patience."""

Labels: TypeAlias = "dict[str, str | int]"


class Metrics:
    """Counts and measures what it is told of.

    Args:
        provider: Where metrics go; `None`: the global provider.
        attributes: What all of them have.
    """

    def __init__(self, provider: MeterProvider | None, attributes: Mapping[str, str]) -> None:
        meter = metrics.get_meter(SCOPE, __version__, provider, SCHEMA)
        self._attributes = attributes
        self._requests = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._active = meter.create_up_down_counter(
            "http.client.active_requests", "{request}", "Number of active HTTP requests."
        )
        self._calls = meter.create_histogram(
            "calls.client.call.duration",
            "s",
            "Duration of calls, with all their requests and waits, by outcome.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._waits = meter.create_histogram(
            "calls.client.wait.duration",
            "s",
            "Time that calls waited before they could send a request, by reason.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._retries = meter.create_counter(
            "calls.client.retries", "{retry}", "Retries, by what made them necessary."
        )
        self._cool_downs = meter.create_counter(
            "calls.client.cool_downs", "{cool_down}", "Times that the server asked for silence."
        )
        self._outages = meter.create_counter(
            "calls.client.outages", "{outage}", "Times that nobody answered any more."
        )
        self._targets: dict[str, Labels] = {}
        # Of calls and requests under way: when they began, why they wait, and where they go.
        self._began: dict[int, float] = {}
        self._parked: dict[int, str] = {}
        self._sent: dict[tuple[int, int], Labels] = {}
        self._gauges = _gauges_of(provider, meter)

    def observe(self, statistics: Callable[[], Statistics]) -> None:
        """Have the gauges show these statistics, for as long as the client is there."""
        self._gauges.add(statistics, self._attributes)

    def told(self, event: Event, context: Context | None) -> None:  # noqa: C901 (a flat table)
        """Note an event.

        Args:
            event: The event.
            context: The span that it belongs to, for exemplars.
        """
        mine = self._attributes
        match event:
            case events.CallStarted():
                self._began[event.serial] = event.at
            case events.CallParked():
                self._parked[event.serial] = event.reason.value
            case events.AttemptStarted():
                self._start(event, context)
            case events.AttemptFinished():
                self._finish(event, context)
            case events.AttemptCancelled():
                self._cancel(event)
            case events.RetryScheduled():
                self._retries.add(1, {**mine, "error.type": error_type(event.error)}, context)
            case events.CallFinished() | events.CallCancelled():
                self._end(event, context)
            case events.CoolDownEntered():
                self._cool_downs.add(1, mine)
            case events.OutageEntered():
                self._outages.add(1, mine)
            case events.PaceChanged() | events.OutageLeft():
                pass  # a gauge shows it

    def _start(self, event: events.AttemptStarted, context: Context | None) -> None:
        where = self._where(event.url)
        self._sent[event.serial, event.attempt] = where
        self._active.add(1, where)
        if not event.hedge and (reason := self._parked.pop(event.serial, None)) is not None:
            labels = {**self._attributes, "calls.wait.reason": reason}
            self._waits.record(event.waited, labels, context)

    def _finish(self, event: events.AttemptFinished, context: Context | None) -> None:
        where = self._sent.pop((event.serial, event.attempt), None)
        if where is None:
            return
        self._active.add(-1, where)
        labels = {**where}
        if event.status is not None:
            labels["http.response.status_code"] = int(event.status)
        if event.error is not None:
            labels["error.type"] = error_type(event.error, event.status)
        self._requests.record(event.duration, labels, context)

    def _cancel(self, event: events.AttemptCancelled) -> None:
        """A request that was given up has no duration that would say anything of the server."""
        where = self._sent.pop((event.serial, event.attempt), None)
        if where is not None:
            self._active.add(-1, where)

    def _end(
        self, event: events.CallFinished | events.CallCancelled, context: Context | None
    ) -> None:
        self._parked.pop(event.serial, None)
        began = self._began.pop(event.serial, None)
        if began is None:
            return
        labels: Labels = {**self._attributes, "calls.outcome": "cancelled"}
        if isinstance(event, events.CallFinished):
            labels["calls.outcome"] = "fetched"
            if isinstance(event.outcome, Failed):
                error = event.outcome.error
                labels["calls.outcome"] = "failed"
                labels["error.type"] = type(error).__name__
                if error.stopped_by is not None:
                    labels["calls.stopped_by"] = error.stopped_by.value
        self._calls.record(event.at - began, labels, context)

    def _where(self, url: str) -> Labels:
        """The labels of all requests that go where this one does."""
        calls_url = url.rpartition("/")[0]
        where = self._targets.get(calls_url)
        if where is None:
            target = Target.of(calls_url)
            where = self._targets[calls_url] = {
                **self._attributes,
                "http.request.method": METHOD,
                "server.address": target.address,
                "server.port": target.port,
                "url.scheme": target.scheme,
                "url.template": target.template,
            }
        return where


# --- Gauges --------------------------------------------------------------------------------------

_Group: TypeAlias = "tuple[dict[str, str], list[Statistics]]"


class _Gauges:
    """Shows the statistics of all clients of one meter provider.

    A provider has each instrument once: what a second hook would register is dropped. So all hooks
    of a provider share these.
    """

    def __init__(self) -> None:
        # Which client, and with which attributes. Held weakly, because nobody says goodbye.
        self._observed: dict[weakref.WeakMethod[Callable[[], Statistics]], Mapping[str, str]] = {}
        self._lock = threading.Lock()  # metrics are collected in another thread

    def add(self, statistics: Callable[[], Statistics], attributes: Mapping[str, str]) -> None:
        """Show these statistics too; a client and its children have the same."""
        with self._lock:
            for gone in [each for each in self._observed if each() is None]:
                del self._observed[gone]
            self._observed.setdefault(weakref.WeakMethod(statistics), attributes)

    def register(self, meter: Meter) -> None:
        """Make the instruments."""
        for name, unit, description, read in _GAUGES:
            meter.create_observable_gauge(name, [self._callback(read)], unit, description)

    def _callback(
        self, read: Callable[[list[Statistics]], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for attributes, told in self._groups():
                value = read(told)
                if value is not None:
                    yield Observation(value, attributes)

        return observe

    def _groups(self) -> Iterable[_Group]:
        """What the clients tell now; those with the same attributes together."""
        with self._lock:
            observed = list(self._observed.items())
        groups: dict[tuple[tuple[str, str], ...], _Group] = {}
        for method, attributes in observed:
            if (statistics := method()) is not None:
                name = tuple(sorted(attributes.items()))
                groups.setdefault(name, (dict(attributes), []))[1].append(statistics())
        return groups.values()


def _pace(told: list[Statistics]) -> float | None:
    """Starts a second of all clients together; `None` as soon as one of them is at full speed."""
    paces = [each.pace for each in told]
    return None if None in paces else sum(pace for pace in paces if pace is not None)


_GAUGES: Final[tuple[tuple[str, str, str, Callable[[list[Statistics]], float | None]], ...]] = (
    (
        "calls.client.waiting",
        "{call}",
        "Calls that wait for a permit or for the gate to open.",
        lambda told: sum(each.waiting for each in told),
    ),
    (
        "calls.client.pace",
        "{request}/s",
        "Requests that may be started per second; absent at full speed.",
        _pace,
    ),
    (
        "calls.client.concurrency.limit",
        "{request}",
        "Requests that may be in flight now.",
        lambda told: sum(each.concurrency for each in told),
    ),
    (
        "calls.client.concurrency.max",
        "{request}",
        "Requests that may be in flight at most.",
        lambda told: sum(each.max_concurrency for each in told),
    ),
    (
        "calls.client.cool_down",
        "s",
        "Time until the gate opens; 0 when it is open.",
        lambda told: max(each.cool_down for each in told),
    ),
    (
        "calls.client.outage",
        "s",
        "Time for which nobody has answered, while that holds batches back; else 0.",
        lambda told: max(each.outage for each in told),
    ),
    (
        "calls.client.retry_budget",
        "{token}",
        "Tokens that are left for retries, of the client that has the fewest.",
        lambda told: min(each.budget for each in told),
    ),
)

_shared: weakref.WeakKeyDictionary[MeterProvider, _Gauges] = weakref.WeakKeyDictionary()
_global: list[_Gauges] = []
_making = threading.Lock()


def _gauges_of(provider: MeterProvider | None, meter: Meter) -> _Gauges:
    """The gauges of a provider, made with the first hook that it has."""
    with _making:
        # Nobody can tell whether the global provider was set yet, so it has a place of its own.
        if provider is None or provider is metrics.get_meter_provider():
            if not _global:
                _global.append(_Gauges())
                _global[0].register(meter)
            return _global[0]
        found = _shared.get(provider)
        if found is None:
            found = _shared[provider] = _Gauges()
            found.register(meter)
        return found
