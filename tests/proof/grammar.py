"""The grammar of RFC 8259, told once more; the rule: no parser of the package's is asked.

It only says whether bytes are one JSON text. Where the text is deep it is slow.
"""

from __future__ import annotations

import json
import re
from typing import Final

_TOKENS: Final = re.compile(
    r"""
      (?P<blank>[ \t\n\r]+)
    | (?P<mark>[][{}:,])
    | (?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")
    | (?P<value>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)
    """,
    re.VERBOSE,
)
_INNERMOST: Final = re.compile(r"\[(?:[sv](?:,[sv])*)?\]|\{(?:s:[sv](?:,s:[sv])*)?\}")


def is_json(body: bytes) -> bool:
    """Whether this is a JSON text in UTF-8."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    letters, position = "", 0
    while token := _TOKENS.match(text, position):
        kind = str(token.lastgroup)
        letters += {"blank": "", "mark": token[0]}.get(kind, kind[0])
        position = token.end()
    # An array or object of nothing but strings and values is a value itself.
    reduced = 1
    while reduced:
        letters, reduced = _INNERMOST.subn("v", letters)
    return position == len(text) and letters in {"s", "v"}


def can_be_held(body: bytes) -> bool:
    """Whether a JSON text has neither a lone surrogate nor a number beyond a double."""
    try:
        # Pairs, because of equal names all values count.
        pairs = json.loads(body, object_pairs_hook=list)
        json.dumps(pairs, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True
