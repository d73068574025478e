"""What the tests of the journal share: outcomes as a client would give them."""

from __future__ import annotations

import orjson

from calls_async import Failed, Fetched, NotFoundError, ServerError, structure_call
from calls_async.testing import record_body


def fetched(call_id, **changes):
    """The outcome of a call that was fetched."""
    raw = record_body(call_id)
    values = {"attempts": 1, "elapsed": 0.1, "request_id": f"req-{call_id}"} | changes
    return Fetched(id=call_id, call=structure_call(orjson.loads(raw)), raw=raw, **values)


def missing(call_id):
    """A failure that repeats."""
    error = NotFoundError("there is none", call_id=call_id, status=404, request_id="req-404")
    return Failed(id=call_id, error=error, attempts=1, elapsed=0.2)


def sick(call_id):
    """A failure that may be tried again."""
    error = ServerError("the server failed", call_id=call_id, status=503)
    return Failed(id=call_id, error=error, attempts=4, elapsed=3.0)
