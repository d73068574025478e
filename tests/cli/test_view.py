"""A job while it runs: a live view in a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import asyncio
import io
import json
import re

import attrs
import pytest
from rich.console import Console

from calls_async import AttemptFinished, CallFinished, Failed, NotFoundError, Statistics
from calls_async.cli._glance import Glance, Trouble
from calls_async.cli._live import LiveView, picture, sparkline
from calls_async.cli._talk import JsonTalk, Talk
from calls_async.cli._view import LineView, choose_view
from calls_async.cli._watch import Speed, Watch, watching
from calls_async.testing import fake_client
from tests.kit import in_virtual_time

STATISTICS = Statistics(
    fetched=0,
    failed=0,
    requests=0,
    retries=12,
    hedges=0,
    throttled=3,
    in_flight=64,
    waiting=5,
    cool_down=0.0,
    pace=None,
    concurrency=64,
    max_concurrency=64,
    budget=500,
    outage=0.0,
    transport="lane",
)


def glance(done, *, at=0.0, failed=0, asked=1_000, speed=0.0, client=None, **state):
    return Glance(
        at=at,
        asked=asked,
        fetched=done - failed,
        failed=failed,
        speed=speed,
        client=attrs.evolve(STATISTICS, **(client or {})),
        **state,
    )


def test_the_speed_is_that_of_the_last_seconds():
    """A slow start is forgotten, nothing has no speed, and the history has whole seconds."""
    speed = Speed()
    assert (speed.over(100.0), speed.history(100.0)) == (0, ())
    for tenth in range(200):
        speed.ended(100.0 + tenth / 10)
    assert speed.over(120.0) == 10
    assert speed.history(103.5)[:4] == (10, 10, 10)
    assert len(speed.history(500.0)) == 60


def test_the_time_left_is_the_rest_at_this_speed():
    """Without a speed nothing is foretold."""
    assert glance(400, speed=60.0).time_left == "10 s left"
    assert glance(999, speed=60.0).time_left == "1 s left"
    assert glance(400).time_left == "time unknown"


@pytest.mark.parametrize(
    ("client", "state", "told"),
    [
        ({}, {}, "open"),
        ({"pace": 2.5}, {}, "open, pace 2.5/s learnt"),
        ({"pace": 12345.6}, {}, "open, pace 12,346/s learnt"),
        ({"pace": 50.0}, {"given_rate": 50.0}, "open, pace 50/s as given"),
        ({"pace": 48.0}, {"given_rate": 50.0}, "open, pace 48/s learnt"),
        ({"cool_down": 3.0, "pace": 2.5}, {}, "cooling down for 3.0 s"),
        (
            {"cool_down": 90.0},
            {"throttled_by": 429},
            "cooling down for 1 min 30 s: the server answered 429",
        ),
        ({"cool_down": 3.0, "outage": 41.7}, {}, "nobody answers for 42 s: holding, probing"),
        (
            {"outage": 41.7},
            {"stopping": True},
            "finishing 64 in flight; Ctrl-C again stops at once",
        ),
    ],
)
def test_the_gate_is_told(client, state, told):
    """What it does and why, the strongest reason first."""
    assert glance(0, client=client, **state).gate == told


def test_a_line_says_it_all(capsys):
    """Done, failed, speed, time left and gate, on one plain line of standard error."""
    with LineView(Talk()) as view:
        view.show(glance(0, at=0.0))
        view.show(glance(400, at=9.0))
        view.show(glance(500, at=10.0, failed=3, speed=100.0))
        view.show(glance(600, at=11.0, client={"outage": 7.0}))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "0 of 1,000 done, 0 failed, 0/s, time unknown, open",
        "500 of 1,000 done, 3 failed, 100/s, 5 s left, open",
        "600 of 1,000 done, 0 failed, 0/s, time unknown, nobody answers for 7 s: holding, probing",
    ]


def test_a_line_of_json_has_numbers(capsys):
    """Programs read no words but the state of the gate."""
    LineView(JsonTalk()).show(glance(500, failed=3, speed=100.0, latency=(0.01, 0.02)))
    told = json.loads(capsys.readouterr().err)
    assert (told["event"], told["done"], told["gate"]) == ("progress", 500, "open")
    assert (told["secondsLeft"], told["latencyP95"]) == (5.0, 0.02)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_picture_fits_any_width(width):
    """Whatever the terminal, no line wraps, and a message from elsewhere commands nothing."""
    trouble = Trouble(family="ServerError", failed=2, retried=70, last="\x1b[31mred\n" + 200 * "x")
    console = Console(width=width, file=io.StringIO())
    state = glance(
        9_999_999,
        asked=10_000_000,
        failed=123_456,
        client={"cool_down": 119.9},
        history=tuple(range(60)),
        troubles=(trouble,) * 5,
    )
    console.print(picture(state, width=width))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 8, "a bar, four lines, three families"
    assert all(len(line) <= width for line in lines)
    assert re.match("gate +cooling down for 2 min", lines[4])  # the gap is rich's
    assert "\x1b" not in console.file.getvalue()


def test_a_sparkline_has_the_highest_step_for_the_highest_number():
    """And the lowest for none."""
    assert sparkline([0, 1, 2, 4], " -=#") == "  -#"
    assert sparkline([0, 0], " #") == "  "
    assert sparkline([], " #") == ""


def test_the_view_leaves_the_terminal_as_it_was():
    """At the end the picture is erased, and the cursor is shown again."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with LiveView(console) as view:
        view.show(glance(500))
        assert "500 of 1,000" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")
    assert "\x1b[?25h" in console.file.getvalue()


def test_what_is_no_terminal_gets_lines(monkeypatch):
    """A log file gets no bar, not even where the environment asks for colour."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(choose_view(Talk()), LineView)


def test_a_watch_measures_what_events_tell():
    """Latency by requests, speed by calls, failures by family with the latest first."""
    watch = Watch(asked=3)
    for number in range(100):
        watch(
            AttemptFinished(
                at=1.0, call_id="a", attempt=1, duration=number / 100, status=200, error=None
            )
        )
    error = NotFoundError("no such call", status=404, call_id="a")
    failed = Failed(id="a", error=error, attempts=1, elapsed=0.1)
    watch(CallFinished(at=1.5, outcome=failed))
    watch.take(failed)
    seen = watch.glance(2.0, STATISTICS)
    assert seen.latency == (0.5, 0.95)
    assert (seen.done, seen.failed, seen.speed) == (1, 1, 1.0)
    (trouble,) = seen.troubles
    assert (trouble.family, trouble.failed, trouble.last) == ("NotFoundError", 1, "no such call")
    assert watch.glance(100.0, STATISTICS).latency is None


@in_virtual_time
async def test_a_view_is_shown_the_work_while_it_lasts():
    """It is shown at the start and every period, and not after the end."""
    seen = []

    class Notes(LineView):
        period = 1.0

        def show(self, glance):
            seen.append(glance.at)

    async with fake_client() as client:
        async with watching(Notes(Talk()), Watch(asked=1), client):
            await asyncio.sleep(2.5)
        await asyncio.sleep(5)
    assert seen == [0.0, 1.0, 2.0]


@in_virtual_time
async def test_a_view_that_cannot_print_does_not_end_the_work():
    """Records are worth more than lines on a closed pipe."""

    class Broken(LineView):
        def show(self, _):
            raise BrokenPipeError

    async with fake_client() as client, watching(Broken(Talk()), Watch(asked=1), client):
        assert await client.get_call("a")
