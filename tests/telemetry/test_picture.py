"""The trace of the docs: it shows what one looks for in it, and is still what comes out."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="installed by the same")

from tests.telemetry.picture import BAD, GOOD, PAUSE, PLACE, THROTTLED, WAIT, draw, spans_of_the_job


@pytest.fixture(scope="module")
def spans():
    return spans_of_the_job()


def test_the_job_is_throttled_and_brings_every_call(spans):
    """What a collector received of it: one trace, refusals, waits, retries, and 28 records."""
    calls = [span for span in spans if span.name == "calls.fetch"]
    requests = [span for span in spans if span.kind == 3]
    statuses = [span.attributes.get("http.response.status_code") for span in requests]
    assert len({span.trace_id for span in spans}) == 1
    assert len(calls) == statuses.count(200) == 28
    assert statuses.count(429) >= 5
    assert {call.attributes["calls.outcome"] for call in calls} == {"fetched"}
    reasons = {
        event.attributes["calls.wait.reason"]
        for call in calls
        for event in call.events
        if event.name == "calls.parked"
    }
    assert "cool_down" in reasons
    for call in calls:
        names = [event.name for event in call.events]
        assert names.count("calls.parked") == names.count("calls.admitted")


def test_the_picture_shows_waits_requests_and_retries(spans):
    """Each kind is drawn, in a row for each call, and the same picture comes out again."""
    picture = draw(spans)
    ET.fromstring(picture)  # noqa: S314 (our own)
    for colour in (GOOD, THROTTLED, BAD, WAIT, PAUSE):
        assert picture.count(colour) > 1, colour
    assert len(re.findall(r">call-\d\d<", picture)) == 28
    assert picture == draw(spans_of_the_job())


def test_the_docs_have_such_a_picture():
    """The one that is checked in was drawn by this; `nox -s telemetry -- --draw` draws it anew."""
    picture = PLACE.read_text(encoding="utf-8")
    assert re.findall(r">(call-\d\d|[a-z][a-z ()\d]+)<", picture) == re.findall(
        r">(call-\d\d|[a-z][a-z ()\d]+)<", draw(spans_of_the_job())
    )
