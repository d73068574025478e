"""The pages are true: their examples run as they stand there, and the lists are complete."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import get_args

import pytest

from calls_async import events
from calls_async.telemetry import LoggingHook
from calls_async.testing import FakeTransport, Fault, Sandbox, fake_client
from tests.kit import ROOT, call_ids, in_virtual_time, run_python

DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference" / "telemetry.md").read_text(encoding="utf-8")
SECTIONS = {
    text.split("\n", 1)[0]: text for text in re.split("^## ", REFERENCE, flags=re.MULTILINE)[1:]
}


def blocks(page):
    """The examples of a page, by their titles."""
    text = (DOCS / "how-to" / page).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(found) == text.count("```python")
    return dict(found)


TELEMETRY, LOGGING = blocks("telemetry.md"), blocks("logging.md")

PROGRAM = """
import ast, asyncio, inspect, sys

async def main():
    names = {{"ids": ["call-1", "call-2", "call-3"]}}
    for block in {blocks!r}:
        code = compile(block, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        left = eval(code, names)
        if inspect.isawaitable(left):
            await left

asyncio.run(main())
"""


async def run(*examples, then="", faults=None, **variables):
    """Run examples one after the other, in an interpreter of their own: what they print."""
    async with Sandbox(faults=faults or {}) as sandbox:
        code, out, err = await run_python(
            PROGRAM.format(blocks=[*examples, then]),
            CALLS_API_KEY=sandbox.api_key,
            CALLS_BASE_URL=sandbox.base_url,
            NO_PROXY="127.0.0.1",
            PYTHONWARNINGS="error",
            **variables,
        )
        assert code == 0, err
        return sandbox, out, err


@pytest.fixture
def receiver():
    pytest.importorskip("opentelemetry.sdk", reason="installed by `nox -s telemetry`")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="installed by the same")
    from tests.telemetry.receiver import receiving  # noqa: PLC0415 (it needs what is asked for)

    with receiving() as receiver:
        yield receiver


async def test_the_examples_reach_a_collector(receiver):
    """Set up from the environment, as the page says, spans and metrics of the jobs arrive."""
    sandbox, _, _ = await run(
        TELEMETRY["set up"],
        TELEMETRY["switch on"],
        TELEMETRY["a job"],
        TELEMETRY["apart"],
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_SERVICE_NAME="nightly-export",
    )
    calls = [span for span in receiver.spans if span.name == "calls.fetch"]
    (job,) = (span for span in receiver.spans if span.name == "export")
    assert len(calls) == len(sandbox.ledger) == 6
    assert [call.parent_id for call in calls].count(job.span_id) == 3
    assert "http.client.request.duration" in receiver.metrics
    assert any(b"nightly-export" in body for body in receiver.bodies)


async def test_prometheus_can_scrape():
    """The page that the example serves has the client's metrics."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="installed by the same")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    example = TELEMETRY["prometheus"].replace("9464", str(port))
    scrape = f"""
from urllib.request import urlopen
with urlopen("http://127.0.0.1:{port}/metrics") as page:
    print(page.read().decode())
"""
    _, out, _ = await run(example, TELEMETRY["switch on"], then=scrape)
    assert re.search(r"^http_client_request_duration_seconds_count\{.*\} 3.0$", out, re.MULTILINE)


async def test_the_log_is_as_the_page_shows_it():
    """The examples that need nothing run, and log what is printed below them."""
    faults = {"call-2": [Fault.status(404)] * 2}
    sandbox, _, err = await run(
        LOGGING["switch on"],
        LOGGING["the end of a job"],
        TELEMETRY["another header"],
        faults=faults,
    )
    assert len(sandbox.ledger) == 9
    page = (DOCS / "how-to" / "logging.md").read_text(encoding="utf-8")
    shown = re.search("^WARNING:.*$", page, re.MULTILINE)[0]

    def plain(line):
        return re.sub(r"\d+\.\d+ s", "", line)

    assert plain(shown) in [plain(line) for line in err.splitlines()]


async def test_structlog_is_set_up_as_the_page_says():
    """Its example makes an object of each line, with the fields that the page shows."""
    pytest.importorskip("structlog", reason="installed by `nox -s telemetry`")
    faults = {"call-2": Fault.status(404)}
    _, _, err = await run(LOGGING["structlog"], LOGGING["the end of a job"], faults=faults)
    assert '"calls_id": "call-2"' in err
    assert '"level": "warning"' in err
    assert '"timestamp": "' in err


# --- What the reference lists --------------------------------------------------------------------


def rows(title):
    """The table's rows, their cells apart."""
    lines = re.findall(r"^\| (`.*) \|$", SECTIONS[title], re.MULTILINE)
    return [line.split(" | ") for line in lines]


def codes(text):
    """What is between backticks."""
    return re.findall(r"`([^`]+)`", text)


@in_virtual_time
async def test_the_reference_lists_the_fields_of_the_log(caplog):
    """Of each line, exactly the fields that it can have, and its level."""
    listed = {
        name: (level, set(codes(fields)) - {"None", "flush"})
        for names, level, fields in rows("Fields of the log")
        for name in codes(names)
        if name != "calls_event"  # the table's head
    }
    caplog.set_level(logging.DEBUG, "calls_async")
    hook = LoggingHook(burst=1)
    slow = Fault.status(429, headers={"Retry-After": "3"})
    faults = {"a": [slow], "b": Fault.status(404), "c": Fault.status(404), "d": [Fault.reset]}
    transport = FakeTransport(faults=faults, latency=0.1)
    async with fake_client(transport, hooks=(hook,)) as client:
        await client.gather_calls(["a", "b", "c", "d", *call_ids(80)], return_exceptions=True)
        call = asyncio.create_task(client.get_call("e"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
    hook(events.OutageEntered(at=1.0, seconds=1.0))
    hook(events.OutageLeft(at=2.0, seconds=2.0))
    hook.flush()
    seen: dict[str, set[str]] = {}
    for record in caplog.records:
        fields = {name for name in vars(record) if name.startswith("calls_")}
        seen.setdefault(record.calls_event, set()).update(fields - {"calls_event", "calls_held"})
        level = listed[record.calls_event][0]
        assert level == "as the lines" or record.levelname in codes(level)
    assert seen == {name: fields for name, (_, fields) in listed.items()}


def test_the_reference_lists_every_reason_to_wait():
    """And no other."""
    (reasons,) = re.findall(r"`calls.wait.reason` is one of (.*?) \|", SECTIONS["Spans"])
    assert codes(reasons) == [reason.value for reason in events.WaitReason]


def test_the_reference_of_events_is_made_from_the_module():
    """Every event of the union is a documented name of the module, so none can be missing."""
    assert {kind.__name__ for kind in get_args(events.Event)} <= set(events.__all__)
    assert "automodule:: calls_async.events" in (DOCS / "reference" / "events.md").read_text(
        "utf-8"
    )
