"""The error table by itself: whatever was raised becomes a value that may be shown."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from calls_async._secret import ApiKey
from calls_async._transport._translate import (
    CertificateRefusedError,
    ConnectionLostError,
    lost,
    translated,
)
from calls_async.errors import (
    AttemptTimeoutError,
    ConnectError,
    ProtocolError,
    TLSError,
    TransportError,
)

KEY = ApiKey("sk_test_of_the_error_table")
KEY_OF_CONNECTION = SimpleNamespace(host="calls.invalid", port=443, ssl=True)


def refused(number=111):
    """A connection that could not be opened, as aiohttp has it."""
    return aiohttp.ClientConnectorError(KEY_OF_CONNECTION, OSError(number, "refused"))


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionLostError("by the server"), ProtocolError),
        (CertificateRefusedError("alert"), TLSError),
        (refused(), ConnectError),
        (TimeoutError("theirs"), AttemptTimeoutError),
        (aiohttp.ServerDisconnectedError(), ProtocolError),
        (aiohttp.ClientPayloadError("cut"), ProtocolError),
        (OSError("odd"), ProtocolError),
        (RuntimeError("odd"), TransportError),
    ],
)
def test_each_kind_of_failure_has_its_error(raised, kind):
    """The first row that names the class decides; what no row names is a `TransportError`."""
    error = translated(raised, KEY)
    assert type(error) is kind
    assert type(raised).__name__ in error.message or error.__cause__ is not None
    assert error.__context__ is None


def test_only_the_system_s_own_error_is_chained():
    """It comes without its traceback and without its own chain."""
    try:
        try:
            raise ValueError("hidden")  # noqa: TRY301 (it is the context)
        except ValueError:
            raise refused() from None
    except aiohttp.ClientConnectorError as exc:
        error, cause = translated(exc, KEY), exc.os_error
    assert error.__cause__ is cause
    assert cause.__traceback__ is cause.__context__ is cause.__cause__ is None


def test_an_echoed_key_is_scrubbed():
    """The key does not reach a message, whoever put it into an exception's text."""
    told = KEY.authorization()
    error = translated(RuntimeError(told), KEY)
    assert told.removeprefix("Bearer ") not in error.message


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", True),
        ("TLSV1_ALERT_UNKNOWN_CA", True),
        ("TLSV1_ALERT_ACCESS_DENIED", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", False),
        ("CERTIFICATE_VERIFY_FAILED", False),
        (None, False),
    ],
)
def test_an_alert_about_the_certificate_is_told_from_others(reason, expected):
    """Only an alert of the server's that is about the client's certificate counts."""
    error = ssl.SSLError(1, "alert")
    error.reason = reason
    disconnect = lost(aiohttp.ClientOSError(1, "lost"), error)
    assert type(disconnect) is (CertificateRefusedError if expected else ConnectionLostError)


@pytest.mark.parametrize("cause", [None, OSError(1, "any")])
def test_a_connection_lost_for_another_reason_refuses_no_certificate(cause):
    """Without an alert there is nothing about a certificate."""
    assert type(lost(aiohttp.ServerDisconnectedError(), cause)) is ConnectionLostError


def test_a_disconnect_does_not_tell_what_had_arrived():
    """Aiohttp's text holds it, and with it what the server echoes."""
    assert "echo" not in str(lost(aiohttp.ServerDisconnectedError("echo"), None))
