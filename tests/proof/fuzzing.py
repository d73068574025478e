"""Fuzzes the same targets as `fuzz`, guided by the coverage that an input reaches; needs atheris.

`python -m tests.proof.fuzzing --seconds 60` shares the time among the targets and prints one line
for each; `--only NAME` fuzzes one. Each target runs in an interpreter of its own, because atheris
measures what is imported after it, and ends the process that it fuzzes in. An input that fails is
kept in the folder `.hypothesis`, and what is printed says how to see it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: Final = ("headers", "codec", "legal", "client")
MISSING: Final = "atheris is not installed: it has wheels for Linux on x86-64"
LONGEST: Final = 4096
"""Bytes of an input."""
KEPT: Final = Path(".hypothesis")
"""Where hypothesis keeps its own; git leaves it out."""
_DONE: Final = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED: Final = re.compile(r"cov: (\d+) ft: (\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; the exit code says whether nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--only", choices=NAMES, help="one target alone")
    parser.add_argument("--here", metavar="CORPUS", help=argparse.SUPPRESS)
    parser.add_argument("input", nargs="?", help="a kept input, to be run once more")
    options = parser.parse_args(arguments)
    if not _installed():
        sys.stdout.write(f"skipped: {MISSING}\n")
        return 0
    names = [options.only] if options.only else NAMES
    if options.here:
        _fuzz(names[0], options.seconds, options.input or options.here)
    sys.stdout.write(
        "| target | inputs | edges | features | seconds | |\n|---|---|---|---|---|---|\n"
    )
    found = [_run(name, options.seconds // len(names), options.input) for name in names]
    return 1 if any(found) else 0


def _installed() -> bool:
    try:
        return importlib.util.find_spec("atheris") is not None
    except ValueError:  # put out of reach
        return False


def _run(name: str, seconds: int, kept: str | None) -> bool:
    """Fuzz one target in a child, print its line, and say whether something was found."""
    command = [sys.executable, "-m", "tests.proof.fuzzing", "--only", name]
    with TemporaryDirectory() as corpus:
        _sow(name, Path(corpus))
        child = subprocess.run(  # noqa: S603 - it is this module
            [*command, "--seconds", str(seconds), "--here", corpus, *([kept] if kept else [])],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
    told = child.stdout + child.stderr
    done, covered = _DONE.search(told), _COVERED.findall(told)
    edges, features = covered[-1] if covered else ("", "")
    end = "FOUND" if child.returncode else "ok"
    runs, took = done.groups() if done else ("", "")
    sys.stdout.write(f"| {name} | {runs} | {edges} | {features} | {took} | {end} |\n")
    if child.returncode:
        sys.stdout.write(f"{told[-8000:]}\nagain: {' '.join(command)} THE_KEPT_INPUT\n")
    sys.stdout.flush()
    return child.returncode != 0


def _sow(name: str, corpus: Path) -> None:
    """Begin with the target's seeds, or with inputs long enough for hypothesis to choose from."""
    dice = random.Random(0)
    noise = (dice.randbytes(dice.randrange(64, LONGEST)) for _ in range(200))
    for number, seed in enumerate(_target(name).seeds or noise):
        corpus.joinpath(f"{number}").write_bytes(seed)


def _target(name: str) -> Any:
    targets = importlib.import_module("tests.proof.targets")
    (target,) = (each for each in targets.TARGETS if each.name == name)
    return target


def _fuzz(name: str, seconds: int, inputs: str) -> None:
    """Hand this process to atheris, which does not come back; a file of inputs is run once."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["calls_async"]):
        target = _target(name)
    KEPT.mkdir(exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=70"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={KEPT}/", inputs], target.feed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
