"""How a command ends; the rule: with one of these codes, and at most one line of complaint."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import click

from calls_async.cli._talk import Talk
from calls_async.cli._words import complaint, printable
from calls_async.errors import (
    AuthenticationError,
    CallsError,
    ConfigurationError,
    InvalidCallIdError,
    JournalError,
    SourceError,
)

if TYPE_CHECKING:
    import io


class Exit(IntEnum):
    """The exit codes; there are no others."""

    FETCHED = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    INTERRUPTED = 130


_MEANINGS: Final = """
\b
Exit codes:
  0    all fetched
  1    some ids failed, or the result could not be written
  2    usage: an argument, or a file that it names, cannot be used
  3    configuration, or the key was refused
  130  interrupted with Ctrl-C or SIGTERM; a job can go on
"""


def epilog(*examples: str) -> str:
    """The end of a command's `--help`; a backspace keeps click from filling a paragraph."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExample:\n{lines}\n{_MEANINGS}"


class CommandError(Exception):
    """Ends the command with this line and this code."""

    def __init__(self, line: str, code: Exit) -> None:
        super().__init__(line)
        self.line = line
        self.code = code


def code_of(error: CallsError) -> Exit:
    """The code of a command that this error ended."""
    if isinstance(error, AuthenticationError | ConfigurationError):
        return Exit.CONFIGURATION
    usage = isinstance(error, InvalidCallIdError | JournalError | SourceError)
    return Exit.USAGE if usage else Exit.FAILED


class App(click.Group):
    """A group of commands that end as this module says. A command returns its code.

    Attributes:
        debug: Whether the traceback of what ended a command is printed.
        talk: How the line of complaint is said.
    """

    debug = False
    talk = Talk()

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run a command and end the process with its code; the arguments are click's."""
        self.debug = False
        self.talk = Talk()
        with suppress(AttributeError):  # it is no stream of Python's own
            # A name in a record is no reason to fail where a terminal cannot show it.
            cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
        sys.exit(self._code(args, options))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interrupt ends here, because click would print an empty line for it."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()  # a broken pipe is to show while it can be handled
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        return code

    def _code(self, args: tuple[Any, ...], options: dict[str, Any]) -> int:
        try:
            code: int | None = super().main(*args, **options | {"standalone_mode": False})
        except click.Abort:  # Ctrl-C while the arguments were read
            return Exit.INTERRUPTED
        except SystemExit:  # click's way with a broken pipe: `| head` has seen enough
            return Exit.FETCHED
        except Exception as exc:  # noqa: BLE001 (nobody is shown a traceback unasked)
            if self.debug:
                for told in traceback.format_exc().splitlines():
                    click.echo(printable(told), err=True)
            line, code = _told(exc)
            told = f"calls-async: {line}"
            self.talk.tell("error", told, message=printable(line), exitCode=int(code))
        return code or Exit.FETCHED


def _told(exc: Exception) -> tuple[str, int]:
    """The line and the code for what ended a command."""
    match exc:
        case CommandError():
            return exc.line, exc.code
        case CallsError():
            return complaint(exc), code_of(exc)
        case click.UsageError():
            command = "calls-async" if exc.ctx is None else exc.ctx.command_path
            return f"{exc.format_message()} See {command} --help", Exit.USAGE
        case _:
            told = f"unexpected {type(exc).__name__}: {exc} (calls-async --debug shows where)"
            return told, Exit.FAILED
