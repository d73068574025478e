"""What errors and requests are called in telemetry; the rule: few names, and none with an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from calls_async.errors import CallsError

METHOD: Final = "GET"
_LONGEST: Final = 1024
_PORTS: Final = {"http": 80, "https": 443}


class Target(NamedTuple):
    """Where requests go, without the id.

    Attributes:
        scheme: `http` or `https`.
        address: The server's name or IP address.
        port: Its port, that of the scheme where the URL has none.
        template: The path, with `{id}` in the place of the id.
    """

    scheme: str
    address: str
    port: int
    template: str

    @classmethod
    def of(cls, calls_url: str) -> Target:
        """The target of a URL that an id is appended to."""
        parts = urlsplit(calls_url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        return cls(parts.scheme, parts.hostname or "", port, f"{parts.path}/{{id}}")


def clean(text: object) -> str:
    """What came from outside, as text that can be exported: no lone surrogates, and not too long.

    An exporter that meets a lone surrogate fails, and takes everything else with it.
    """
    return str(text)[:_LONGEST].encode(errors="replace").decode()


def error_type(error: CallsError, status: int | None = None) -> str:
    """The value of `error.type`.

    Args:
        error: What went wrong.
        status: The answer's status, if there was one.

    Returns:
        The status, where it is what is wrong, as HTTP's conventions have it; else the name of the
        error's class.
    """
    return str(status) if status is not None and status >= 400 else type(error).__name__
