"""Call ids: one path segment each, or refused before anything is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from yarl import URL

from calls_async._ids import MAX_LENGTH, check_call_id, path_segment
from calls_async.errors import InvalidCallIdError

# Big List of Naughty Strings, MIT; its licence is beside it.
NAUGHTY = json.loads((Path(__file__).parents[1] / "data" / "blns.json").read_text("utf-8"))
UNIQUE = list(dict.fromkeys(NAUGHTY))
PREFIX = "https://api.example.com/gateway/v1/calls/"
SEGMENT = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+")


def assert_one_segment(call_id):
    """The id is exactly the last segment of the URL, to every reader, and can be read back."""
    segment = path_segment(call_id)
    assert SEGMENT.fullmatch(segment)
    assert unquote(segment, errors="strict") == call_id
    url = PREFIX + segment
    parts = urlsplit(url)
    assert (parts.netloc, parts.query, parts.fragment) == ("api.example.com", "", "")
    assert parts.path == f"/gateway/v1/calls/{segment}"
    assert str(URL(url, encoded=True)) == url


@pytest.mark.parametrize("call_id", UNIQUE, ids=range(len(UNIQUE)))
def test_a_naughty_string_is_refused_or_becomes_one_segment(call_id):
    """No string from the list leaves the path, and none is changed on the way."""
    problem = check_call_id(call_id)
    if problem is None:
        assert_one_segment(call_id)
    else:
        assert isinstance(problem, InvalidCallIdError)


def test_few_naughty_strings_are_refused():
    """Refusing is for what cannot be sent; text in any script and markup can."""
    refused = [call_id for call_id in UNIQUE if check_call_id(call_id) is not None]
    assert len(UNIQUE) > 450
    assert len(refused) < 15
    assert {"", "."} <= set(refused)


@pytest.mark.parametrize(
    ("call_id", "expected"),
    [
        ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("a/b", "a%2Fb"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("https://evil.example/x", "https%3A%2F%2Fevil.example%2Fx"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("a%2Fb", "a%252Fb"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("a;b=c", "a%3Bb%3Dc"),
        ("a\\b", "a%5Cb"),
        ("a@b:80", "a%40b%3A80"),
        (" ", "%20"),
        ("a+b", "a%2Bb"),
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("\u2028", "%E2%80%A8"),
        ("📞", "%F0%9F%93%9E"),
        ("~", "~"),
    ],
)
def test_an_id_is_percent_encoded_as_one_segment(call_id, expected):
    """Everything but the unreserved characters is encoded as UTF-8, slashes and percents too."""
    assert check_call_id(call_id) is None
    assert path_segment(call_id) == expected
    assert_one_segment(call_id)


@pytest.mark.parametrize(
    ("call_id", "problem"),
    [
        ("", "is empty"),
        (".", "is a relative path segment"),
        ("..", "is a relative path segment"),
        ("\x00", "has a control character"),
        ("a\nb", "has a control character"),
        ("a\r\nX-Evil: 1", "has a control character"),
        ("a\tb", "has a control character"),
        ("a\x1b[31m", "has a control character"),
        ("a\x7f", "has a control character"),
        ("a\x85", "has a control character"),
        ("a\x9f", "has a control character"),
        ("a\ud800", "lone surrogate"),
        ("\udfffa", "lone surrogate"),
    ],
    ids=ascii,
)
def test_an_id_that_cannot_be_carried_is_refused(call_id, problem):
    """The error says what is wrong and carries the id, and its text can be printed anywhere."""
    error = check_call_id(call_id)
    assert isinstance(error, InvalidCallIdError)
    assert problem in error.message
    assert error.call_id == call_id
    assert error.attempts == 0
    assert str(error).isascii() or "·" in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("character", ["a", "📞"])
def test_an_over_long_id_is_refused_and_quoted_in_part(character):
    """Up to the limit an id fits the line that servers grant a request; the error stays short."""
    longest = character * MAX_LENGTH
    assert check_call_id(longest) is None
    assert len(f"GET /v1/calls/{path_segment(longest)} HTTP/1.1") < 8192
    error = check_call_id(longest + character)
    assert error is not None
    assert "longer than 512 characters" in error.message
    assert error.call_id == character * 80 + "…"


class Odd:
    """An object with a repr that does not help."""

    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "call_id",
    [None, 5, 1.5, True, b"id", ["id"], {"id": 1}, object(), Odd(), ["x" * 10_000] * 1_000],
    ids=lambda value: type(value).__name__,
)
def test_an_id_of_another_type_is_refused(call_id):
    """The message names the type, and the quote is short, whatever the object is."""
    error = check_call_id(call_id)
    assert error is not None
    assert error.message == f"a call id must be a str, not {type(call_id).__name__}"
    assert error.call_id is not None
    assert 0 < len(error.call_id) < 300


def test_a_wrong_id_is_quoted_so_that_it_can_be_found():
    """Numbers are the usual slip; the error shows which one."""
    assert str(check_call_id(12345)) == "a call id must be a str, not int · call '12345'"


def test_a_number_that_python_does_not_print_is_refused_all_the_same():
    """An id of thousands of digits is no str, and saying so does not raise."""
    problem = check_call_id(10**5_000)
    assert problem is not None
    assert problem.call_id is not None
    assert len(problem.call_id) < 100


def test_what_a_subclass_says_of_itself_is_not_believed():
    """The id is the text that the string holds, whatever its methods give."""

    class Liar(str):
        __slots__ = ()

        def __str__(self):
            return "another"

        def encode(self, *_):
            return b"another"

        def replace(self, *_):
            return "another"

    for text in ("call-1", "a/b"):
        assert check_call_id(Liar(text)) is None
        assert path_segment(Liar(text)) == path_segment(text)


@pytest.mark.parametrize("call_id", ["abcxyz", "ABCXYZ", "0189", "a-b_c.d~e"])
def test_an_id_that_needs_no_quoting_is_left_alone(call_id):
    """It is the very text, and not a copy: nearly every id is such a one."""
    assert path_segment(call_id) is call_id
