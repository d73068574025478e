"""One record for people: `calls-async get` without `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from calls_async.cli._terminal import foreign
from calls_async.cli._words import count
from calls_async.journal._csv import members

if TYPE_CHECKING:
    from calls_async import Fetched


def card(fetched: Fetched) -> Group:
    """The record, member by member, and what it took."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in members(fetched.call).items():
        table.add_row(foreign(name), _shown(value))
    took = f"{count(fetched.attempts, 'attempt')} in {1000 * fetched.elapsed:.0f} ms"
    if fetched.request_id is not None:
        took += f" · request {fetched.request_id}"
    return Group(table, foreign(took, style="dim"))


def _shown(value: Any) -> Text:
    match value:
        case None:
            return Text("null", style="dim")
        case bool():
            return Text(str(value).lower(), style="magenta")
        case str():
            return foreign(value)
        case dict() | list():  # only members that the page does not name
            return Text("… (--json shows it)", style="dim")
        case _:
            return foreign(str(value))
