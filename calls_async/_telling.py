"""Telling the hooks; the rule: a hook never costs or breaks a call.

Whoever has something to tell asks first whether anybody listens, so that without hooks no event is
made at all. A hook that raises is logged, and the call goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calls_async.events import Event, Hook

_log = logging.getLogger("calls_async")


class Teller:
    """Calls the hooks of one client; it is false if there are none.

    Args:
        hooks: The hooks.
    """

    def __init__(self, hooks: tuple[Hook, ...]) -> None:
        self._hooks = hooks

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def __call__(self, event: Event) -> None:
        """Call every hook with an event."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 (the rule: a hook breaks nothing)
                _log.exception("a hook of calls_async raised on %s", type(event).__name__)
