"""The tables of docs/reference/reading.md; the rule: what is expected of a value stands only there.

So the page cannot lie: whoever changes what is read must change the page, and the other way round.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.documents import example

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "reading.md"
CALL_ID: Final = "call-1"
"""The id that is asked for."""
RECORD: Final = json.dumps(example() | {"id": CALL_ID}).encode()
"""The record that a sweep changes."""

_TOKEN: Final = re.compile(
    r"bytes `(?P<hex>[^`]*)`|`(?P<text>[^`]*)`(?: \N{MULTIPLICATION SIGN} (?P<times>[\d,]+))?"
    r"|(?P<named>the record(?: without its last byte| in UTF-16| in UTF-32)?|nothing)"
)
_NAMED: Final = {
    "the record": RECORD,
    "the record without its last byte": RECORD[:-1],
    "the record in UTF-16": RECORD.decode().encode("utf-16"),
    "the record in UTF-32": RECORD.decode().encode("utf-32"),
    "nothing": b"",
}


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table under a heading, each by the names of the columns."""
    section = PAGE.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    header, _, *rows = (line for line in section.splitlines() if line.startswith("|"))
    names = _cells(header)
    return [dict(zip(names, _cells(row), strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split(" |")]


def names(cell: str) -> list[str]:
    """What a cell names in code spans."""
    return re.findall(r"`([^`]+)`", cell)


def written(cell: str) -> bytes:
    """The bytes that a cell describes."""
    tokens = list(_TOKEN.finditer(cell))
    assert " ".join(token[0] for token in tokens) == cell, f"cannot be read: {cell}"
    return b"".join(map(_bytes, tokens))


def _bytes(token: re.Match[str]) -> bytes:
    if token["named"]:
        return _NAMED[token["named"]]
    if token["hex"] is not None:
        return bytes.fromhex(token["hex"])
    return token["text"].encode() * int((token["times"] or "1").replace(",", ""))


# --- Members -------------------------------------------------------------------------------------


def members() -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Every documented member and one unknown one at each level: its path, and its row."""
    for row in table("Members"):
        documented = names(row["members"])
        for name in documented:
            yield tuple(name.split(".")), row
        if not documented:
            for parent in ((), ("contact",), ("phoneNumber",), ("caller",), ("callerPhoneNumber",)):
                yield (*parent, "other"), row
