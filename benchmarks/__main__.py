"""`python -m benchmarks`: the library beside its peers, in one run.

Without options it compares all clients at 0 ms and at 20 ms. `--all` adds components, memory and
instructions; `--short` takes a minute, and only what the tests need has to be installed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks import components, instructions, memory, table, verdict
from benchmarks.certificate import make_certificate
from benchmarks.lanes import (
    BARE_ALONE,
    FLOOR,
    FLOOR_UNREAD,
    GATHER,
    GATHER_ORDINARY,
    GET,
    LANES,
    NAMED,
    SCRIPT,
    STREAM,
    Lane,
)  # fmt: skip
from benchmarks.machine import cores, describe, installed
from benchmarks.nginx import PROGRAM, nginx
from benchmarks.results import Results
from benchmarks.rounds import play
from benchmarks.sample import Setting, measure, raise_limit
from benchmarks.servers import asyncio_server
from benchmarks.target import UNSTEADY, Target

if TYPE_CHECKING:
    from benchmarks.machine import Served

LATENCY: Final = 0.02
"""Seconds that the slower server takes."""


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: Rounds.
        calls: Calls of a lane at 0 ms.
        most: Calls of a lane at 20 ms, at most; else twenty for each one at once.
        loops: Event loops.
        schemes: `plain`, `tls`.
        widths: Calls at once at 20 ms.
        left_out: Lanes that do not run at 20 ms.
    """

    rounds: int
    calls: int
    most: int
    loops: tuple[str, ...]
    schemes: tuple[str, ...]
    widths: tuple[int, ...]
    left_out: tuple[Lane, ...] = (FLOOR_UNREAD,)


FULL: Final = Size(
    rounds=7,
    calls=4_000,
    most=20_000,
    loops=("asyncio", "uvloop"),
    schemes=("plain", "tls"),
    widths=(16, 64, 256, 1024),
)
SHORT: Final = Size(
    rounds=2, calls=200, most=1_024, loops=("asyncio",), schemes=("plain",), widths=(256,),
    left_out=(GATHER_ORDINARY, STREAM),
)  # fmt: skip
FEW: Final = (SCRIPT, GATHER_ORDINARY, GATHER, STREAM, FLOOR, BARE_ALONE, GET)
"""The lanes of the short form."""


def main() -> None:
    given = options()
    if given.lane:
        raise_limit()
        target = Target(url=given.url, width=given.width, authority=given.authority)
        seed, server = given.seed, given.server
        loop, calls = given.loop[0], given.calls
        told = measure(NAMED[given.lane], target, loop=loop, calls=calls, seed=seed, server=server)
        print(json.dumps(told))
        return
    size = sized(given)
    lanes = [NAMED[name] for name in given.only] if given.only else list(LANES)
    if given.short and not given.only:
        lanes = list(FEW)
    results = Results(machine=describe())
    print(table.machine(results.machine))
    results.kept = memory.kept()
    # Whoever ends it, also CI whose time is up, gets what there is, and the servers end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measure_all(results, given, size, lanes)
    except KeyboardInterrupt:
        print("interrupted: what follows is what there was until then")
    report(results)
    if given.save:
        results.save(given.save)
    if broken := [
        f"{lane}: {reason}"
        for failures in results.failures.values()
        for lane, reason in failures.items()
        if NAMED[lane].own and UNSTEADY not in reason
    ]:
        sys.exit("\n".join(broken))


def measure_all(results: Results, given: argparse.Namespace, size: Size, lanes: list[Lane]) -> None:
    """Measure all that is asked for, and add it to the results."""
    compare(results, size, lanes)
    if given.components or given.all:
        results.components = components.measured(fast=given.short)
    if given.memory or given.all:
        results.memory = memory.measured(tuple(given.ids or memory.NUMBERS))
    if (given.instructions or given.all) and instructions.missing() is None:
        results.instructions = instructions.counted(instructions.SHORT)


def compare(results: Results, size: Size, lanes: list[Lane]) -> None:
    """Let all lanes run in all settings."""
    core, other = cores()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        certificate = make_certificate(Path(folder))
        if PROGRAM is None:
            print("nginx is not installed: an asyncio server without latency is in its place\n")
            quick = stack.enter_context(asyncio_server(0.0, certificate, other))
        else:
            quick = stack.enter_context(nginx(certificate, other))
        slow = stack.enter_context(asyncio_server(LATENCY, None, other))
        loops = [loop for loop in size.loops if loop == "asyncio" or installed(loop)]
        plan: list[tuple[Setting, Served, list[Lane]]] = [
            (
                Setting(
                    server=quick.name,
                    latency=0.0,
                    scheme=scheme,
                    loop=loop,
                    width=64,
                    calls=size.calls,
                ),
                quick,
                [lane for lane in lanes if loop in lane.loops],
            )
            for scheme in size.schemes
            for loop in loops
        ]
        at_once = [lane for lane in lanes if not lane.alone and lane not in size.left_out]
        for width in size.widths:
            calls = min(size.most, max(1_000, 20 * width))
            setting = Setting(
                server=slow.name,
                latency=LATENCY,
                scheme="plain",
                loop="asyncio",
                width=width,
                calls=calls,
            )
            plan.append((setting, slow, at_once))
        play(plan, results, rounds=size.rounds, core=core)


def report(results: Results) -> None:
    """Print all tables, the verdict last."""
    settings = results.settings()
    for setting in settings:
        if not setting.latency:
            print(*table.clients(results, setting), sep="\n")
    if slow := [setting for setting in settings if setting.latency]:
        print(*table.widths(results, slow, "calls/s", table.calls_per_second), sep="\n")
        print(*table.widths(results, slow, "µs CPU a call", table.cpu_per_call), sep="\n")
    print(f"\n{table.NOTES}")
    if results.components:
        print(*table.components(results.components), sep="\n")
    if results.memory:
        print(*table.memory(results.memory), sep="\n")
    print(table.kept(results.kept))
    if results.instructions:
        print(*instructions.report(results.instructions), sep="\n")
    print(*verdict.table(results), sep="\n")


def sized(given: argparse.Namespace) -> Size:
    """The sizes, with what the options change."""
    size = SHORT if given.short else FULL
    changes = {
        "rounds": given.rounds,
        "calls": given.calls,
        "loops": given.loop and tuple(given.loop),
        "schemes": given.scheme and tuple(given.scheme),
        "widths": given.at_once and tuple(given.at_once),
    }
    return attrs.evolve(size, **{name: value for name, value in changes.items() if value})


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="The library and its peers.")
    parser.add_argument("--short", action="store_true", help="a minute; no peers")
    parser.add_argument("--components", action="store_true", help="and the parts, with pyperf")
    parser.add_argument("--memory", action="store_true", help="and the memory of many calls")
    parser.add_argument("--instructions", action="store_true", help="and callgrind's counts")
    parser.add_argument("--all", action="store_true", help="and all of these")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int, help="of each lane at 0 ms")
    parser.add_argument("--only", action="append", choices=NAMED, help="a lane; may be repeated")
    parser.add_argument("--loop", action="append", choices=FULL.loops)
    parser.add_argument("--scheme", action="append", choices=FULL.schemes)
    parser.add_argument("--at-once", action="append", type=int, help="at 20 ms; may be repeated")
    parser.add_argument("--ids", action="append", type=int, help="for --memory; may be repeated")
    parser.add_argument("--save", type=Path, help="a file for all figures")
    hidden = argparse.SUPPRESS
    parser.add_argument("--lane", choices=NAMED, help=hidden)
    parser.add_argument("--url", help=hidden)
    parser.add_argument("--authority", type=Path, help=hidden)
    parser.add_argument("--width", type=int, help=hidden)
    parser.add_argument("--seed", type=int, help=hidden)
    parser.add_argument("--server", type=int, help=hidden)
    return parser.parse_args()


if __name__ == "__main__":
    main()
