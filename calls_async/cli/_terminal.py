"""Where things are printed; the rule: data goes to standard output, all talk to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from calls_async.cli._words import printable

if TYPE_CHECKING:
    from typing import NoReturn


class DataConsole(Console):
    """rich's console on standard output, except that a broken pipe is the caller's to handle."""

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich while it handles the error."""
        raise  # noqa: PLE0704 (that error)


def talk(line: str) -> None:
    """Say something about the work, on one line."""
    click.echo(printable(line), err=True)


def foreign(text: str, style: str = "") -> Text:
    """A text of somebody else's, which is neither markup nor a command to the terminal."""
    return Text(printable(text), style=style, overflow="fold")
