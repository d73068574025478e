"""Chunks: the same ids give the same names, and other ids others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import InvalidCallIdError
from calls_async.engines._chunks import chunks, index_of

lists = st.lists(st.text(st.characters(codec=None), max_size=5), max_size=20)
sizes = st.integers(1, 7)


@given(ids=lists, size=sizes)
def test_chunks_hold_the_ids_in_their_order(ids, size):
    """Put together they are the ids, each once within its chunk."""
    given_back = list(chunks(iter(ids), size))
    for chunk in given_back:
        part = ids[chunk.index * size : (chunk.index + 1) * size]
        assert list(chunk.ids) == list(dict.fromkeys(part))
        assert chunk.repeats == len(part) - len(chunk.ids)
        assert index_of(chunk.name) == chunk.index
    assert [chunk.index for chunk in given_back] == list(range(-(-len(ids) // size)))


@given(ids=lists, others=lists, size=sizes)
def test_names_tell_the_content(ids, others, size):
    """Chunks have the same name if, and only if, they have the same ids at the same place."""
    for one, other in zip(chunks(ids, size), chunks(others, size), strict=False):
        place = slice(one.index * size, (one.index + 1) * size)
        assert (one.name == other.name) == (ids[place] == others[place])


def test_names_stay():
    """The name of a chunk is part of the format: a later version finds the parts of this one."""
    (chunk,) = chunks(["call-1", "é"], 5)
    assert chunk.name == "part-00000000-5520d15ec70c8158"


def test_what_is_no_text_is_refused():
    """It is told which one it is."""
    with pytest.raises(InvalidCallIdError, match="must be a str, not int"):
        list(chunks(["a", 4711], 5))


@pytest.mark.parametrize("name", ["mine", "part-1", "part-x-00", "part-1-", "other-1-00", ""])
def test_other_names_are_no_parts(name):
    """They have no place."""
    assert index_of(name) is None
