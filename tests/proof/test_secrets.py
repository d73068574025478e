"""The sweep of secrets in its short form."""

from __future__ import annotations

import pytest

from tests.proof.secrets import KEYS, OTHERS, PLACES, STEP, WRITINGS, Searcher, sweep


@pytest.mark.usefixtures("way")
async def test_no_key_is_seen_in_whatever_place_and_writing():
    """A sample of all places and writings shows nothing of a key, and each ends as an error."""
    tally = await sweep(short=True)
    assert not tally.bad
    live = len(range(0, len(PLACES) * len(WRITINGS), STEP))
    others = (len(KEYS) - 1) * len(range(0, len(PLACES) * len(WRITINGS), OTHERS))
    rotated = len(range(0, len(WRITINGS), STEP))
    assert tally.cases - tally.ends["file"] == live + others + rotated + 11
    assert tally.ends["file"] == 12 * len(KEYS)


@pytest.mark.parametrize("write", WRITINGS.values(), ids=WRITINGS.keys())
def test_the_searcher_finds_what_it_searches_for(write):
    """It sees the key in every writing, or the sweep would prove nothing."""
    assert Searcher(KEYS["live"]).leaks(f"before {write(KEYS['live'])} after")
