"""Where the bench runs; the rule: clients and servers have a core each, where there are two."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = (
    "calls_async", "aiohttp", "attrs", "cattrs", "orjson", "tenacity", "uvloop", "httpx", "sniffio",
    "niquests", "aiosonic", "pyreqwest", "wreq", "pycurl", "pyperf",
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Served:
    """A server that runs.

    Attributes:
        name: What it is.
        plain: Its base URL.
        tls: Its base URL for TLS.
        authority: The file with the authority that its certificate is from.
        process: Its process id, or that of the process which started it.
    """

    name: str
    plain: str
    tls: str
    authority: Path
    process: int


def cores() -> tuple[int | None, int | None]:
    """The client's core and the servers'; `None`: nothing is pinned."""
    if sys.platform != "linux":  # elsewhere there is no sched_setaffinity
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]  # siblings of one core have numbers next to each other


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started in the block stay on this core."""
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, Any]:
    """The machine, the versions and the date."""
    client, server = cores()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiled": platform.python_compiler(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "pinned": None if client is None else {"client": client, "server": server},
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    """The version of a package; `None`: it is not installed."""
    with contextlib.suppress(PackageNotFoundError):
        return version(name)
    return None


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.machine()


def busy_seconds(process: int) -> float | None:
    """CPU that a process and its children have used; `None` where the system does not tell."""
    try:
        return _busy_seconds(process)
    except (OSError, ValueError, IndexError):
        return None


def _busy_seconds(process: int) -> float:
    folder = Path(f"/proc/{process}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    children = (folder / "task" / f"{process}" / "children").read_text().split()
    return ticks / os.sysconf("SC_CLK_TCK") + sum(_busy_seconds(int(child)) for child in children)
