"""Prometheus and the dashboard: what is asked for is what is exported, by name and by label."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")
pytest.importorskip("opentelemetry.exporter.prometheus", reason="installed by the same")

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from calls_async import Limits
from calls_async.telemetry import OpenTelemetryHook
from calls_async.testing import FakeTransport, Fault, fake_client, run_in_virtual_time
from tests.kit import call_ids

DASHBOARD = Path(__file__).parents[2] / "docs" / "_static" / "grafana" / "calls_async.json"
SLOW = Fault.status(429, headers={"Retry-After": "3"})
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that it adds itself, and that of a histogram's buckets."""


@pytest.fixture(scope="module")
def exported():
    """The labels of every series that a client exports which has met with everything."""
    reader = PrometheusMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def job():
        hook = OpenTelemetryHook(meter_provider=meters)
        faults = {"a": [SLOW], "b": Fault.status(404), "c": [Fault.reset]}
        transport = FakeTransport(faults=faults, latency=0.1)
        limits = Limits(max_rate=50.0)
        async with fake_client(transport, hooks=(hook,), limits=limits) as client:
            await client.gather_calls(["a", "b", "c", *call_ids(40)], return_exceptions=True)
            transport.reachable = False
            await client.gather_calls(call_ids(40), return_exceptions=True)
            return generate_latest(REGISTRY).decode()

    text = run_in_virtual_time(job())
    meters.shutdown()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def queries(part):
    """Every query in a part of the dashboard."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name in {"expr", "definition"}:
                yield value
            else:
                yield from queries(value)
    elif isinstance(part, list):
        for each in part:
            yield from queries(each)


def selectors(query):
    """(metric, labels) of each selector of a query; grouping labels count for all of them."""
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", query)
        for label in labels.split(",")
    }
    for name, matchers in re.findall(r"\b((?:http|calls)_client_\w+)(?:\{([^}]*)\})?", query):
        yield name, grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


ASKED = [
    pytest.param(name, labels, id=f"{name}-{number}")
    for number, (name, labels) in enumerate(
        selector
        for query in queries(json.loads(DASHBOARD.read_text(encoding="utf-8")))
        for selector in selectors(query)
    )
]


@pytest.mark.parametrize(("name", "labels"), ASKED)
def test_the_dashboard_asks_for_what_is_exported(exported, name, labels):
    """Each metric of each query exists by this name, and has each label that is asked for."""
    assert name in exported
    assert labels - OF_PROMETHEUS <= exported[name]


def test_the_dashboard_shows_every_metric(exported):
    """What is exported is on it, so that nobody has to know that there is more."""
    ours = {
        re.sub("_(bucket|sum|count)$", "", name)
        for name in exported
        if name.startswith(("calls_client", "http_client")) and not name.endswith("_created")
    }
    shown = {re.sub("_(bucket|sum|count)$", "", param.values[0]) for param in ASKED}
    assert ours == shown


def test_the_dashboard_s_panels_do_not_overlap():
    """Each has a place of its own, an explanation, and queries whose names differ."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["description"]
        place = panel["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert taken.isdisjoint(cells)
        assert all(across < 24 for across, _ in cells)
        taken |= cells
        ids = [target["refId"] for target in panel["targets"]]
        assert len(ids) == len(set(ids))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_page_names_every_metric_and_its_prometheus_name(exported):
    """The reference lists them all, and nothing that does not exist."""
    page = (DASHBOARD.parents[2] / "reference" / "telemetry.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:http|calls)_client_\w+)`", page))
    ours = {
        re.sub("_(bucket|sum|count)$", "", name)
        for name in exported
        if name.startswith(("calls_client", "http_client")) and not name.endswith("_created")
    }
    assert named == ours
