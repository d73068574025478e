"""Paths; the rule: what no file can be called is an error of ours, before the system says so."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from calls_async.errors import ConfigurationError


def as_path(path: Any) -> Path:
    """A path as the caller gave it.

    Raises:
        ConfigurationError: It is no path, or holds what no name of a file does.
    """
    try:
        place = Path(path)
    except TypeError:
        raise ConfigurationError(f"a path must be a str, not {type(path).__name__}") from None
    with suppress(ValueError):  # of a lone surrogate
        if b"\0" not in os.fsencode(place):
            return place
    raise ConfigurationError(f"no file can have the name {str(path)[:200]!a}")
