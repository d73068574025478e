"""What is printed, as words; the rule: one line stays one line, in the terms of the command line.

Texts from a server, a file or an argument may hold anything, terminal commands included, so they
are printed as `printable` has them.
"""

from __future__ import annotations

from typing import Final

from calls_async import errors
from calls_async.journal._duration import duration
from calls_async.journal._printable import printable

__all__ = ["complaint", "count", "duration", "printable"]


def per_second(rate: float) -> str:
    """Such as `0.25/s`, `4.8/s` or `1,200/s`."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def count(number: int, noun: str) -> str:
    """Such as `1 id` or `1,000 ids`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_IN_PYTHON: Final = (
    ("pass CallsClient(api_key=...) or set", "set"),
    ("pass CallsClient(base_url=...) or set", "use --base-url or set"),
    (", or CallsClient(allow_http=True) if that is really meant", ""),
    ("base_url", "--base-url"),
)
"""What the library's messages call differently from the command line, or offer and it does not."""

_ADVICE: Final[dict[type[errors.CallsError], str]] = {
    errors.ConfigurationError: "",  # the message says it
    errors.InvalidCallIdError: "Correct the id.",
    errors.TLSError: "Check the host name, and this machine's clock and certificates.",
    errors.AnswerTooLargeError: "Check that CALLS_BASE_URL is the API.",
    errors.AttemptTimeoutError: "Try again later.",
    errors.DeadlineExceededError: "Try again later.",
    errors.StatusError: "Ask the server's operators.",
    errors.AuthenticationError: "Check the key in CALLS_API_KEY; it may have been revoked.",
    errors.RateLimitedError: "Try again later, or more slowly.",
    errors.ServerError: "Try again later, or ask the server's operators.",
    errors.DecodeError: "The API may have changed: see if there is a newer calls_async.",
}
"""What to do, where the library's own remedy speaks of Python."""


def complaint(error: errors.CallsError) -> str:
    """What went wrong and what to do about it, on one line."""
    told = str(error)
    for python, here in _IN_PYTHON:
        told = told.replace(python, here)
    if isinstance(error, errors.StatusError) and error.request_id is not None:
        told += f" · request {error.request_id}"
    return printable(". ".join(filter(None, (told, _advice(error)))))


def _advice(error: errors.CallsError) -> str:
    for kind in type(error).__mro__:
        if kind in _ADVICE:
            return _ADVICE[kind]
        if "remedy" in vars(kind):
            break
    return error.remedy
