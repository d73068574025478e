"""Output files; the rule: under its own name a file is whole, or it is not there.

What is written goes to a hidden file in the same folder, which takes the name in one step after it
has reached the disk. Whatever ends the work before that leaves an older file of the name as it was.
An exception removes the hidden file; a kill leaves it, as `.NAME.….part`, and nobody reads it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from calls_async.errors import OutputError
from calls_async.journal._place import as_path

if TYPE_CHECKING:
    from collections.abc import Generator
    from os import PathLike
    from pathlib import Path

_SHOWN: Final = 60
"""Characters of the name that the hidden file shows; a name that is as long as names may be leaves
no room for more."""


@contextmanager
def whole_file(out: str | PathLike[str], *, overwrite: bool) -> Generator[IO[bytes]]:
    """A file to write to, which takes its name when the block ends well.

    Args:
        out: Its path. A symbolic link is followed.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        ConfigurationError: No file can have that name.
        OutputError: It cannot be written there. What can be found before the first byte, is.
    """
    try:
        path = as_path(out).resolve()
        _refuse(path, str(out), overwrite=overwrite)
        # Not `NAME.part`: of two who write the same file, each has a file of its own, and the last
        # one to finish wins. Not `tempfile`: its files can be read by their owner alone, for good.
        part = path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(4)}.part")
        file = part.open("xb")
    except OSError as exc:
        raise _unwritable(out, exc) from exc
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException as exc:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise _unwritable(out, exc) from exc
        raise


def _refuse(path: Path, shown: str, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {shown}: there is no folder {path.parent}", output=shown)
    if path.exists() and not path.is_file():
        raise OutputError(f"cannot write {shown}: it is no regular file", output=shown)
    if path.exists() and not overwrite:
        raise OutputError(f"cannot write {shown}: it exists already", output=shown)


def _unwritable(out: str | PathLike[str], exc: OSError) -> OutputError:
    # pyarrow's errors of this kind have no `strerror`.
    return OutputError(f"cannot write {out}: {exc.strerror or exc}", output=str(out))


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power failure, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and the file itself is there
            os.fsync(handle)
    finally:
        os.close(handle)
