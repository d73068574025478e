"""Answers that are almost JSON: every edit of one letter, and the documents of JSONTestSuite.

The edits are judged by `grammar`, which is none of the package's parsers. JSONTestSuite
(https://github.com/nst/JSONTestSuite) is no part of this repository: the variable JSON_TEST_SUITE
names the folder of its documents, `test_parsing`. Where it is not set the sweep says so.
"""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calls_async import CallsClient, DecodeError, RetryPolicy
from tests.proof import grammar, policy
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calls_async import Fetched

NAME: Final = "jsontext"
VARIABLE: Final = "JSON_TEST_SUITE"
MISSING: Final = f"{VARIABLE} does not name the folder test_parsing of JSONTestSuite"
STEP: Final = 97
"""The short form takes one edit of so many."""
ONCE: Final = RetryPolicy(max_attempts=1)

SEEDS: Final = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"10",
    b"-1.05e+10",
    b"1E400",
    b"0.1e-2",
    b'""',
    b'"a b"',
    b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    b'"\\u00e9\\uD83D\\uDE00"',
    b'"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"',
    b"[]",
    b"[ 1 , [2,[3]],\n{} ]",
    b"{}",
    b'{"a":1,\t"b" : [null,"c"], "a":{"":0}}\r\n',
)
"""Texts that together use every rule of the grammar."""
PIECES: Final = (
    *(
        bytes([letter])
        for letter in b"[]{},:\"'\\/ \t\n\r\x00\x08\x0b\x0c\x1f\x7f0159+-.eEutnabfINx_#"
    ),
    *(bytes([letter]) for letter in b"\x80\xa0\xc0\xc3\xed\xf5\xff"),
    *("\ufeff", "\u00a0", "\u2028", "\u0663", "\uff11", "\U0001f600"),
    *("NaN", "Infinity", "//", "/**/", "\\ud800", "\\u", "00", "1e999", "null", "True", "[[", "]]"),
)
"""What is put in, and in the place of each letter."""


async def sweep(*, short: bool) -> Tally:
    """Send every edit, or one of `STEP`, and every document of JSONTestSuite that there is."""
    tally = Tally(NAME)
    step = STEP if short else 1
    await send(
        ((body.hex(), body, word(body)) for body in islice(edits(), None, None, step)), tally
    )
    if suite := folder():
        await send(documents(suite), tally)
    else:
        sys.stderr.write(f"left out: {MISSING}\n")
    return tally


async def send(cases: Iterator[tuple[str, bytes, str]], tally: Tally) -> None:
    """Ask for each body once; none of them is a record, so that each has to end as an error."""
    body = b""
    async with (
        raw_server(lambda _: http(body)) as raw,
        CallsClient("sk_test_json", base_url=raw.url, retry=ONCE) as client,
    ):
        for name, body, expected in cases:  # noqa: B007 - the server reads it
            end = await tally.judge(name, client.fetch_call(policy.CALL_ID), accept=_never)
            if taken_as(end) != expected:
                tally.found(name, "wrong", f"{expected}, not {end!r}"[:300])


def _never(_: Fetched) -> bool:
    return False


def taken_as(end: object) -> str:
    """What was made of a text that is no record, in the words of the page."""
    if not isinstance(end, DecodeError) or end.retryable == end.document_readable:
        return repr(end)
    if end.violations:
        return "accepted"
    return "cannot be held" if end.document_readable else "no JSON"


# --- Edits ---------------------------------------------------------------------------------------


def edits() -> Iterator[bytes]:
    """Each seed, and with each letter gone, or another piece before it or in its place; once."""
    yield from dict.fromkeys(_edits())


def _edits() -> Iterator[bytes]:
    pieces = [piece if isinstance(piece, bytes) else piece.encode() for piece in PIECES]
    for seed in SEEDS:
        yield seed
        for position in range(len(seed) + 1):
            before, after = seed[:position], seed[position:]
            yield before + after[1:]
            for piece in pieces:
                yield before + piece + after
                yield before + piece + after[1:]


def edited(step: int) -> Iterator[tuple[str, bytes, str]]:
    """One of so many edits, and what is to be made of it."""
    return ((body.hex(), body, word(body)) for body in islice(edits(), None, None, step))


def word(body: bytes) -> str:
    """What the grammar says of a body."""
    text = body.removeprefix(BOM_UTF8)  # one mark is skipped, as the page says
    if not grammar.is_json(text):
        return "no JSON"
    return "accepted" if grammar.can_be_held(text) else "cannot be held"


# --- JSONTestSuite -------------------------------------------------------------------------------


def folder() -> Path | None:
    """Where the documents are; `None` if they are not there."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and Path(named).is_dir() else None


def documents(suite: Path) -> Iterator[tuple[str, bytes, str]]:
    """Each document: its name, its text, and what is to be made of it."""
    told = told_documents()
    for path in sorted(suite.glob("*.json")):
        expected = {"y": "accepted", "n": "no JSON"}.get(path.name[0], "not told on the page")
        yield path.name, path.read_bytes(), told.get(path.stem, expected)


def told_documents() -> dict[str, str]:
    """What the page says of single documents."""
    rows = policy.table("Where RFC 8259 leaves the choice")
    return {name: row["taken as"] for row in rows for name in policy.names(row["documents"])}
