"""The record that all servers of the bench answer; the rule: no two ids have the same one.

It is the vendor's example, of about 1.2 KB. The times, some ids and the notes follow the digits
that the id asked for ends in, and so does the length: whoever remembers what was parsed before, or
a header line, would gain by records that are all alike, as no user would.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "/v1/calls/"
DIGITS: Final = 8
"""What an id ends in: two digits of minutes and seconds, three of milliseconds, three of length."""

_EXAMPLE: Final = Path(__file__).parents[1] / "tests" / "data" / "call.json"
_LETTERS: Final = "Wants a quote for twenty-five seats and decides about them in May. "
_STEPS: Final = (30, 3, 1)
"""Letters of the notes for each of the three digits, and for the last one modulo three."""


def ids(number: int, *, seed: int) -> Iterator[str]:
    """So many random ids, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(number):
        start = f"{draw.getrandbits(32):08x}-{draw.getrandbits(16):04x}-4{draw.getrandbits(12):03x}"
        yield f"{start}-8{draw.getrandbits(12):03x}-{draw.randrange(10**12):012}"


def letters(place: int, digit: int) -> str:
    """What the notes have for the digit in this place of the three, from 0."""
    step = _STEPS[place]
    return (_LETTERS * 5)[: step * (digit if step > 1 else digit % 3)]


def template(*, call_id: str, minute: str, second: str, millis: str, notes: str) -> str:
    """The record as compact JSON, with these words where it follows the id."""
    document: dict[str, Any] = json.loads(_EXAMPLE.read_bytes())
    document = {name: _varied(value, minute, second, millis) for name, value in document.items()}
    document |= {"id": call_id, "notes": notes}
    return json.dumps(document, separators=(",", ":"))


def _varied(value: Any, minute: str, second: str, millis: str) -> Any:
    if isinstance(value, dict):
        return {name: _varied(each, minute, second, millis) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[\d-]+T[\d:]+\.\d+Z", value):
        return f"{value[:15]}{minute}:0{second}.{millis}Z"
    if re.fullmatch(r"[\da-f-]{36}|C[AF]\d+", value):
        return value[: -len("000")] + millis
    return value


_PATTERN: Final = re.sub(
    r"@(\w)",
    r"%(\1)b",
    template(call_id="@i", minute="@m", second="@s", millis="@l", notes="@a@b@c").replace(
        "%", "%%"
    ),
).encode()
_NOTES: Final = [[letters(place, digit).encode() for digit in range(10)] for place in range(3)]


def record(call_id: bytes) -> bytes:
    """The record with this id, which ends in eight digits."""
    long, short, least = call_id[-3:]
    return _PATTERN % {
        b"i": call_id,
        b"m": call_id[-8:-7],
        b"s": call_id[-7:-6],
        b"l": call_id[-6:-3],
        b"a": _NOTES[0][long - 48],
        b"b": _NOTES[1][short - 48],
        b"c": _NOTES[2][least - 48],
    }
