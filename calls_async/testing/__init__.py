"""Tools for testing code that uses calls_async: a sandbox server, a fake transport, virtual time.

Names are imported when they are first used, because pytest loads the plugin in this package
in every test run, and the server is not for all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from calls_async.testing.clock import DeadlockError, VirtualTimeLoop, run_in_virtual_time
    from calls_async.testing.endpoint import SANDBOX_KEY
    from calls_async.testing.fake import FakeTransport, fake_client
    from calls_async.testing.ledger import Ledger, LedgerEntry
    from calls_async.testing.plan import (
        PERMANENT_FAULTS,
        TRANSIENT_FAULTS,
        Break,
        Fate,
        Fault,
    )
    from calls_async.testing.records import make_record, record_body
    from calls_async.testing.sandbox import Sandbox

__all__ = [
    "PERMANENT_FAULTS",
    "SANDBOX_KEY",
    "TRANSIENT_FAULTS",
    "Break",
    "DeadlockError",
    "FakeTransport",
    "Fate",
    "Fault",
    "Ledger",
    "LedgerEntry",
    "Sandbox",
    "VirtualTimeLoop",
    "fake_client",
    "make_record",
    "record_body",
    "run_in_virtual_time",
]

_HOMES: Final = {
    "PERMANENT_FAULTS": "plan",
    "SANDBOX_KEY": "endpoint",
    "TRANSIENT_FAULTS": "plan",
    "Break": "plan",
    "DeadlockError": "clock",
    "FakeTransport": "fake",
    "Fate": "plan",
    "Fault": "plan",
    "Ledger": "ledger",
    "LedgerEntry": "ledger",
    "Sandbox": "sandbox",
    "VirtualTimeLoop": "clock",
    "fake_client": "fake",
    "make_record": "records",
    "record_body": "records",
    "run_in_virtual_time": "clock",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
