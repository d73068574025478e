"""Mutation testing of the pure modules: what can be changed without any test noticing?

`python -m tests.mutation` judges all of them and takes an hour; `python -m tests.mutation _pace`
judges one. It prints a table and the survivors, and fails below the score, or if a survivor is not
in survivors.toml with its reason.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.trial import Subject, survivors

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST: Final = 0.90
"""The share of all mutants that has to be killed."""
REASONS: Final = Path(__file__).with_name("survivors.toml")
TESTS: Final = {
    "_verdict": ("unit/test_verdict.py", "property/test_verdict_laws.py"),
    "_gate": ("unit/test_gate.py", "property/test_gate_laws.py"),
    "_pace": ("unit/test_pace.py", "property/test_gate_laws.py"),
    "_quota": ("unit/test_quota.py", "property/test_gate_laws.py"),
    "_concurrency": ("unit/test_concurrency.py", "property/test_control_laws.py"),
    "_budget": ("unit/test_budget.py", "property/test_control_laws.py"),
    "_outage": ("unit/test_outage.py", "property/test_control_laws.py"),
    "_hedge": ("unit/test_hedge.py", "property/test_control_laws.py"),
    "_backoff": ("unit/test_backoff.py",),
    "_headers": ("unit/test_headers.py", "property/test_headers_total.py"),
    "_ids": ("unit/test_ids.py", "property/test_ids_laws.py"),
    "_codec": ("unit/test_codec.py", "unit/test_models.py", "property/test_codec_laws.py"),
    "_quick": ("unit/test_quick.py",),
    "_secret": ("unit/test_secret.py",),
    "_scrub": ("unit/test_secret.py",),
    "config": ("unit/test_config.py",),
    "errors": ("unit/test_errors.py",),
    "outcomes": ("unit/test_outcomes.py",),
    "_unfrozen": ("unit/test_outcomes.py", "unit/test_quick.py"),
    "events": ("unit/test_outcomes.py",),
    "models": ("unit/test_models.py", "unit/test_codec.py"),
    "_wire": ("unit/test_verdict.py",),
    "fleet": ("unit/test_fleet.py",),
}
"""The test files that judge each module: its own, and no others that happen to run it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code says whether the score is reached and each survivor known."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    names: list[str] = parser.parse_args(arguments).modules or list(TESTS)
    if set(TESTS) != pure_modules():
        parser.error(f"TESTS and the import contract differ: {set(TESTS) ^ pure_modules()}")
    say("| module | mutants | killed | survived | of these with a reason | score |")
    say("|---|---:|---:|---:|---:|---:|")
    total = survived = explained = 0
    findings: list[str] = []
    for name in names:
        subject = Subject(name, [f"tests/{file}" for file in TESTS[name]])
        tried = mutants(subject.file.read_text(encoding="utf-8"))
        left = [(mutant, mutant.change()) for mutant in survivors(subject, tried)]
        known = reasons(name)
        strange = [entry for entry in left if entry[1] not in known]
        say(row(name, len(tried), len(left), len(left) - len(strange)))
        findings += [shown(name, *entry) for entry in strange]
        stale = known - {change for _, change in left}
        findings += [f"{name}: in {REASONS.name}, but no survivor: {change}" for change in stale]
        total += len(tried)
        survived += len(left)
        explained += len(left) - len(strange)
    if len(names) > 1:
        say(row("all", total, survived, explained))
    for finding in findings:
        say(finding)
    return 1 if findings or survived > (1 - LEAST) * total else 0


def pure_modules() -> set[str]:
    """The modules of rows 0 and 1, from the import contract that keeps them pure."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    pure = next(c["source_modules"] for c in contracts if c["type"] == "forbidden")
    return {module.removeprefix("calls_async.") for module in pure}


def reasons(name: str) -> set[tuple[str, ...]]:
    """The changes of a module that may survive."""
    groups = tomllib.loads(REASONS.read_text(encoding="utf-8")).get(name, ())
    return {tuple(change) for group in groups for change in group["changes"]}


def say(line: str) -> None:
    """Print a line now: a module takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def row(name: str, total: int, survived: int, explained: int) -> str:
    """One line of the table."""
    killed = total - survived
    score = f"{killed / total:.1%}" if total else "—"
    return f"| {name} | {total:,} | {killed:,} | {survived} | {explained} | {score} |"


def shown(name: str, mutant: Mutant, change: tuple[str, ...]) -> str:
    """A survivor; its second line can be copied to survivors.toml."""
    marks = {part: "'''" if "'" in part else "'" for part in change}
    quoted = ", ".join(f"{mark}{part}{mark}" for part, mark in marks.items())
    return f"{name}, line {mutant.line}:\n  [{quoted}],"


if __name__ == "__main__":
    sys.exit(main())
