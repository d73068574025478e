"""The error table; the rule: what aiohttp or the system raised becomes one of ours, as a value.

Nothing of aiohttp's is ever chained: the reprs of its exceptions hold the request's headers, and so
the key, and so do the frames of its tracebacks. What a server sent is not quoted either.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError

from calls_async.errors import (
    AttemptTimeoutError,
    ConnectError,
    ProtocolError,
    TLSError,
    TransportError,
)

if TYPE_CHECKING:
    from calls_async._secret import ApiKey


class ConnectionLostError(Exception):
    """A disconnect, under a name on which aiohttp does not send the request again by itself."""


class CertificateRefusedError(Exception):
    """The server wants a client certificate, or another one.

    With TLS 1.3 it says so when the client's side of the handshake is over and the request on its
    way (RFC 8446, section 4.4.2.4), so that to aiohttp it is a connection that was lost.
    """


_REFUSALS: Final = re.compile("_ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")
"""OpenSSL's names of the alerts that are about a certificate."""


def lost(
    exc: aiohttp.ClientOSError | aiohttp.ServerDisconnectedError, cause: BaseException | None
) -> Exception:
    """A disconnect as what it means, and without what had arrived of the answer until then."""
    told = str(exc) if isinstance(exc, OSError) else "by the server"
    refused = isinstance(cause, ssl.SSLError) and _REFUSALS.search(cause.reason or "")
    return CertificateRefusedError(told) if refused else ConnectionLostError(told)


_TABLE: Final[tuple[tuple[tuple[type[Exception], ...], type[TransportError], str], ...]] = (
    (
        (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, CertificateRefusedError),
        TLSError,
        "the secure connection was refused",
    ),
    (
        (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError),
        ConnectError,
        "no connection could be opened",
    ),
    ((TimeoutError,), AttemptTimeoutError, "the answer took too long"),
    (
        (ConnectionLostError, aiohttp.ClientConnectionError, OSError),
        ProtocolError,
        "the connection was lost before the answer was complete",
    ),
    (
        (aiohttp.ClientError, HttpProcessingError),
        ProtocolError,
        "the answer was cut or garbled",
    ),
)
"""First match wins; what no row names is a plain `TransportError`."""


def translated(exc: Exception, key: ApiKey) -> TransportError:
    """What aiohttp raised, as one of ours."""
    kind, message = next(
        ((ours, text) for theirs, ours, text in _TABLE if isinstance(exc, theirs)),
        (TransportError, "the request failed in an unexpected way"),
    )
    cause = _harmless_cause(exc)
    detail = key.scrub(_detail(cause or exc).encode(errors="replace"))
    error = kind(f"{message}: {detail.decode(errors='replace')}")
    error.__cause__ = cause
    return error


_QUOTATION: Final = re.compile(r""":?\s*(?:\n|(?:bytearray\()?b['"]).*""", re.DOTALL)


def _detail(exc: BaseException) -> str:
    name = type(exc).__name__.lstrip("_")
    if isinstance(exc, HttpProcessingError) or isinstance(exc.__cause__, TransferEncodingError):
        return name  # aiohttp's parser in Python says no more than what the server sent
    # What aiohttp's parser says is without the URL; a body's error has the parser's as its cause.
    told = getattr(exc, "message", None) or getattr(exc.__cause__, "message", None) or str(exc)
    # The parser quotes what the server sent, cut anywhere: a part of an echoed key is no key that
    # could be scrubbed.
    words = _QUOTATION.sub("", told)
    return f"{name}: {words}" if words else name


def _harmless_cause(exc: Exception) -> OSError | None:
    """The system's own error behind a failed connection, fit to be chained.

    Its traceback goes, because aiohttp's frames hold the request, and so do its own chain links.
    """
    if not isinstance(exc, aiohttp.ClientConnectorError):
        return None
    cause = exc.os_error
    cause.__traceback__ = cause.__context__ = cause.__cause__ = None
    return cause
