"""The tree of errors: what they are, what they say, and that they survive being passed around."""

from __future__ import annotations

import contextlib
import copy
import pickle
import traceback
from datetime import UTC, datetime
from functools import partial

import attrs
import pytest

from calls_async import errors
from calls_async.errors import (
    AnswerTooLargeError,
    AttemptTimeoutError,
    AuthenticationError,
    CallsError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DeadlineExceededError,
    DecodeError,
    EngineError,
    FleetPaceError,
    InvalidCallIdError,
    JournalError,
    MismatchedCallError,
    NotFoundError,
    OutputError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    ServerError,
    SourceError,
    StatusError,
    StoppedBy,
    TLSError,
    TransportError,
    Violation,
    WrongEventLoopError,
    amended,
)

TREE = {
    CallsError: (Exception,),
    ConfigurationError: (CallsError, ValueError),
    InvalidCallIdError: (CallsError, ValueError),
    ClientClosedError: (CallsError,),
    JournalError: (CallsError,),
    EngineError: (CallsError,),
    WrongEventLoopError: (CallsError,),
    FleetPaceError: (CallsError,),
    SourceError: (CallsError,),
    OutputError: (CallsError,),
    TransportError: (CallsError,),
    ConnectError: (TransportError,),
    TLSError: (TransportError,),
    ProtocolError: (TransportError,),
    AnswerTooLargeError: (ProtocolError,),
    AttemptTimeoutError: (TransportError,),
    DeadlineExceededError: (CallsError, TimeoutError),
    StatusError: (CallsError,),
    AuthenticationError: (StatusError,),
    PermissionDeniedError: (StatusError,),
    NotFoundError: (StatusError,),
    RateLimitedError: (StatusError,),
    ServerError: (StatusError,),
    RedirectError: (StatusError,),
    DecodeError: (CallsError,),
    MismatchedCallError: (DecodeError,),
}
"""Written from the design by hand."""

# No value is a default, so that a field which is lost on the way is seen.
VALUES = {
    "message": "what went wrong",
    "call_id": "id-1",
    "attempts": 3,
    "elapsed": 1.5,
    "stopped_by": StoppedBy.ATTEMPTS,
    "status": 418,
    "request_id": "request-1",
    "body": "the answer's text",
    "retry_after": 2.0,
    "retry_at": datetime(2024, 3, 20, 9, tzinfo=UTC),
    "location": "https://elsewhere.example",
    "violations": (Violation(path="$.id", problem="must be a string, not null"),),
    "raw": b"<html>",
    "document_readable": False,
    "received_id": "id-2",
    "source": "ids.csv",
    "line": 7,
    "output": "calls.csv",
}

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "amended": amended,
    **{
        f"pickle {protocol}": lambda error, p=protocol: pickle.loads(pickle.dumps(error, p))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}

every_error = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


def fields_of(error):
    return {field.name: getattr(error, field.name) for field in attrs.fields(type(error))}


def make(kind, **changes):
    """An error of this class with every field set."""
    names = [field.name for field in attrs.fields(kind)]
    return kind(**({name: VALUES[name] for name in names} | changes))


# --- The tree ------------------------------------------------------------------------------------


def test_the_tree_is_the_design_s():
    """Every public error stands where the design puts it, and no other is public."""
    public = {getattr(errors, name) for name in errors.__all__}
    kinds = {kind for kind in public if issubclass(kind, CallsError)}
    assert kinds == set(TREE)
    assert {kind: kind.__bases__ for kind in kinds} == TREE


@every_error
def test_only_the_design_s_errors_are_builtin_ones_too(kind):
    """Bad input is also a `ValueError`, the deadline also a `TimeoutError`; nothing else is."""
    assert issubclass(kind, ValueError) == (kind in {ConfigurationError, InvalidCallIdError})
    assert issubclass(kind, OSError) == (kind is DeadlineExceededError)


@pytest.mark.parametrize("builtin", [ValueError, TimeoutError])
def test_who_catches_the_builtin_error_catches_ours(builtin):
    """`except ValueError` and `except TimeoutError` work without importing this library."""
    ours = ConfigurationError if builtin is ValueError else DeadlineExceededError
    with pytest.raises(builtin, match="what went wrong"):
        raise make(ours)


# --- What they say -------------------------------------------------------------------------------


@every_error
def test_every_error_says_what_to_do(kind):
    """An error's first note is a remedy of its own class, and it is shown with the traceback."""
    error = make(kind)
    assert error.__notes__ == [kind.remedy]
    assert kind.remedy in "".join(traceback.format_exception(error))
    assert "remedy" in vars(kind)
    assert kind.remedy.endswith(".")


def test_no_two_families_share_a_remedy():
    """A remedy that fits everywhere would help nowhere."""
    remedies = [kind.remedy for kind in TREE]
    assert len(remedies) == len(set(remedies))


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, "it broke"),
        ({"call_id": "x"}, "it broke · call 'x'"),
        ({"call_id": "é\n"}, r"it broke · call '\xe9\n'"),
        ({"attempts": 1, "elapsed": 0.126}, "it broke · 1 attempt in 0.13 s"),
        ({"attempts": 2, "elapsed": 3.0}, "it broke · 2 attempts in 3.00 s"),
        ({"elapsed": 3.0}, "it broke"),
        ({"stopped_by": StoppedBy.DEADLINE}, "it broke · stopped by deadline"),
        (
            {"call_id": "x", "attempts": 4, "elapsed": 1.0, "stopped_by": StoppedBy.ATTEMPTS},
            "it broke · call 'x' · 4 attempts in 1.00 s · stopped by attempts",
        ),
    ],
)
def test_str_says_what_is_known_and_no_more(about, expected):
    """The text is the message, then the call, the attempts and the end, as far as there are any."""
    assert str(CallsError("it broke", **about)) == expected


@every_error
def test_repr_names_every_field_but_the_bulky_ones(kind):
    """A repr tells all that is small: body and raw may be long, and are no text of ours."""
    error = make(kind)
    for name, value in fields_of(error).items():
        shown = f"{name}={value!r}" in repr(error)
        assert shown == (name not in {"body", "raw"})
    assert repr(error).startswith(f"{kind.__name__}(")


def test_a_violation_reads_as_one_line():
    """A violation names its place first."""
    assert str(Violation(path="$.contact.isUnknown", problem="is odd")) == (
        "$.contact.isUnknown: is odd"
    )


# --- Frozen --------------------------------------------------------------------------------------


@every_error
def test_an_error_cannot_be_changed(kind):
    """No field of an error can be set or deleted, and none can be added."""
    error = make(kind)
    for name, value in fields_of(error).items():
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(error, name, value)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(error, name)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        error.anything = 1


@every_error
def test_python_may_do_its_part(kind):
    """A frozen error can be raised, chained, noted, and pass through a context manager."""

    @contextlib.contextmanager
    def through():
        yield

    cause = OSError("refused")
    with pytest.raises(kind) as caught, through():
        raise make(kind) from cause
    caught.value.add_note("seen")
    assert caught.value.__cause__ is cause
    assert caught.value.__notes__ == [kind.remedy, "seen"]
    assert caught.value.__traceback__ is not None


@every_error
def test_an_error_is_only_equal_to_itself(kind):
    """As with every exception, identity decides; errors can be members of sets."""
    one, other = make(kind), make(kind)
    assert one == one  # noqa: PLR0124 (that is the question)
    assert one != other
    assert len({one, other}) == 2


@every_error
def test_all_but_the_message_is_keyword_only(kind):
    """What a number or a text means is said where it is given."""
    names = [field.name for field in attrs.fields(kind) if field.name != "message"]
    assert kind("it broke", **{name: VALUES[name] for name in names}).message == "it broke"
    for name in names:
        others = {other: VALUES[other] for other in names if other != name}
        with pytest.raises(TypeError):
            kind("it broke", VALUES[name], **others)


def test_a_violation_is_keyword_only_and_frozen():
    """A path and a problem are not to be mixed up, and do not change."""
    with pytest.raises(TypeError):
        Violation("$.id", "is odd")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        VALUES["violations"][0].path = "$"


def test_an_error_without_a_call_says_that_nothing_was_sent():
    """What is not told is none, or zero."""
    error = CallsError("it broke")
    assert fields_of(error) == {
        "message": "it broke",
        "call_id": None,
        "attempts": 0,
        "elapsed": 0.0,
        "stopped_by": None,
    }


@every_error
def test_what_an_error_does_not_know_is_none_or_nothing(kind):
    """Who builds one says only what is known; the rest reads as documented."""
    unknown = {
        "call_id": None,
        "attempts": 0,
        "elapsed": 0.0,
        "stopped_by": None,
        "request_id": None,
        "body": "",
        "retry_after": None,
        "retry_at": None,
        "location": None,
        "violations": (),
        "raw": b"",
        "document_readable": True,
        "line": None,
    }
    needed = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    error = kind(**{name: VALUES[name] for name in needed})
    assert fields_of(error) == fields_of(error) | {
        name: value for name, value in unknown.items() if hasattr(error, name)
    }


# --- Copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", COPIES)
@every_error
def test_every_error_survives_being_passed_around(kind, how):
    """A copy has the same class, fields, text and notes, whoever makes it."""
    error = make(kind)
    error.add_note("a note of the caller's")
    other = COPIES[how](error)
    assert other is not error
    assert type(other) is kind
    assert fields_of(other) == fields_of(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert other.__notes__ == [kind.remedy, "a note of the caller's"]


@every_error
def test_the_values_of_these_tests_are_no_defaults(kind):
    """Otherwise a field that is lost on the way would not be missed."""
    for field in attrs.fields(kind):
        assert VALUES[field.name] != field.default


def test_a_subclass_of_the_caller_s_own_survives_too():
    """Copies are rebuilt from the fields of the very class."""
    assert type(copy.copy(_TheirsError("mine"))) is _TheirsError


class _TheirsError(CallsError):
    """What a user may derive."""


# --- amended -------------------------------------------------------------------------------------


def test_amended_changes_what_it_is_told_and_nothing_else():
    """The copy has the changes; the original stays as it was."""
    error = make(ServerError)
    before = fields_of(error)
    other = amended(error, attempts=9, stopped_by=None)
    assert fields_of(other) == before | {"attempts": 9, "stopped_by": None}
    assert fields_of(error) == before


def test_amended_keeps_the_cause_and_the_notes_and_drops_the_traceback():
    """What led to the failure stays; where it was raised first does not matter any more."""
    cause = OSError("refused")
    error = make(ConnectError)
    error.add_note("second")
    with contextlib.suppress(ConnectError):
        raise error from cause
    other = amended(error, attempts=4)
    assert error.__traceback__ is not None
    assert other.__traceback__ is None
    assert other.__cause__ is cause
    assert other.__notes__ == error.__notes__
    other.add_note("third")
    assert error.__notes__ == [ConnectError.remedy, "second"]


def test_amended_does_not_hide_what_the_caller_was_handling():
    """An error without a cause still shows the exception during which it was raised."""
    handled = KeyError("the caller's")

    def raise_within():
        try:
            raise handled
        except KeyError:
            raise amended(make(NotFoundError), attempts=1)  # noqa: B904 (that is the question)

    with pytest.raises(NotFoundError) as caught:
        raise_within()
    assert "the caller's" in "".join(traceback.format_exception(caught.value))


# --- Whether trying again can help ---------------------------------------------------------------

RETRYABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}


@pytest.mark.parametrize(
    ("make_it", "expected"),
    [
        (CallsError, False),
        (ConfigurationError, False),
        (InvalidCallIdError, False),
        (ClientClosedError, False),
        (WrongEventLoopError, False),
        (FleetPaceError, True),
        (EngineError, True),
        (TransportError, True),
        (ConnectError, True),
        (TLSError, False),
        (ProtocolError, True),
        (AnswerTooLargeError, False),
        (AttemptTimeoutError, True),
        (DeadlineExceededError, True),
        (partial(AuthenticationError, status=401), False),
        (partial(PermissionDeniedError, status=403), False),
        (partial(NotFoundError, status=404), False),
        (partial(RateLimitedError, status=429), True),
        (partial(RateLimitedError, status=503), True),
        (partial(RedirectError, status=302), False),
        (partial(DecodeError, document_readable=True), False),
        (partial(DecodeError, document_readable=False), True),
        (partial(MismatchedCallError, received_id="x"), True),
    ],
)
def test_retryable_tells_whether_the_same_request_may_succeed_later(make_it, expected):
    """What may pass by itself is retryable; what repeats, or is the caller's side, is not."""
    assert make_it("it broke").retryable is expected


@pytest.mark.parametrize("kind", [StatusError, ServerError])
def test_a_status_is_retryable_if_the_design_lists_it(kind):
    """Of all statuses, exactly the design's list may be better later."""
    retryable = {status for status in range(100, 600) if kind("", status=status).retryable}
    assert retryable == RETRYABLE_STATUSES


def test_every_reason_has_a_word():
    """`stopped_by` is a plain word in texts and logs, and equal to it."""
    assert {str(reason) for reason in StoppedBy} == {reason.name.lower() for reason in StoppedBy}
    assert StoppedBy.DEADLINE == "deadline"
