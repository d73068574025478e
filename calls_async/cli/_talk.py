"""What a job says; the rule: each thing is said once, as a line for people or as JSON for programs.

The names of the events and of their members are documented in the reference of the command line,
and stay.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import ClassVar

import click

from calls_async.cli._words import printable


class Talk:
    """Talk for people: lines on standard error."""

    for_people: ClassVar[bool] = True

    def tell(self, event: str, *lines: str, **members: object) -> None:
        """Say something.

        Args:
            event: What it is about, for programs.
            lines: How people are told.
            members: What programs are told.
        """
        del event, members
        for line in lines:
            click.echo(printable(line), err=True)


class JsonTalk(Talk):
    """Talk for programs: a JSON object on each line of standard error."""

    for_people: ClassVar[bool] = False

    def tell(self, event: str, *lines: str, **members: object) -> None:
        """Say something; the lines for people are left out."""
        del lines
        told = {"event": event, "at": now(), **members}
        click.echo(json.dumps(told), err=True)


def now() -> str:
    """The time, as ISO 8601 has it, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
