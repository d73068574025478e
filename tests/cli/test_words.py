"""What is printed: one line, no commands to the terminal, and the words of the command line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import CallsError, ConfigurationError, RateLimitedError, StatusError, config
from calls_async.cli._words import complaint, count, duration, printable

PYTHON = re.compile(r"\w+\(|\w=|`")


def kinds(cls=CallsError):
    """Every class of errors."""
    return [cls, *(kind for child in cls.__subclasses__() for kind in kinds(child))]


def made(kind):
    fields = {"status": 418} if issubclass(kind, StatusError) else {}
    of_one = {
        "MismatchedCallError": {"received_id": "b"},
        "SourceError": {"source": "ids.txt"},
        "OutputError": {"output": "calls.csv"},
    }
    fields |= of_one.get(kind.__name__, {})
    return kind("it went wrong", **fields)


@given(st.text())
def test_printable_text_is_one_line_without_commands(text):
    """Whatever a text holds, it stays on its line and gives the terminal nothing to obey."""
    told = printable(text)
    assert len(told.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\udcff", r"\udcff"),
        ("Zoë 李娜 \u00a0🙂", "Zoë 李娜 \u00a0🙂"),
    ],
)
def test_only_what_cannot_be_printed_is_escaped(text, told):
    """A control is shown as Python writes it, and a name in any script as it is."""
    assert printable(text) == told


@pytest.mark.parametrize("kind", kinds())
def test_every_error_is_a_line_with_advice_for_a_shell(kind):
    """No error tells a user of the command line to change Python code."""
    told = complaint(made(kind))
    assert told.startswith("it went wrong")
    assert kind is ConfigurationError or told.endswith(".")
    assert not PYTHON.search(told), told


@pytest.mark.parametrize("base_url", [None, "http://example.com", "https://example.com/?a"])
def test_configuration_errors_name_what_a_shell_has(base_url):
    """Where the library names an argument, the command line names its option or variable."""
    with pytest.raises(ConfigurationError) as caught:
        config.resolve_base_url(base_url, {})
    told = complaint(caught.value)
    assert "--base-url" in told
    assert not PYTHON.search(told), told


def test_a_missing_key_is_asked_of_the_environment_alone():
    """The key has no option, so none is offered."""
    with pytest.raises(ConfigurationError) as caught:
        config.resolve_key(None, {})
    assert complaint(caught.value) == "no API key: set CALLS_API_KEY"


def test_the_request_is_quoted():
    """A status error names the request, for the server's operators to find."""
    error = RateLimitedError("too many", status=429, request_id="req-7\n")
    assert complaint(error) == r"too many · request req-7\n. Try again later, or more slowly."


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7_500, "2 h 05 min"),
    ],
)
def test_durations(seconds, told):
    """Two units at most, rounded."""
    assert duration(seconds) == told


def test_counts():
    """One is singular."""
    assert [count(1, "id"), count(1_000, "id")] == ["1 id", "1,000 ids"]
