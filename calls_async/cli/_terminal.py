"""Where things are printed; the rule: data goes to standard output, all talk to standard error."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

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


def document(raw: bytes) -> bytes:
    r"""A record for standard output: as received, unless that is a terminal.

    JSON may hold what commands a terminal; there it is shown escaped, which means the same in JSON.
    """
    if not sys.stdout.isatty():
        return raw
    return _COMMANDS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), raw)


_COMMANDS: Final = re.compile(
    # DEL, the controls beyond ASCII, changes of direction and line ends, as UTF-8 has them.
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
)


def foreign(text: str, style: str = "") -> Text:
    """A text of somebody else's, which is neither markup nor a command to the terminal."""
    return Text(printable(text), style=style, overflow="fold")
