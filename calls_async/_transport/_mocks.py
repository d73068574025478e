"""Whether aiohttp's session is mocked; the rule: what a test has replaced is not gone past.

Libraries for tests replace methods of aiohttp's session (aioresponses and vcrpy: `_request`;
`unittest.mock`: whichever it is told). Who sends requests in any other way would go on talking to
the real server. So it is looked at before each request whether the session is still aiohttp's own.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp import ClientSession

_METHODS: Final = ClientSession.__dict__
_OWN_REQUEST: Final = _METHODS["_request"]
_OWN_GET: Final = _METHODS["get"]


def is_mocked() -> bool:
    """Whether a test has put something in the place of aiohttp's session."""
    return (
        _METHODS["_request"] is not _OWN_REQUEST
        or _METHODS["get"] is not _OWN_GET
        or aiohttp.ClientSession is not ClientSession
    )
