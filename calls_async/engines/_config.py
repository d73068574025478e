"""A client's configuration on its way to workers; the rule: it never carries the API key.

Dask keeps what it sends in the memory of its scheduler, logs some of it, and shows it to whoever
may look at its dashboard. So a key is looked for where the work is done: in the workers'
environment, or by a function that they can import.
"""

from __future__ import annotations

import os
import pickle
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async.client import CallsClient, ClientOptions
from calls_async.config import KEY_VARIABLE
from calls_async.errors import CallsError, ConfigurationError, amended

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOW: Final = (
    f"set {KEY_VARIABLE} in the environment of the workers, or give a function that they can import"
)


@attrs.frozen(kw_only=True)
class PortableConfig:
    """What a worker makes its clients from.

    Attributes:
        base_url: Where the API is.
        pickled: The client's class and options. They may be secrets (headers, a proxy), and the key
            is not among them.
    """

    base_url: str
    pickled: bytes = attrs.field(repr=False)

    def client(self, *, max_rate: float | None) -> CallsClient:
        """A client of this configuration, in the process that is to use it.

        Args:
            max_rate: Requests a second at most, if that is less than its own limit.

        Raises:
            ConfigurationError: There is no key in the environment of this process, or something of
                the configuration cannot be imported in it.
        """
        try:
            kind, options = pickle.loads(self.pickled)  # noqa: S301 (who pickled it sent this code)
        except Exception as exc:
            raise ConfigurationError(
                f"a worker cannot import what config is made of: {type(exc).__name__}: {exc}"
            ) from exc
        limits = options["limits"]
        if max_rate is not None and (limits.max_rate is None or limits.max_rate > max_rate):
            options["limits"] = attrs.evolve(limits, max_rate=max_rate)
        try:
            client: CallsClient = kind(**options)
        except CallsError as exc:
            raise amended(exc, message=f"on a worker: {exc.message}") from exc
        return client


def portable(config: CallsClient | ClientOptions) -> PortableConfig:
    """A configuration that workers can be sent.

    Args:
        config: The options of a client, or a client; it is not used, and its key stays here.

    Raises:
        ConfigurationError: It holds a key, or something that cannot be sent.
    """
    client = config if isinstance(config, CallsClient) else _made(config)
    _, (kind, options) = client.__reduce__()  # names what cannot be pickled, and leaves the key out
    provider = options["api_key"]
    if provider is _from_environment:
        options["api_key"] = None
    elif provider is not None:
        _check_provider(provider)
    for name, value in options.items():
        data = pickle.dumps(value)
        if b"__main__" in data:
            raise ConfigurationError(
                f"config: {name} is defined in the program itself, which workers cannot import: "
                "define it in a module"
            )
        if _has_key(data):
            raise ConfigurationError(f"config: {name} holds the API key: {_HOW}")
    return PortableConfig(base_url=options["base_url"], pickled=pickle.dumps((kind, options)))


def _made(config: Any) -> CallsClient:
    if not hasattr(config, "keys"):
        raise ConfigurationError(
            f"config must be a client or a mapping of its options, not {type(config).__name__}"
        )
    options: dict[str, Any] = dict(config)
    if unknown := sorted(options.keys() - ClientOptions.__annotations__.keys(), key=str):
        raise ConfigurationError(f"config: a client has no option {unknown[0]!r}")
    if isinstance(options.get("api_key"), str):
        del options, config  # tools that print a traceback's locals shall not find the key
        raise ConfigurationError(f"config: api_key must not be a text: {_HOW}")
    if options.get("api_key") is None:
        options["api_key"] = _from_environment  # the driver may do without a key
    return CallsClient(**options)


def _from_environment() -> str:
    """Stands for the workers' environment; it is never called."""
    raise NotImplementedError


def _check_provider(provider: Any) -> None:
    # An object with a method, or a partial, may have the key in it.
    if not isfunction(provider):
        raise ConfigurationError(
            f"config: api_key must be a function, not {type(provider).__name__}: {_HOW}"
        )


def _has_key(data: bytes) -> bool:
    key = os.environ.get(KEY_VARIABLE)
    return bool(key) and str(key).encode(errors="surrogateescape") in data


def secret_free(options: Mapping[str, Any]) -> None:
    """Make sure that options of a file system do not hold the API key.

    Raises:
        ConfigurationError: One does.
    """
    for name, value in options.items():
        if _has_key(repr(value).encode()):
            raise ConfigurationError(f"storage_options: {name} holds the API key")
