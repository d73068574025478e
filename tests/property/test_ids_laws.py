"""Any text at all is refused, or is one segment that reads back as itself."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from calls_async._ids import MAX_LENGTH, check_call_id, path_segment
from calls_async.errors import InvalidCallIdError

SEGMENT = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+")

any_text = st.text(st.characters(), max_size=MAX_LENGTH + 20)
path_like = st.text("./%\\?#;@:2eEfF \x00\n\ud800a", max_size=12)
ids = any_text | path_like
valid_ids = ids.filter(lambda call_id: check_call_id(call_id) is None)


@given(call_id=valid_ids)
def test_a_valid_id_is_one_segment_that_reads_back_as_itself(call_id):
    """Encoded, it has no character that ends a segment; decoded, it is the id again."""
    segment = path_segment(call_id)
    assert SEGMENT.fullmatch(segment)
    assert segment not in {".", ".."}
    assert unquote(segment, errors="strict") == call_id


plain_ids = st.text("abzAZ059-_.~", min_size=1, max_size=40)


@given(call_id=valid_ids | plain_ids.filter(lambda call_id: check_call_id(call_id) is None))
def test_a_segment_is_what_urllib_makes_of_the_id(call_id):
    """Ids that need no encoding take a shorter way to the same text."""
    assert path_segment(call_id) == quote(call_id, safe="")
    assert type(path_segment(type("Text", (str,), {})(call_id))) is str


@given(call_id=valid_ids)
def test_a_valid_id_never_leaves_the_path_of_its_url(call_id):
    """Origin, path prefix, query and fragment of the request are the same for every id."""
    url = URL(f"https://api.example.com/gateway/v1/calls/{path_segment(call_id)}", encoded=True)
    assert url.origin() == URL("https://api.example.com")
    assert url.raw_parts == ("/", "gateway", "v1", "calls", path_segment(call_id))
    assert url.raw_query_string == url.raw_fragment == ""


@given(one=valid_ids, other=valid_ids)
def test_different_ids_have_different_segments(one, other):
    """No two ids ask for the same record."""
    assume(one != other)
    assert path_segment(one) != path_segment(other)


@given(call_id=ids)
def test_an_id_is_refused_exactly_where_it_cannot_be_carried(call_id):
    """Empty, dots, too long, controls and lone surrogates are refused, and nothing else is."""
    hopeless = (
        call_id in {"", ".", ".."}
        or len(call_id) > MAX_LENGTH
        or any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in call_id)
    )
    assert (check_call_id(call_id) is not None) == hopeless


@given(given_id=st.none() | st.booleans() | st.floats() | st.binary() | st.lists(st.text()))
def test_what_is_no_text_is_refused(given_id):
    """The check is total: it returns an error and raises none."""
    assert isinstance(check_call_id(given_id), InvalidCallIdError)
