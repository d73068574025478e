"""calls_async: the asyncio client for the Calls API.

One call or ten million, and exactly one outcome for every id: its own record, or a typed error that
says why. Start with `CallsClient`, or with `gather_calls` for a single batch.
"""

from calls_async._codec import structure_call, unstructure_call
from calls_async._version import __version__
from calls_async.bulk import CallIds, OutcomeStream
from calls_async.client import CallsClient, ClientOptions, gather_calls
from calls_async.config import KeyProvider, Limits, RetryPolicy, Timeouts
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
    InvalidCallIdError,
    MismatchedCallError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RedirectError,
    ServerError,
    StatusError,
    StoppedBy,
    TLSError,
    TransportError,
    Violation,
    WrongEventLoopError,
)
from calls_async.events import (
    AttemptFinished,
    AttemptStarted,
    CallFinished,
    CoolDownEntered,
    Event,
    Hook,
    RetryScheduled,
    Statistics,
)
from calls_async.models import Call, Caller, CallType, Contact, Extra, PhoneNumber
from calls_async.outcomes import Failed, Fetched, Outcome

__all__ = [
    "AnswerTooLargeError",
    "AttemptFinished",
    "AttemptStarted",
    "AttemptTimeoutError",
    "AuthenticationError",
    "Call",
    "CallFinished",
    "CallIds",
    "CallType",
    "Caller",
    "CallsClient",
    "CallsError",
    "ClientClosedError",
    "ClientOptions",
    "ConfigurationError",
    "ConnectError",
    "Contact",
    "CoolDownEntered",
    "DeadlineExceededError",
    "DecodeError",
    "Event",
    "Extra",
    "Failed",
    "Fetched",
    "Hook",
    "InvalidCallIdError",
    "KeyProvider",
    "Limits",
    "MismatchedCallError",
    "NotFoundError",
    "Outcome",
    "OutcomeStream",
    "PermissionDeniedError",
    "PhoneNumber",
    "ProtocolError",
    "RateLimitedError",
    "RedirectError",
    "RetryPolicy",
    "RetryScheduled",
    "ServerError",
    "Statistics",
    "StatusError",
    "StoppedBy",
    "TLSError",
    "Timeouts",
    "TransportError",
    "Violation",
    "WrongEventLoopError",
    "__version__",
    "gather_calls",
    "structure_call",
    "unstructure_call",
]
