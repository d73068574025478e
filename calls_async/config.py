"""What a client is told; the rule: it is frozen, and checked when it is made.

Every policy is keyword-only. A value that cannot work is a `ConfigurationError` that names the
option here and now, not a surprise under load.
"""

from __future__ import annotations

import ipaddress
import math
import platform
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from calls_async._secret import ApiKey
from calls_async._version import __version__
from calls_async.errors import ConfigurationError

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from tenacity import RetryCallState

    from calls_async.events import Hook
    from calls_async.fleet import FleetPace

__all__ = ["KeyProvider", "Limits", "RetryPolicy", "Timeouts"]

KEY_VARIABLE: Final = "CALLS_API_KEY"
BASE_URL_VARIABLE: Final = "CALLS_BASE_URL"

KeyProvider: TypeAlias = Callable[[], str | Awaitable[str]]
"""Gives the API key, at once or when awaited; asked again after a 401, once per key."""


@attrs.frozen(kw_only=True)
class _Number:
    """A validator for a finite number from `least` to `most` (`bool` is no number)."""

    least: float
    must_be: str
    most: float = math.inf
    optional: bool = False
    whole: bool = False

    def __call__(self, policy: object, option: attrs.Attribute[Any], value: object) -> None:
        self.check(f"{type(policy).__name__}({option.name}=...)", value)

    def check(self, name: str, value: object) -> None:
        if self.optional and value is None:
            return
        kinds = int if self.whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            kind = "a whole number" if self.whole else "a number"
            problem = f"must be {kind}, not {type(value).__name__}"
        elif not -sys.float_info.max <= value <= sys.float_info.max:  # nan is not in there either
            problem = "must be finite, and not beyond all floats"
        elif not self.least <= value <= self.most:
            problem = f"must be {self.must_be}, not {value!r}"
        else:
            return
        raise ConfigurationError(f"{name} {problem}")


_seconds = _Number(least=0.0, must_be="0 seconds or more")
_positive_seconds = _Number(least=0.001, must_be="at least a millisecond")
_count = _Number(least=1, must_be="at least 1", whole=True)
_share = _Number(least=0.001, most=0.05, must_be="a share from 0.001 to 0.05", optional=True)


def _strategy(policy: object, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"{type(policy).__name__}({option.name}=...) must be a tenacity strategy, "
            f"not {type(value).__name__}"
        )


def _instance_of(kind: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """A validator like attrs' own, which would raise a `TypeError`."""

    def check(_: object, option: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigurationError(
                f"{option.name} must be a {kind.__name__}, not {type(value).__name__}"
            )

    return check


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed attempt is followed by another, and after which wait.

    The wait is drawn between 0 and the backoff of that attempt ("full jitter"), and never shorter
    than what the server asked for. tenacity's own strategies may replace parts of the policy; the
    server's hints and the deadline bind all the same. They are called with a
    `tenacity.RetryCallState` after each failure, and may be coroutine functions.

    Attributes:
        max_attempts: Attempts of one call in the face of transient failures, the first included.
        max_throttled_attempts: The same for throttled answers (429, 503 with a hint).
        backoff_base: Upper bound of the wait after a first transient failure, in seconds.
        throttle_backoff_base: The same after a first throttled answer, in seconds.
        backoff_factor: What the bound grows by from failure to failure.
        max_backoff: Where the bound stops growing, in seconds.
        max_server_wait: The longest wait, in seconds, that a single call accepts from the server.
            Past it the call fails at once and says when to come back.
        stop: Replaces both counts: ends the call when it returns true.
        wait: Replaces the backoff: returns seconds.
        retry: Replaces the set of retried failures: another try when it returns true.
    """

    max_attempts: int = attrs.field(default=4, validator=_count)
    max_throttled_attempts: int = attrs.field(default=10, validator=_count)
    backoff_base: float = attrs.field(default=0.05, validator=_seconds)
    throttle_backoff_base: float = attrs.field(default=1.0, validator=_seconds)
    backoff_factor: float = attrs.field(
        default=2.0, validator=_Number(least=1.0, must_be="at least 1")
    )
    max_backoff: float = attrs.field(default=20.0, validator=_seconds)
    max_server_wait: float = attrs.field(default=120.0, validator=_seconds)
    stop: Callable[[RetryCallState], bool | Awaitable[bool]] | None = attrs.field(
        default=None, validator=_strategy
    )
    wait: Callable[[RetryCallState], float | Awaitable[float]] | None = attrs.field(
        default=None, validator=_strategy
    )
    retry: Callable[[RetryCallState], bool | Awaitable[bool]] | None = attrs.field(
        default=None, validator=_strategy
    )


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long things may take.

    Attributes:
        attempt: Seconds for one attempt, from its dispatch to the last byte of the answer.
        total: Seconds for one call. A single call's time runs from the call on, waits included; in
            a batch only attempts and backoff count, because the batch's own patience is
            `Limits.patience`.
    """

    attempt: float = attrs.field(default=10.0, validator=_positive_seconds)
    total: float = attrs.field(default=30.0, validator=_positive_seconds)


@attrs.frozen(kw_only=True)
class Limits:
    """What one client may take of the server and of this machine.

    Attributes:
        max_concurrency: Requests in flight at the same time.
        max_rate: Requests started per second, evenly spaced, no bursts; `None`: no such limit.
        patience: Seconds that a batch goes on without a single answer, while calls are under way,
            before it gives the rest up.
        hedge: Second requests at most for each call, to overtake a first one that is slower than
            95% of the others: 0.05 is 5% more load, and the most that can be set; `None`: no such
            requests. They are paid from the retry budget.
        max_body_bytes: The longest answer that is read, in bytes.
    """

    max_concurrency: int = attrs.field(default=64, validator=_count)
    max_rate: float | None = attrs.field(
        default=None,
        validator=_Number(least=0.001, must_be="at least 0.001 a second", optional=True),
    )
    patience: float = attrs.field(default=300.0, validator=_positive_seconds)
    hedge: float | None = attrs.field(default=None, validator=_share)
    max_body_bytes: int = attrs.field(default=1_048_576, validator=_count)


@attrs.frozen(kw_only=True)
class ClientConfig:
    """One client's configuration, complete and checked: what `CallsClient(...)` was given.

    `source` keeps the key's origin, not its text: the `ApiKey` or the provider. What may carry a
    secret (a provider, headers, proxy, pace) stays out of the repr.
    """

    source: ApiKey | KeyProvider = attrs.field(repr=False)
    base_url: str
    retry: RetryPolicy = attrs.field(validator=_instance_of(RetryPolicy))
    timeouts: Timeouts = attrs.field(validator=_instance_of(Timeouts))
    limits: Limits = attrs.field(validator=_instance_of(Limits))
    session: ClientSession | None = attrs.field(repr=False)
    ssl: ssl.SSLContext | None = attrs.field(repr=False)
    proxy: str | None = attrs.field(repr=False)
    trust_env: bool = attrs.field(validator=_instance_of(bool))
    allow_http: bool = attrs.field(validator=_instance_of(bool))
    headers: Mapping[str, str] = attrs.field(repr=False)
    user_agent: str
    hooks: tuple[Hook, ...] = attrs.field(repr=False)
    pace: FleetPace | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        # Without TLS a proxy reads what it passes on. So the request leaves this machine, and it
        # does so in the clear, even if the base URL is a loopback host.
        if self.proxy is None or self.allow_http or urlsplit(self.base_url).scheme != "http":
            return
        if not is_loopback(urlsplit(self.proxy).hostname or ""):
            raise ConfigurationError(
                "proxy: plain http through a proxy that is not on this machine would show it the "
                "key; use https, or CallsClient(allow_http=True) if that is really meant"
            )


def resolve_key(
    given: str | KeyProvider | None, environ: Mapping[str, str]
) -> ApiKey | KeyProvider:
    """The key's source, from the argument or the environment.

    Raises:
        ConfigurationError: There is none, or it cannot be a key.
    """
    origin = "api_key"
    if given is None:
        given, origin = environ.get(KEY_VARIABLE), KEY_VARIABLE
    del environ  # tools that print a traceback's locals shall not find the key in this frame
    if callable(given):
        return given
    try:
        if given is not None:
            return ApiKey(given, origin=origin)
    finally:
        del given  # for the same reason
    raise ConfigurationError(f"no API key: pass CallsClient(api_key=...) or set {KEY_VARIABLE}")


def resolve_base_url(
    given: str | None, environ: Mapping[str, str], *, allow_http: bool = False
) -> str:
    """The URL that `/v1/calls/{id}` is appended to, without a slash at its end.

    A path prefix, as gateways have it, is kept.

    Raises:
        ConfigurationError: There is none, or requests must not or cannot go there.
    """
    origin = "base_url"
    if given is None:
        given, origin = environ.get(BASE_URL_VARIABLE), BASE_URL_VARIABLE
    del environ  # tools that print a traceback's locals shall not find the key in this frame
    if given is None:
        raise ConfigurationError(
            f"no base URL: pass CallsClient(base_url=...) or set {BASE_URL_VARIABLE}"
        )
    parts = _split_url(given, origin)
    given = _plain(given)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{origin} must not hold a user name or a password")
    if "?" in given or "#" in given:
        raise ConfigurationError(f"{origin} must not have a query or a fragment")
    if not {".", ".."}.isdisjoint(unquote(parts.path).split("/")):
        raise ConfigurationError(f"{origin} must not have '.' or '..' segments in its path")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"{origin}: plain http to {parts.hostname} would show the key to everyone on the way; "
            "use https, or CallsClient(allow_http=True) if that is really meant"
        )
    return given.rstrip("/")


def check_timeout(timeout: float | None) -> float | None:
    """A call's own time limit in seconds, as it was given.

    Raises:
        ConfigurationError: It is no finite number above zero.
    """
    if timeout is not None:
        _positive_seconds.check("timeout", timeout)
    return timeout


def check_grace(grace: float) -> float:
    """The time that closing may take in seconds, as it was given.

    Raises:
        ConfigurationError: It is no finite number from zero on.
    """
    _seconds.check("grace", grace)
    return grace


def check_ssl(context: Any) -> ssl.SSLContext | None:
    """`context` as it was given.

    Raises:
        ConfigurationError: It is no `ssl.SSLContext`. A bare `False` would switch the checks off,
            which takes a context that says so.
    """
    if context is not None and not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(f"ssl must be an ssl.SSLContext, not {type(context).__name__}")
    return context


def check_proxy(proxy: str | None) -> str | None:
    """`proxy` as it was given.

    Raises:
        ConfigurationError: It is no http or https URL.
    """
    if proxy is None:
        return None
    _split_url(proxy, "proxy")
    return _plain(proxy)


_URL_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]|[\\<>\"^`{|}]")
_HOST_AND_PORT: Final = re.compile(
    r"""
    (?: [0-9A-Za-z_-]{1,63} (?: \.[0-9A-Za-z_-]{1,63} )* \.?  # a name, or IPv4
      | \[ [0-9A-Fa-f:.]+ \]                                  # IPv6, without a zone
    )
    (?: :[0-9]{1,5} )?
    """,
    re.VERBOSE,
)
"""The plain forms only: in others, URL parsers see different hosts."""


def _split_url(url: object, option: str) -> SplitResult:
    if not isinstance(url, str):
        raise ConfigurationError(f"{option} must be a str, not {type(url).__name__}")
    url = _plain(url)
    if not url or _URL_FORBIDDEN.search(url):
        raise ConfigurationError(
            f"{option} is empty or has a character that no URL has (spaces, controls, non-ASCII)"
        )
    with suppress(ValueError):  # a port out of range, a bracket left open
        parts = urlsplit(url)
        host_and_port = parts.netloc.rpartition("@")[2]
        known = parts.scheme in ("http", "https") and _HOST_AND_PORT.fullmatch(host_and_port)
        if known and parts.port != 0:
            return parts
    raise ConfigurationError(f"{option} must look like https://host or https://host:port/path")


def _plain(text: str) -> str:
    """The text itself: what was checked is what is used, even of a subclass with other methods."""
    return str.__str__(text)


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: what it resolves to is not ours to trust
        return False


_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_FIELD_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|")
_RESERVED: Final = frozenset({
    "accept-encoding", "authorization", "connection", "content-length", "cookie", "expect",
    "host", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def check_headers(headers: Mapping[Any, Any] | None) -> dict[str, str]:
    """A copy of the caller's own headers.

    Raises:
        ConfigurationError: A name or a value could not be sent as one header field, or the header
            belongs to the client (`Authorization`, `Host`, `Connection`, ...).
    """
    try:
        checked: dict[Any, Any] = dict(headers or {})
    except (TypeError, ValueError):
        problem = f"headers must be a mapping, not {type(headers).__name__}"
        raise ConfigurationError(problem) from None
    sent: dict[str, str] = {}
    for name, value in checked.items():
        if not isinstance(name, str):  # whatever it is, it may not even be shown
            raise ConfigurationError(f"headers: a name must be a str, not {type(name).__name__}")
        header = _plain(name)
        if not _TOKEN.fullmatch(header):
            raise ConfigurationError(f"headers: {header!a} is no header name")
        if header.lower() in _RESERVED:
            raise ConfigurationError(f"headers: {header} is set by the client itself")
        if header.lower() in map(str.lower, sent):
            raise ConfigurationError(f"headers: {header} is given twice")
        # The value may be a secret (a gateway's key, say), so it is not quoted.
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ConfigurationError(f"headers: the value of {header} is no printable ASCII text")
        sent[header] = _plain(value)
    return sent


def check_user_agent(user_agent: Any) -> str:
    """The `User-Agent` header's value, the library's own where none is given.

    Raises:
        ConfigurationError: It could not be sent.
    """
    if user_agent is None:
        python = ".".join(platform.python_version_tuple()[:2])
        return f"calls_async/{__version__} Python/{python}"
    if (
        not isinstance(user_agent, str)
        or not _plain(user_agent)
        or not _FIELD_VALUE.fullmatch(user_agent)
    ):
        raise ConfigurationError("user_agent must be printable ASCII text, and not empty")
    return _plain(user_agent)


def check_hooks(hooks: Any) -> tuple[Hook, ...]:
    """The hooks as a tuple.

    Raises:
        ConfigurationError: It is no iterable of callables.
    """
    try:
        checked: tuple[Any, ...] = tuple(hooks)
    except TypeError:  # a function that was given alone
        checked = (None,)
    if not all(callable(hook) for hook in checked):
        raise ConfigurationError("hooks must be an iterable of callables: hooks=(print,)")
    return checked


def check_pace(pace: Any) -> FleetPace | None:
    """`pace` as it was given.

    Raises:
        ConfigurationError: It has not the methods of a `FleetPace`.
    """
    methods = ("reserve", "park", "close")
    if pace is not None and not all(callable(getattr(pace, name, None)) for name in methods):
        raise ConfigurationError(
            f"pace must be a FleetPace, with reserve, park and close, not {type(pace).__name__}"
        )
    checked: FleetPace | None = pace
    return checked
