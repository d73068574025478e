"""What a run has found; the rule: the file holds every figure, and is read back whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.sample import Sample, Setting
from benchmarks.spread import Spread, paired, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@attrs.define
class Results:
    """All figures.

    Attributes:
        machine: Where they were measured, see `machine.describe`.
        samples: Of the lanes.
        failures: Of lanes that did not run, by setting and lane: why.
        instructions: Per call, by lane, as callgrind counts them.
        components: Seconds of each component, each with its figures.
        memory: Rows of `benchmarks.memory`.
        kept: Bytes of one kept record, by what it is kept as.
    """

    machine: dict[str, Any] = attrs.field(factory=dict)
    samples: list[Sample] = attrs.field(factory=list)
    failures: dict[str, dict[str, str]] = attrs.field(factory=dict)
    instructions: dict[str, float] = attrs.field(factory=dict)
    components: dict[str, list[float]] = attrs.field(factory=dict)
    memory: list[dict[str, Any]] = attrs.field(factory=list)
    kept: dict[str, float] = attrs.field(factory=dict)

    def failed(self, setting: Setting, lane: str) -> str | None:
        """Why a lane has no figures."""
        return self.failures.get(key(setting), {}).get(lane)

    def settings(self) -> list[Setting]:
        """All settings, in the order in which they were first measured."""
        return list(dict.fromkeys(sample.setting for sample in self.samples))

    def figures(self, setting: Setting, lane: str, of: Callable[[Sample], float]) -> Rounds:
        """A lane's figures by round."""
        return {
            sample.round: of(sample)
            for sample in self.samples
            if sample.lane == lane and sample.setting == setting
        }

    def spread(
        self, setting: Setting, lane: str, of: Callable[[Sample], float | None]
    ) -> Spread | None:
        """A lane's figures; `None`: it has none."""
        found = [
            figure
            for sample in self.samples
            if sample.lane == lane and sample.setting == setting
            if (figure := of(sample)) is not None
        ]
        return spread(found) if found else None

    def ratio(
        self, setting: Setting, lane: str, against: str, of: Callable[[Sample], float]
    ) -> Spread | None:
        """A lane's figures against another one's, round by round."""
        return paired(self.figures(setting, lane, of), self.figures(setting, against, of))

    def save(self, file: Path) -> None:
        """Write all figures."""
        file.write_text(json.dumps(attrs.asdict(self), indent=1) + "\n", encoding="utf-8")


Rounds = dict[int, float]


def key(setting: Setting) -> str:
    """A setting as a text."""
    return (
        f"{setting.server}, {setting.scheme}, {setting.loop}, "
        f"{setting.width} at once, {setting.calls} calls"
    )


def load(file: Path) -> Results:
    """Read what `Results.save` wrote."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return Results(**found | {"samples": list(_samples(found["samples"]))})


def _samples(rows: Iterable[dict[str, Any]]) -> Iterable[Sample]:
    return (Sample(**row | {"setting": Setting(**row["setting"])}) for row in rows)
