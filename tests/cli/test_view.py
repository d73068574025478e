"""A job while it runs: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from calls_async import Statistics
from calls_async.cli._view import (
    BarView,
    Glance,
    LineView,
    Speed,
    choose_view,
    render,
    time_left,
    watching,
)
from calls_async.testing import fake_client
from tests.kit import in_virtual_time


def glance(done, *, at=0.0, failed=0, total=1_000, cool_down=0.0, pace=None, outage=0.0):
    client = Statistics(
        fetched=done - failed,
        failed=failed,
        requests=done,
        retries=12,
        hedges=0,
        throttled=0,
        in_flight=64,
        waiting=0,
        cool_down=cool_down,
        pace=pace,
        concurrency=64,
        max_concurrency=64,
        budget=500,
        outage=outage,
    )
    return Glance(at=at, total=total, client=client)


def test_the_speed_is_that_of_the_last_seconds():
    """A slow start is forgotten, and a single glance has no speed."""
    speed = Speed()
    assert speed.over(glance(0, at=100.0)) == 0
    assert speed.over(glance(10, at=101.0)) == 10
    seen = [speed.over(glance(10 + 100 * n, at=101.0 + n)) for n in range(1, 12)]
    assert seen[-1] == 100


def test_the_time_left_is_the_rest_at_this_speed():
    """Without a speed nothing is foretold."""
    assert time_left(glance(400), 60.0) == "10 s left"
    assert time_left(glance(999), 60.0) == "1 s left"
    assert time_left(glance(400), 0.0) == "time unknown"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, "gate open"),
        ({"pace": 2.5}, "gate open, pace 2.5/s"),
        ({"pace": 187.654}, "gate open, pace 188/s"),
        ({"cool_down": 3.0, "pace": 2.5}, "gate cooling down for 3.0 s"),
        ({"cool_down": 3.0, "outage": 41.7}, "nobody answers for 42 s, probing"),
    ],
)
def test_the_gate_is_told(state, told):
    """Open, at its pace, or cooling down and for how long."""
    assert glance(0, **state).gate == told


def test_a_line_says_it_all(capsys):
    """Done, failed, speed, time left and gate, on one plain line of standard error."""
    with LineView() as view:
        view.show(glance(0, at=0.0))
        view.show(glance(500, at=5.0, failed=3))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "0 of 1,000 done, 0 failed, 0/s, time unknown, gate open",
        "500 of 1,000 done, 3 failed, 100/s, 5 s left, gate open",
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_bar_has_two_lines_at_any_width(width):
    """Whatever the terminal, the bar does not wrap, and the gate is not cut."""
    console = Console(width=width, file=io.StringIO())
    console.print(
        render(glance(9_999_999, total=10_000_000, failed=123_456, cool_down=119.9), 12.3)
    )
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith("gate cooling down for 119.9 s")
    if width == 200:
        assert "9,999,999 of 10,000,000" in lines[0]
        assert "123,456 failed" in lines[1]
        assert lines[1].endswith("12 retried")


def test_the_bar_leaves_the_terminal_as_it_was():
    """At the end the bar is erased, and the cursor is shown again."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with BarView(console) as view:
        view.show(glance(500))
        assert "500 of 1,000" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")
    assert "\x1b[?25h" in console.file.getvalue()


def test_what_is_no_terminal_gets_lines(monkeypatch):
    """A log file gets no bar, not even where the environment asks for colour."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(choose_view(), LineView)


@in_virtual_time
async def test_a_view_is_shown_the_work_while_it_lasts():
    """It is shown at the start and every period, and not after the end."""
    seen = []

    class Notes(LineView):
        period = 1.0

        def show(self, glance):
            seen.append(glance.at)

    async with fake_client() as client:
        async with watching(Notes(), client, total=1):
            await asyncio.sleep(2.5)
        await asyncio.sleep(5)
    assert seen == [0.0, 1.0, 2.0]


@in_virtual_time
async def test_a_view_that_cannot_print_does_not_end_the_work():
    """Records are worth more than lines on a closed pipe."""

    class Broken(LineView):
        def show(self, _):
            raise BrokenPipeError

    async with fake_client() as client, watching(Broken(), client, total=1):
        assert await client.get_call("a")
