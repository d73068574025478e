"""The ids to fetch; the rule: the whole file is read and found good before anything is sent.

How a file of ids looks is the rule of `journal.sources`. Of an id that occurs again the first place
counts.
"""

from __future__ import annotations

import attrs

from calls_async import SourceError
from calls_async.cli._exits import CommandError, Exit
from calls_async.journal.sources import TextFile


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
    source = TextFile(name)
    distinct: dict[str, None] = {}
    total = 0
    try:
        for call_id in source:
            distinct[call_id] = None
            total += 1
    except SourceError as exc:
        raise CommandError(exc.message, Exit.USAGE) from exc
    if not distinct:
        raise CommandError(f"{source.name} has no ids: put one on each line", Exit.USAGE)
    return IdsFile(ids=list(distinct), duplicates=total - len(distinct))
