"""The sweep of hostile input in its short form."""

from __future__ import annotations

import pytest

from tests.proof.hostile import NAUGHTY, hostile_ids, hostile_options, sweep


@pytest.mark.usefixtures("way")
async def test_hostile_input_is_used_as_it_is_or_refused():
    """A sample of ids, options, files, journals and of what is shown of them."""
    tally = await sweep(short=True)
    assert not tally.bad
    assert tally.cases > 500
    assert tally.ends["record"] > 50
    assert {"InvalidCallIdError", "ConfigurationError", "JournalError"} <= set(tally.ends)


def test_all_naughty_strings_are_among_the_ids():
    """The full form asks for each of them, and for a code point of each kind."""
    ids = [call_id for call_id in hostile_ids() if type(call_id) is str]
    assert set(NAUGHTY) < set(ids)
    assert len(set(ids)) > 1000
    assert len([*hostile_options()]) > 3000
