"""What a request looks like; the rule: every transport sends the same."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from calls_async.config import check_proxy, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping


def calls_path(base_url: URL) -> str:
    """What an id, percent-encoded, is appended to."""
    return base_url.raw_path.rstrip("/") + "/v1/calls/"


def request_headers(headers: Mapping[str, str], user_agent: str) -> CIMultiDict[str]:
    """All header fields but `Host` and `Authorization`; the caller's own replace ours."""
    fields = CIMultiDict[str]()
    fields[hdrs.ACCEPT] = "application/json"
    # To compress a record of 1 KB saves nothing.
    fields[hdrs.ACCEPT_ENCODING] = "identity"
    fields[hdrs.USER_AGENT] = user_agent
    for name, value in headers.items():
        fields[name] = value
    return fields


def proxy_of(base_url: str, proxy: str | None, *, trust_env: bool) -> str | None:
    """The proxy to go through; without one that is given, the environment's, if it is trusted."""
    return _proxy_of_environment(base_url) if trust_env and proxy is None else proxy


def _proxy_of_environment(base_url: str) -> str | None:
    """What HTTP_PROXY, HTTPS_PROXY and NO_PROXY (or the system's settings) say of this origin."""
    url = URL(base_url)
    # Plain http is for this machine because nobody reads it here: a proxy would.
    if is_loopback(url.raw_host or ""):
        return None
    # With the port, because NO_PROXY may name a host with or without one.
    if urllib.request.proxy_bypass(f"{url.raw_host}:{url.port}"):
        return None
    return check_proxy(urllib.request.getproxies().get(url.scheme))
