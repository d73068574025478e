"""What is read at every member is what docs/reference/reading.md says, and the page is whole."""

from __future__ import annotations

import pytest

from calls_async import CallsClient
from tests.documents import MEMBERS
from tests.proof import policy, values
from tests.rawserver import http, raw_server

KINDS = {"string": "text", "boolean": "true or false", "time": "a time", "object": "an object"}


@pytest.mark.usefixtures("way")
async def test_every_value_is_read_or_refused_as_the_page_says():
    """A sample of all values at all members ends as written, as often asked as written."""
    tally = await values.sweep(short=True)
    assert not tally.bad
    others = len(list(values.others()))
    assert others > 3_600
    nothing = len(list(values.missing_and_null()))
    assert nothing == 2 * len(MEMBERS) + 5
    assert tally.cases == nothing + len(range(0, others, values.STEP))


def test_the_page_has_every_member_of_the_vendors_page():
    """Each documented member stands in one row, with its kind, and whether it may be missing."""
    told = {path: row for path, row in policy.members() if path[-1] != "other"}
    assert sorted(told) == sorted(member.path for member in MEMBERS)
    assert len([path for path, _ in policy.members()]) == len(MEMBERS) + 5
    for member in MEMBERS:
        row = told[member.path]
        assert row["hold"] == ("the id" if member.path == ("id",) else KINDS[member.kind])
        assert (row["missing"] == "refused") == member.required
        assert (row["`null`"] == "refused") == (not member.nullable)


def test_every_word_of_the_tables_is_explained():
    """No cell says anything that the page does not define."""
    page = policy.PAGE.read_text("utf-8")
    explained = {line.split(" |")[0][2:] for line in page.split("\n## ")[0].splitlines()}
    words = {case.word for case in values.cases()}
    assert words <= explained
    assert len(words) == 8


def test_each_case_is_another_body():
    """Nothing is counted twice, apart from equal values that the page lists for their reasons."""
    bodies = [case.body for case in values.cases()]
    assert len(set(bodies)) > 0.95 * len(bodies)


def test_a_repetition_is_written_out():
    """A text with a number of times is the text that often; the longest fills most of a body."""
    longest = max((case.body for case in values.cases()), key=len)
    assert 1_000_000 < len(longest) < 1_048_576
    assert (
        policy.written("`a` `b` \N{MULTIPLICATION SIGN} 1,000 bytes `00`")
        == b"a" + 1000 * b"b" + b"\0"
    )


async def test_the_content_type_is_not_asked():
    """A record is read as UTF-8 JSON, whatever the header says of it."""
    body = policy.RECORD.replace(b"Alice", "Zoë".encode())
    for kind in ("text/html", "application/json; charset=latin-1", "image/png", "x"):
        async with (
            raw_server(http(body, f"Content-Type: {kind}")) as raw,
            CallsClient("sk_test_values", base_url=raw.url) as client,
        ):
            assert (await client.get_call(policy.CALL_ID)).caller.first_name == "Zoë"
