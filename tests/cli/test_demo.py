"""`calls-async demo`: what it counts, what it shows, and when it fails."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import attrs
import pytest
from rich.console import Console

from calls_async import Statistics
from calls_async.cli import _app, _demo
from calls_async.cli._demo import Result, demo_ids, demo_sandbox, percentile, picture
from calls_async.testing import TRANSIENT_FAULTS, Fault, Sandbox
from tests.cli.conftest import invoke

pytestmark = pytest.mark.usefixtures("folder")

GOOD = Result(
    fetched=1_000,
    failed=0,
    seconds=5.0,
    client=Statistics(
        fetched=1_000,
        failed=0,
        requests=1_003,
        retries=3,
        hedges=0,
        throttled=1,
        in_flight=0,
        waiting=0,
        cool_down=0.0,
        pace=None,
        concurrency=64,
        max_concurrency=64,
        budget=500,
        outage=0.0,
        transport="lane",
    ),
    statuses={200: 1_000, 429: 1, 529: 1, None: 1},
    ledger={200: 1_000, 429: 1, 529: 1, None: 1},
    latencies=[0.010] * 50 + [0.020] * 45 + [0.030] * 5,
)


def drawn(result):
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(picture(result))
    return capture.get()


def test_every_kind_of_fault_occurs():
    """5% of the ids meet faults, of every transient kind and of no permanent one."""
    sandbox = demo_sandbox()
    fates = [sandbox.expected(call_id) for call_id in demo_ids()]
    assert Counter(fate.kind for fate in fates) == {"healthy": 950, "flaky": 50}
    assert {fault.name for fate in fates for fault in fate.faults} == {
        fault.name for fault in TRANSIENT_FAULTS
    }
    assert sandbox.max_rate is not None


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)]
)
def test_percentiles_are_values_that_occurred(share, value):
    """The nearest rank, and not something in between."""
    assert percentile([3, 1, 4, 2], share) == value


def test_a_percentile_of_nothing_is_0():
    """Where no answer arrived there is no latency to show, and no error either."""
    assert percentile([], 0.5) == 0


@pytest.mark.parametrize(
    ("change", "agrees", "succeeded"),
    [
        ({}, True, True),
        ({"fetched": 999, "failed": 1}, True, False),
        ({"ledger": {200: 1_003}}, False, False),
        ({"ledger": {200: 1_000, 429: 1, 529: 1}}, False, False),
        ({"client": attrs.evolve(GOOD.client, requests=1_002)}, False, False),
    ],
)
def test_success_needs_both_accounts(change, agrees, succeeded):
    """Every call fetched, and the same requests with the same answers on both ends."""
    result = attrs.evolve(GOOD, **change)
    assert (result.agrees, result.succeeded) == (agrees, succeeded)
    verdict = drawn(result).splitlines()[-1]
    assert ("ledger agree." in verdict) == agrees


def test_the_picture_fits_80_columns():
    """Everything that the summary promises is in it, side by side."""
    lines = drawn(GOOD).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    told = "\n".join(re.sub(" +", " ", line.strip()) for line in lines)
    for part in (
        "fetched 1,000",
        "failed 0",
        "attempts on the wire 1,003",
        "retried 3",
        "throttled 1",
        "latency p50 10 ms",
        "latency p95 20 ms",
        "latency p99 30 ms",
        "calls per second 200",
        "200 OK 1,000 1,000",
        "529 1 1",
        "no whole answer 1 1",
        "all 1,003 1,003",
        "1,000 of 1,000 fetched. The client and the sandbox's ledger agree.",
    ):
        assert part in told


@pytest.fixture
def small_demo(monkeypatch):
    """The demo with fifty calls, and faults that cost no time."""
    sandbox = Sandbox(faults={"call-0007": [Fault.reset], "call-0008": [Fault.status(500)]})
    monkeypatch.setattr(_demo, "CALLS", 50)
    monkeypatch.setattr(_demo, "demo_sandbox", lambda: sandbox)
    return sandbox


@pytest.mark.usefixtures("small_demo")
def test_the_demo_fetches_and_agrees():
    """It needs no key, and both ends have counted the same."""
    result = invoke("demo", CALLS_API_KEY=None, CALLS_BASE_URL=None)
    assert result.exit_code == 0
    told = re.sub(" +", " ", result.stdout)
    assert "attempts on the wire 52" in told
    assert "no whole answer 1 1" in told
    assert "50 of 50 fetched. The client and the sandbox's ledger agree." in told


@pytest.mark.usefixtures("small_demo")
def test_the_picture_is_saved():
    """`--svg` replaces the file by well-formed SVG, which loads no font from elsewhere."""
    Path("demo.svg").write_text("old")
    assert invoke("demo", "--svg", "demo.svg").exit_code == 0
    root = ET.parse("demo.svg").getroot()  # noqa: S314 (rich wrote it)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = "".join(root.itertext()).replace("\u00a0", " ")
    assert "$ calls-async demo" in text
    assert "50 of 50 fetched." in text
    assert "@font-face" not in text


def test_a_lost_call_is_a_failure(small_demo):
    """Where a call cannot be fetched the demo says so, and ends with 1."""
    small_demo.missing = {"call-0009"}
    result = invoke("demo")
    assert result.exit_code == 1
    assert "49 of 50 fetched." in result.stdout


def test_accounts_that_differ_are_a_failure(small_demo, monkeypatch):
    """A request that only one end knows of ends the demo with 1."""
    real = _app.run_demo

    async def miscounting(view):
        small_demo.ledger.begin(
            at=0.0, path="/", call_id=None, status=404, fault=None, key_accepted=True, fresh=True
        )
        return await real(view)

    monkeypatch.setattr(_app, "run_demo", miscounting)
    result = invoke("demo")
    assert result.exit_code == 1
    assert "do not agree." in result.stdout
