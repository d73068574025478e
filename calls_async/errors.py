"""Every error of this library, one tree; the rule: an error says whose fault it is and what to do.

Errors are frozen: what they say does not change after they are raised (Python itself may still
set the traceback, the cause and the notes). All of them survive `pickle`, `copy` and `str`, and
none holds the API key. Two families tell transport from answer: a `TransportError` means that no
complete answer arrived, a `StatusError` that one did and that it was not a 200.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = [
    "AnswerTooLargeError",
    "AttemptTimeoutError",
    "AuthenticationError",
    "CallsError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "DeadlineExceededError",
    "DecodeError",
    "EngineError",
    "FleetPaceError",
    "InvalidCallIdError",
    "JournalError",
    "MismatchedCallError",
    "NotFoundError",
    "OutputError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitedError",
    "RedirectError",
    "ServerError",
    "SourceError",
    "StatusError",
    "StoppedBy",
    "TLSError",
    "TransportError",
    "Violation",
    "WrongEventLoopError",
]

E = TypeVar("E", bound="CallsError")


class StoppedBy(StrEnum):
    """Why there was no further try."""

    FINAL = "final"
    """The failure is one that repeats: trying again cannot help."""
    ATTEMPTS = "attempts"
    """There were `RetryPolicy.max_attempts` transient failures."""
    THROTTLED_ATTEMPTS = "throttled_attempts"
    """There were `RetryPolicy.max_throttled_attempts` throttled answers."""
    DEADLINE = "deadline"
    """The time ran out, or the next wait would have crossed `Timeouts.total`."""
    SERVER_WAIT = "server_wait"
    """The server asked for a longer wait than `RetryPolicy.max_server_wait`."""
    SERVER = "server"
    """The server said `x-should-retry: false`."""
    BUDGET = "budget"
    """The retry budget is empty: too much has failed of late for a retry to be fair."""
    STRATEGY = "strategy"
    """A tenacity strategy of the caller's own said no."""
    KEY_REFUSED = "key_refused"
    """The key was refused, or its provider gave none; nothing more of a batch is sent."""
    PATIENCE = "patience"
    """The batch had no answer for `Limits.patience` seconds, or would have had none."""
    CLOSED = "closed"
    """The client was closed meanwhile."""


@attrs.frozen(kw_only=True, slots=False)
class CallsError(Exception):
    """Base of every error that this library raises.

    Attributes:
        message: What went wrong, in one sentence. It never holds the API key.
        call_id: The id asked for; `None` where no single call is concerned.
        attempts: Requests that were started for this call, 0 where nothing was sent.
        elapsed: Seconds from the start of the call until it failed.
        stopped_by: Why there was no further try; `None` where none was ever in question.
    """

    message: str = attrs.field(kw_only=False)
    call_id: str | None = None
    attempts: int = 0
    elapsed: float = 0.0
    stopped_by: StoppedBy | None = None

    remedy: ClassVar[str] = "See the error's message."
    """What a person can do about it; every instance carries it as its first note."""

    def __attrs_post_init__(self) -> None:
        self.add_note(self.remedy)

    def __str__(self) -> str:
        told = [self.message]
        if self.call_id is not None:
            told.append(f"call {self.call_id!a}")
        if self.attempts:
            plural = "" if self.attempts == 1 else "s"
            told.append(f"{self.attempts} attempt{plural} in {self.elapsed:.2f} s")
        if self.stopped_by is not None:
            told.append(f"stopped by {self.stopped_by}")
        return " · ".join(told)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, without anything being changed."""
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is normally rebuilt from its `args`, positionally. Ours are rebuilt by name;
        # the cause stays behind, as it does with every exception, because it may not pickle.
        return _rebuild, (type(self), _fields(self), tuple(self.__notes__))


def _fields(error: CallsError) -> dict[str, Any]:
    return {a.name: getattr(error, a.name) for a in attrs.fields(type(error))}


def amended(error: E, **changes: Any) -> E:
    """A copy of `error` with other fields; the cause and the notes stay, the traceback does not."""
    copy = _rebuild(type(error), _fields(error) | changes, tuple(error.__notes__))
    if error.__cause__ is not None:  # to set it, even to None, would hide the context when raised
        copy.__cause__ = error.__cause__
    return copy


def _rebuild(cls: type[E], fields: Mapping[str, Any], notes: tuple[str, ...]) -> E:
    error = cls(**fields)
    error.__notes__ = list(notes)
    return error


# --- The caller's side: nothing was sent ---------------------------------------------------------


@attrs.frozen(kw_only=True, slots=False)
class ConfigurationError(CallsError, ValueError):
    """An option, a key or an environment variable is missing or cannot be used."""

    remedy: ClassVar[str] = "Correct the option or the environment variable that the message names."


@attrs.frozen(kw_only=True, slots=False)
class InvalidCallIdError(CallsError, ValueError):
    """The id could not be sent as one path segment and was refused before the wire."""

    remedy: ClassVar[str] = (
        "Pass a non-empty str, other than '.' and '..', without controls or lone surrogates."
    )


@attrs.frozen(kw_only=True, slots=False)
class ClientClosedError(CallsError):
    """The client was closed before the call had its outcome."""

    remedy: ClassVar[str] = "Make a new CallsClient; one that was closed does not open again."


@attrs.frozen(kw_only=True, slots=False)
class WrongEventLoopError(CallsError):
    """The client belongs to another event loop, or to the process that was forked."""

    remedy: ClassVar[str] = "Make one CallsClient for each event loop and each process."


@attrs.frozen(kw_only=True, slots=False)
class FleetPaceError(CallsError):
    """The pace that the client shares with its fleet gave it no slot, so nothing was sent."""

    remedy: ClassVar[str] = (
        "Look after what keeps the fleet's pace, such as Redis, and fetch again what is left."
    )

    @property
    def retryable(self) -> bool:
        """The server has not even been asked."""
        return True


@attrs.frozen(kw_only=True, slots=False)
class JournalError(CallsError):
    """The journal of a job cannot be used: it is no journal, is held, is damaged, or has no room.

    What was committed before is kept.
    """

    remedy: ClassVar[str] = "Put right what the message names, and run the same job again."


@attrs.frozen(kw_only=True, slots=False)
class EngineError(CallsError):
    """An engine that spreads a job over machines could not go on, such as a cluster that went away.

    What was finished before is kept.
    """

    remedy: ClassVar[str] = "See that the cluster is up, and run the same job again: it goes on."

    @property
    def retryable(self) -> bool:
        """The job goes on where it was."""
        return True


# --- Files: what a job reads its ids from and writes its results to ------------------------------


@attrs.frozen(kw_only=True, slots=False)
class SourceError(CallsError):
    """Ids could not be read.

    It is no `ConfigurationError`: a file may turn out to be wrong in its last line, hours after
    the job began with the first.

    Attributes:
        source: What was read, as messages name it: a path, or `standard input`.
        line: Where in it, from 1: the line of a text, the row of a table; `None` where it is no
            single one.
    """

    source: str
    line: int | None = None

    remedy: ClassVar[str] = "Correct the file at the place that the message names."


@attrs.frozen(kw_only=True, slots=False)
class OutputError(CallsError):
    """A file could not be written; what stood there before is as it was.

    Attributes:
        output: The file's path.
    """

    output: str

    remedy: ClassVar[str] = "Make room, or choose another place; nothing has to be fetched again."


# --- The way there: no complete answer arrived ---------------------------------------------------


@attrs.frozen(kw_only=True, slots=False)
class TransportError(CallsError):
    """No complete answer arrived."""

    remedy: ClassVar[str] = (
        "Check the network between this machine and the server; try again later."
    )

    @property
    def retryable(self) -> bool:
        """The way may be clear again later."""
        return True


@attrs.frozen(kw_only=True, slots=False)
class ConnectError(TransportError):
    """No connection could be opened: refused, unreachable, or the name was not resolved."""

    remedy: ClassVar[str] = "Check CALLS_BASE_URL and that the server (or the proxy) is up."


@attrs.frozen(kw_only=True, slots=False)
class TLSError(TransportError):
    """The secure connection was refused: by the certificate, its host name or the protocol."""

    remedy: ClassVar[str] = (
        "Check the host name and the system's clock; a private authority is given with ssl=."
    )

    @property
    def retryable(self) -> bool:
        """A certificate does not become valid by asking twice."""
        return False


@attrs.frozen(kw_only=True, slots=False)
class ProtocolError(TransportError):
    """The answer was cut or garbled."""

    remedy: ClassVar[str] = "Try again later; if it repeats, a proxy in between may cut answers."


@attrs.frozen(kw_only=True, slots=False)
class AnswerTooLargeError(ProtocolError):
    """The answer is longer than `Limits.max_body_bytes`; the rest of it was not read."""

    remedy: ClassVar[str] = (
        "A call is about 1 KB; raise Limits(max_body_bytes=...) if yours are not."
    )

    @property
    def retryable(self) -> bool:
        """It would be as long again."""
        return False


@attrs.frozen(kw_only=True, slots=False)
class AttemptTimeoutError(TransportError):
    """One attempt took longer than `Timeouts.attempt`."""

    remedy: ClassVar[str] = "Try again later, or give more time with Timeouts(attempt=...)."


@attrs.frozen(kw_only=True, slots=False)
class DeadlineExceededError(CallsError, TimeoutError):
    """The time for the whole call ran out.

    The last failure before that, if there was one, is the cause.
    """

    remedy: ClassVar[str] = "Give the call more time with Timeouts(total=...) or timeout=."

    @property
    def retryable(self) -> bool:
        """The server may be faster later."""
        return True


# --- The answer: it arrived, and it was not a 200 ------------------------------------------------


@attrs.frozen(kw_only=True, slots=False)
class StatusError(CallsError):
    """The server answered with a status other than 200.

    Attributes:
        status: The HTTP status code.
        request_id: The server's `x-request-id`, to quote to its operators; `None` if not sent.
        body: The beginning of the answer's text; a key that the server echoed is scrubbed.
        retry_after: Seconds that the server asked to wait; `None` if it did not ask.
        retry_at: `retry_after` as a point in time, in UTC.
    """

    status: int
    request_id: str | None = None
    body: str = attrs.field(default="", repr=False)
    retry_after: float | None = None
    retry_at: datetime | None = None

    remedy: ClassVar[str] = "See the answer's `body`; quote `request_id` to the server's operators."

    @property
    def retryable(self) -> bool:
        """By the status alone; see `TRANSIENT_STATUSES`."""
        return self.status in TRANSIENT_STATUSES


@attrs.frozen(kw_only=True, slots=False)
class AuthenticationError(StatusError):
    """401: the API key was refused."""

    remedy: ClassVar[str] = "Check the key in CALLS_API_KEY or api_key=; it may have been revoked."


@attrs.frozen(kw_only=True, slots=False)
class PermissionDeniedError(StatusError):
    """403: the key is known but may not read this call."""

    remedy: ClassVar[str] = "Ask for a key that may read this call, or leave the id out."


@attrs.frozen(kw_only=True, slots=False)
class NotFoundError(StatusError):
    """404 or 410: there is no call with this id."""

    remedy: ClassVar[str] = "Check the id, and that the base URL's path prefix is right."


@attrs.frozen(kw_only=True, slots=False)
class RateLimitedError(StatusError):
    """429, or a 503 with a hint: the server asks for fewer requests."""

    remedy: ClassVar[str] = "Come back after `retry_at`, or set Limits(max_rate=...)."

    @property
    def retryable(self) -> bool:
        """It is what the server asks for: later."""
        return True


@attrs.frozen(kw_only=True, slots=False)
class ServerError(StatusError):
    """5xx: the server, or a proxy before it, failed."""

    remedy: ClassVar[str] = "Try again later; quote `request_id` to the server's operators."


@attrs.frozen(kw_only=True, slots=False)
class RedirectError(StatusError):
    """3xx: the server points elsewhere; the key is not carried there.

    Attributes:
        location: Where the server points, as it wrote it.
    """

    location: str | None = None

    remedy: ClassVar[str] = (
        "Set the base URL to where the API really is; redirects are not followed."
    )


TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 525), 529})
"""Statuses after which the same request may succeed later."""


# --- The document: a 200 whose body is not the call asked for ------------------------------------


@attrs.frozen(kw_only=True)
class Violation:
    """One place where a document breaks the contract.

    Attributes:
        path: Where, as a JSON path with the names of the wire: `$.contact.isUnknown`.
        problem: What is wrong there, the type of the value included.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@attrs.frozen(kw_only=True, slots=False)
class DecodeError(CallsError):
    """The body is not a JSON document, or not the document that the contract promises.

    Attributes:
        violations: Every place that breaks the contract, in the order of the page's members; empty
            where the body could not even be parsed.
        raw: The body as received, except that a key which the server echoed is scrubbed, and that
            of a longer one only the first 16 KiB are kept.
        document_readable: Whether the body was a JSON document at all. One that was not may be a
            proxy's page or a cut answer, so it is tried again; a well-formed document is not.
        request_id: The server's `x-request-id`, to quote to its operators; `None` if not sent.
    """

    violations: tuple[Violation, ...] = ()
    raw: bytes = attrs.field(default=b"", repr=False)
    document_readable: bool = True
    request_id: str | None = None

    remedy: ClassVar[str] = "Compare `raw` with the API's page: the contract may have changed."

    @property
    def retryable(self) -> bool:
        """What was no JSON at all may have been a proxy's page; a document stays as it is."""
        return not self.document_readable


@attrs.frozen(kw_only=True, slots=False)
class MismatchedCallError(DecodeError):
    """The answer is another call's record, and it was withheld.

    Attributes:
        received_id: The id that the record carries, scrubbed and cut as `raw` is.
    """

    received_id: str

    remedy: ClassVar[str] = (
        "Something between here and the server mixes up answers; report it before trusting others."
    )

    @property
    def retryable(self) -> bool:
        """Over another connection the record may be the right one."""
        return True
