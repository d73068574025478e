"""Many ids at once; the rule: a bounded window, and one outcome for every occurrence of every id.

The room knows neither client nor network: it works over anything that is a `Job`.
"""

from __future__ import annotations

from calls_async.bulk._source import CallIds
from calls_async.bulk._stream import OutcomeStream

__all__ = ["CallIds", "OutcomeStream"]
