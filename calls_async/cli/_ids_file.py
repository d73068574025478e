"""The ids to fetch; the rule: the whole file is read and found good before anything is sent.

One id stands on each line, in UTF-8. Blank lines are skipped, as is a byte order mark, and white
space around an id (a Windows line end is some). Of an id that occurs again the first place counts.
"""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import attrs

from calls_async.cli._exits import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterable

STANDARD_INPUT = "-"


@attrs.frozen(kw_only=True)
class IdsFile:
    """What stood in the file.

    Attributes:
        ids: Each id once, in the order of the file.
        duplicates: How many lines repeated an earlier one.
    """

    ids: list[str]
    duplicates: int


def read_ids(name: str) -> IdsFile:
    """Read a file of ids, or standard input for `-`.

    Raises:
        CommandError: It cannot be read, is not UTF-8, or has no id.
    """
    shown = "standard input" if name == STANDARD_INPUT else name
    try:
        with _opened(name) as lines:
            found = _distinct(lines, shown)
    except OSError as exc:
        raise CommandError(f"cannot read {shown}: {exc.strerror}", Exit.USAGE) from exc
    if not found.ids:
        raise CommandError(f"{shown} has no ids: put one on each line", Exit.USAGE)
    return found


def _opened(name: str) -> AbstractContextManager[IO[bytes]]:
    if name == STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    return Path(name).open("rb")


def _distinct(lines: Iterable[bytes], shown: str) -> IdsFile:
    # Bytes end lines at "\n" alone. `str.splitlines` also does at characters that ids may have.
    distinct: dict[str, None] = {}
    total = 0
    for number, line in enumerate(lines, 1):
        try:
            text = (line.removeprefix(BOM_UTF8) if number == 1 else line).decode()
        except UnicodeDecodeError as exc:
            raise CommandError(
                f"{shown}, line {number}: not UTF-8; save the file as UTF-8", Exit.USAGE
            ) from exc
        if call_id := text.strip(" \t\r\n"):
            distinct[call_id] = None
            total += 1
    return IdsFile(ids=list(distinct), duplicates=total - len(distinct))
