"""The bench measures what it says; that its ratios are reached is nothing that a test may say."""

from __future__ import annotations

import json

import pytest

from benchmarks import verdict
from benchmarks.lanes import BARE, FLOOR, LANES, SCRIPT, Lane
from benchmarks.record import ids, record
from benchmarks.results import Results, load
from benchmarks.rounds import in_order, play
from benchmarks.sample import Sample, Setting, measure
from benchmarks.servers import asyncio_server
from benchmarks.spread import Mark, Spread, mark, paired, spread
from benchmarks.table import clients, cpu_per_call, shown, widths
from benchmarks.target import Target, check
from calls_async import Call
from calls_async._codec import decode_call

SETTING = Setting(server="here", latency=0.0, scheme="plain", loop="asyncio", width=64, calls=1_000)
SLOW = Setting(
    server="there", latency=0.02, scheme="plain", loop="asyncio", width=1_024, calls=1_000
)


def sample(lane, number, cpu, *, setting=SETTING, wall=1.0):
    return Sample(
        lane=lane.name, setting=setting, round=number, calls=1_000, wall=wall, cpu=cpu, server=0.5
    )


# --- Statistics ----------------------------------------------------------------------------------


def test_a_spread_is_the_median_and_the_quartiles():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_a_ratio_is_taken_within_a_round_and_only_of_rounds_that_both_have():
    """The second round was twice as slow for both, which says nothing about their ratio."""
    ours, theirs = {0: 1.0, 1: 2.0, 2: 9.0}, {0: 4.0, 1: 8.0, 3: 1.0}
    assert paired(ours, theirs) == Spread(0.25, 0.25, 0.25, 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("median", "at_least", "expected"),
    [
        (0.45, False, Mark.REACHED),
        (0.46, False, Mark.MISSED),
        (0.46, True, Mark.REACHED),
        (0.44, True, Mark.MISSED),
    ],
)
def test_a_mark_says_whether_the_median_keeps_the_bound(median, at_least, expected):
    assert mark(Spread(median, 0.0, 9.0), 0.45, at_least=at_least) is expected
    assert mark(None, 0.45) is Mark.UNKNOWN


def test_each_round_has_an_order_of_its_own_and_all_lanes():
    orders = [in_order(LANES, number) for number in range(7)]
    assert all(set(order) == set(LANES) for order in orders)
    assert len({tuple(lane.name for lane in order) for order in orders}) == 7


# --- Promises and tables -------------------------------------------------------------------------


def test_every_promise_of_the_issue_has_a_row_with_its_mark():
    """What was not measured is neither kept nor missed."""
    assert len(verdict.PROMISES) == 12
    assert set(verdict.marks(Results())) == {Mark.UNKNOWN}
    assert sum("not measured" in line for line in verdict.table(Results())) == 12


def test_a_promise_is_judged_by_paired_rounds():
    gather, rust = LANES_BY_NAME["gather_calls, lane"], LANES_BY_NAME["wreq"]
    slower = LANES_BY_NAME["pyreqwest"]
    samples = [
        each
        for number in range(3)
        for each in (
            sample(gather, number, 0.01 * (number + 1)),
            sample(SCRIPT, number, 0.1 * (number + 1)),
            sample(rust, number, 0.02 * (number + 1)),
            sample(slower, number, 0.04 * (number + 1)),
            sample(gather, number, 0.1, setting=SLOW, wall=0.1),
            sample(SCRIPT, number, 0.1, setting=SLOW, wall=0.7),
        )
    ]
    results = Results(
        samples=samples,
        kept={"Call": 59.0, "dict": 100.0},
        instructions={"gather_calls, lane": 17.0, "the user's script": 100.0},
        memory=[
            {"way": "streamed", "ids": 10_000, "peak": 100},
            {"way": "streamed", "ids": 1_000_000, "peak": 104},
        ],
    )
    judged = {
        (promise.ours, promise.against): found
        for promise, found in zip(verdict.PROMISES, verdict.marks(results), strict=True)
    }
    script = "the user's script"
    assert judged["CPU of gather_calls, bulk lane", script] is Mark.REACHED
    assert judged["calls/s at 20 ms, 1,024 at once, bulk lane", script] is Mark.MISSED
    assert judged["instructions of gather_calls, bulk lane", script] is Mark.MISSED
    assert list(judged.values()).count(Mark.REACHED) == 4
    assert list(judged.values()).count(Mark.MISSED) == 2
    text = "\n".join(verdict.table(results))
    assert "the fastest Rust-backed peer (wreq)" in text
    assert "0.100 [0.100 0.100]" in text


LANES_BY_NAME: dict[str, Lane] = {lane.name: lane for lane in LANES}


def test_a_table_has_a_row_for_each_lane_and_the_reason_of_one_that_did_not_run():
    results = Results(samples=[sample(SCRIPT, 0, 0.2), sample(BARE, 0, 0.1)])
    results.failures["here, plain, asyncio, 64 at once, 1000 calls"] = {"httpx": "not installed"}
    text = "\n".join(clients(results, SETTING))
    assert "the user's script" in text
    assert "0.50" in text
    assert "httpx                             not installed" in text
    assert "bare" in "\n".join(widths(results, [SETTING], "CPU", cpu_per_call))
    assert shown(Spread(2.0, 1.0, 3.0, 3), ".0f") == "2 [1 3]"


def test_the_file_of_a_run_is_read_back_whole(tmp_path):
    results = Results(machine={"cores": 2}, samples=[sample(SCRIPT, 0, 0.2)], kept={"dict": 1.0})
    results.save(tmp_path / "run.json")
    assert load(tmp_path / "run.json") == results


# --- Records -------------------------------------------------------------------------------------


def test_records_are_valid_and_vary_in_times_and_length():
    """A decoder or a parser of heads that remembers gains nothing by records that are alike."""
    wanted = list(ids(200, seed=1))
    bodies = [record(call_id.encode()) for call_id in wanted]
    calls = [decode_call(body) for body in bodies]
    check(wanted, calls)
    assert len({call.created_at for call in calls}) > 190
    assert len({len(body) for body in bodies}) > 100
    assert 1_050 <= sum(map(len, bodies)) / 200 <= 1_350
    assert list(ids(5, seed=1)) == wanted[:5]


def test_a_call_that_did_not_come_back_is_found():
    call_id = "123e4567-e89b-12d3-a456-426614174000"
    check([call_id] * 3, [{"id": call_id}, record(call_id.encode()), call_id])
    for wrong in ([], [None], [{"id": "other"}], [b"{}"], ["other"], [BaseException]):
        with pytest.raises(RuntimeError):
            check([call_id], wrong)


# --- Processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served():
    with asyncio_server(0.0, None, None) as server:
        yield server


@pytest.mark.parametrize("lane", [lane for lane in LANES if lane.own], ids=lambda lane: lane.name)
def test_a_lane_brings_every_call_back(served, lane):
    """Each lane that needs nothing but the library's own packages."""
    target = Target(url=served.plain, width=1 if lane.alone else 4)
    told = json.loads(json.dumps(measure(lane, target, loop="asyncio", calls=20, seed=1)))
    assert told["lane"] == lane.name
    assert told["calls"] == 20
    assert told["cpu"] > 0
    assert told["wall"] > 0


def test_a_lane_that_cannot_run_is_a_row_and_no_error(served):
    """One is not installed, the other one does not work; the third one has its process."""
    absent = Lane(name="absent", where="absent:lane", needs=("no_such_package",))
    broken = Lane(name="broken", where="no_such_module:lane")
    results = Results()
    setting = Setting(
        server=served.name, latency=0.0, scheme="plain", loop="asyncio", width=2, calls=10
    )
    play([(setting, served, (absent, broken, FLOOR))], results, rounds=1, core=None)
    assert results.failed(setting, "absent") == "not installed: no_such_package"
    assert "broken" in results.failed(setting, "broken")
    assert [each.lane for each in results.samples] == [FLOOR.name]


def test_records_are_calls():
    """What the lanes are given is what the library is for."""
    assert isinstance(decode_call(record(b"123e4567-e89b-12d3-a456-426614174000")), Call)
