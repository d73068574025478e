"""Output files; the rule: under its own name a file is whole, or it is not there.

Lines go to `NAME.part` in the same folder, which becomes `NAME` in one step at the end. What ends
earlier (a full disk, a kill) leaves `NAME` as it was, and `NAME.part` with the lines so far.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._words import count

if TYPE_CHECKING:
    from io import FileIO
    from types import TracebackType


class WholeFile:
    """A file that is written line by line and appears when it is committed.

    Args:
        name: Its path. A symbolic link is followed.
        head: Its first line, if it has one before those that are written.
        force: Whether a file that exists already may be replaced.

    Raises:
        CommandError: It cannot be written there, which is found before the first line.
    """

    def __init__(self, name: str, *, head: bytes = b"", force: bool) -> None:
        self.name = name
        self.lines = 0
        self._path = Path(name)
        self._part = self._path
        self._size = len(head)
        try:
            self._path = Path(name).resolve()
            self._part = self._path.with_name(f"{self._path.name}.part")
            self._refuse(force=force)
            self._part.unlink(missing_ok=True)
            # "x": of two commands that write the same file at once, one is refused. Unbuffered, so
            # that an error belongs to the line that it hits.
            self._file: FileIO = self._part.open("xb", buffering=0)
        except OSError as exc:
            raise CommandError(f"cannot write {self.name}: {exc.strerror}", Exit.USAGE) from exc
        self._put(head)

    def _refuse(self, *, force: bool) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            raise CommandError(
                f"there is no folder {folder}: make it, or choose another", Exit.USAGE
            )
        if self._path.exists() and not self._path.is_file():
            raise CommandError(f"{self.name} is no regular file: choose another name", Exit.USAGE)
        for path, shown in ((self._path, self.name), (self._part, f"{self.name}.part")):
            if path.exists() and not force:
                raise CommandError(
                    f"{shown} exists already: choose another name, or --force to replace it",
                    Exit.USAGE,
                )

    def write(self, line: bytes) -> None:
        """Write one line, the line end included.

        Raises:
            CommandError: It cannot be written. It says what is left.
        """
        self._put(line)
        self._size += len(line)
        self.lines += 1

    def _put(self, text: bytes) -> None:
        try:
            while text:
                text = text[self._file.write(text) :]  # a disk that fills up takes a part of it
        except OSError as exc:
            self.close()
            raise self._spoilt(exc) from exc

    def commit(self) -> None:
        """Make it the file of that name.

        Raises:
            CommandError: It could not be. It says what is left.
        """
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as exc:
            raise self._spoilt(exc) from exc

    def _spoilt(self, exc: OSError) -> CommandError:
        told = f"cannot write {self.name}: {exc.strerror}; make room, or choose another place"
        if self.lines:
            told += f" (the {count(self.lines, 'line')} so far: {self.name}.part)"
        return CommandError(told, Exit.FAILED)

    def close(self) -> None:
        """End the work; what was not committed stays as whole lines in `NAME.part`."""
        if self._file.closed:
            return
        with suppress(OSError):
            self._file.truncate(self._size)
        self._file.close()
        if not self.lines:
            self._part.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
