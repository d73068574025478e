r"""Texts of strangers; the rule: one line stays one line, and no text commands who shows it.

An id, a message or a name may hold anything: terminal commands, line ends, changes of direction
that make a text look like another, lone surrogates, which have no encoding.
"""

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029"  # controls, the escape character and line ends among them
    "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # changes of direction
    "\ud800-\udfff]"  # lone surrogates
)


def printable(text: str) -> str:
    r"""The text on one line and without commands: `\n` for a line end, and so on."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
