"""Telling the hooks; the rule: a hook never costs or breaks a call.

Without hooks there is no teller, and whoever has something to tell makes no event at all. A hook
that raises is logged, and the call goes on. So is one whose headers could not be sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from calls_async.config import check_headers
from calls_async.events import HeaderHook, ObservingHook

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from calls_async.events import AttemptStarted, Event, Hook, Statistics

_log = logging.getLogger("calls_async")


class Teller:
    """Calls the hooks of one client.

    Args:
        hooks: The hooks.
        taken: The header fields that requests have already, in lower case.
    """

    def __init__(self, hooks: tuple[Hook, ...], taken: Container[str] = ()) -> None:
        self._hooks = hooks
        self._taken = taken
        self._adding = [hook for hook in hooks if isinstance(hook, HeaderHook)]

    def __call__(self, event: Event) -> None:
        """Call every hook with an event."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 (the rule: a hook breaks nothing)
                _log.exception("a hook of calls_async raised on %s", type(event).__name__)

    def headers_for(self, request: AttemptStarted) -> dict[str, str] | None:
        """What hooks add to a request: fields that can be sent, each once; `None`: nothing."""
        added: dict[str, str] = {}
        for hook in self._adding:
            try:
                given = check_headers(hook.headers_for(request))
            except Exception:  # noqa: BLE001 (the rule: a hook breaks nothing)
                _log.exception("the headers that a hook of calls_async gave were not sent")
                continue
            sent = {name.lower() for name in added}
            added |= {
                name: value
                for name, value in given.items()
                if name.lower() not in self._taken and name.lower() not in sent
            }
        return added or None

    def introduce(self, statistics: Callable[[], Statistics]) -> None:
        """Let the hooks that look at statistics know where they are."""
        for hook in self._hooks:
            if isinstance(hook, ObservingHook):
                try:
                    hook.observe(statistics)
                except Exception:  # noqa: BLE001 (the rule: a hook breaks nothing)
                    _log.exception("a hook of calls_async raised when a client began to work")
