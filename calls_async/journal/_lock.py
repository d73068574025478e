"""One writer at a time; the rule: the lock is the system's, so it dies with whoever holds it.

It is a lock on a file beside the journal (`NAME.lock`), and not on the journal: SQLite has locks of
its own there, which another one would disturb on some systems. The file holds the process id of the
holder, for the message alone, and goes with the lock.

`flock` belongs to an open file and not to a process, so a second writer in the same process is
refused as well. For the same reason a fork would inherit the lock and could hold it when the parent
has died: the child closes the file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from calls_async import JournalError

if TYPE_CHECKING:
    from pathlib import Path

_locks: Final[WeakSet[Lock]] = WeakSet()
"""All that this process holds, for the child of a fork."""


class Lock:
    """The right to write to a journal, from its making to `release`.

    Args:
        journal: Where the journal is, links resolved.

    Raises:
        JournalError: Another one holds it, or there can be no file beside the journal.
    """

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_name(f"{journal.name}.lock")
        self._file = self._acquired(journal)
        _locks.add(self)

    def release(self) -> None:
        """Let others write. It may be called again."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # Windows removes no open file; then it stays, and means nothing
            self._path.unlink()
        os.close(file)

    def forget(self) -> None:
        """Close the file in the child of a fork; the parent keeps the lock."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _acquired(self, journal: Path) -> int | None:
        while True:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as exc:
                raise JournalError(
                    f"the journal {journal} cannot be written: {self._path.name} beside it: "
                    f"{exc.strerror}"
                ) from exc
            try:
                _lock(file)
            except OSError:
                holder = _holder(file)
                os.close(file)
                raise JournalError(
                    f"the journal {journal} is being written by {holder}: wait for its end, "
                    "stop it, or open the journal to be read only"
                ) from None
            # The holder before may have taken the file away between our two steps.
            if _is_at(file, self._path):
                os.ftruncate(file, 0)
                os.write(file, b"%d\n" % os.getpid())
                return file
            os.close(file)


def _holder(file: int) -> str:
    """Who has the lock, as far as its file tells."""
    with suppress(OSError, ValueError):
        pid = int(os.read(file, 32))
        return "this process already" if pid == os.getpid() else f"process {pid}"
    return "another process"


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        # A lock of Windows keeps others from reading, so it is on a byte far behind the pid.
        os.lseek(file, 1 << 20, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _after_fork() -> None:
        for lock in _locks:
            lock.forget()

    os.register_at_fork(after_in_child=_after_fork)
