"""Where a dataset is; the rule: fsspec has one door, and under its name a file is whole.

On this machine's disks, and on what is mounted there, a file is written beside its name, synced and
renamed. An object store shows an object when all of it has arrived, so there it is just put. On any
other file system it is written under another name and moved, which is as good as its `mv` is.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async.errors import CallsError, ConfigurationError, OutputError
from calls_async.journal._wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from os import PathLike

_PUT_IS_ATOMIC: Final = frozenset({
    "abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a",
})  # fmt: skip


@attrs.frozen(kw_only=True)
class Place:
    """A folder of a file system, which need not be this machine's. All methods block.

    Attributes:
        url: Where it is, complete: a relative path would mean something else to a worker.
        options: What the file system is opened with. They may be secrets.
    """

    url: str
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    @classmethod
    def at(cls, destination: str | PathLike[str], options: Mapping[str, Any] | None) -> Place:
        """The place that a user means.

        Raises:
            ConfigurationError: fsspec, or what it needs for that protocol, is not installed, or
                there is no such protocol.
        """
        given: Any = destination
        if isinstance(given, Path):
            given = str(given)
        if not isinstance(given, str) or not given:
            raise ConfigurationError(
                f"destination must be a path or a URL, not {type(destination).__name__}"
            )
        fsspec = _fsspec()
        try:
            fs, path = fsspec.core.url_to_fs(given, **(options or {}))
        except (ImportError, ValueError) as exc:
            raise ConfigurationError(f"destination {given}: {exc}") from exc
        # Another file system's path may have lost the host or the user of the URL.
        url = f"file://{path}" if "file" in _kinds(fs) else given.rstrip("/")
        return cls(url=url, options=dict(options or {}))

    def prepare(self, *folders: str) -> None:
        """Make folders in it, where there are such things.

        Raises:
            OutputError: They cannot be made.
        """
        fs, root = self._opened()
        if _kinds(fs) & _PUT_IS_ATOMIC:
            return  # and a misspelt bucket is not to be made
        with self._told(""):
            for folder in folders:
                fs.makedirs(f"{root}/{folder}", exist_ok=True)

    def names(self, folder: str) -> list[str]:
        """What is in one of its folders; nothing, if there is no such folder.

        Raises:
            OutputError: It cannot be listed.
        """
        fs, root = self._opened()
        with self._told(folder):
            fs.invalidate_cache()
            try:
                found: list[str] = fs.ls(f"{root}/{folder}" if folder else root, detail=False)
            except FileNotFoundError:
                return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes | None:
        """The content of a file; `None` if there is none of that name.

        Raises:
            OutputError: It cannot be read.
        """
        fs, root = self._opened()
        with self._told(name):
            fs.invalidate_cache()
            try:
                content: bytes = fs.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def has(self, name: str) -> bool:
        """Whether there is a file of that name.

        Raises:
            OutputError: That cannot be found out.
        """
        fs, root = self._opened()
        with self._told(name):
            fs.invalidate_cache()
            return bool(fs.exists(f"{root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in place of one of that name.

        Raises:
            OutputError: It cannot be written; what was there before is as it was.
        """
        fs, root = self._opened()
        path = f"{root}/{name}"
        kinds = _kinds(fs)
        with self._told(name):
            if "file" in kinds:
                with whole_file(path, overwrite=True) as file:
                    file.write(content)
            elif kinds & _PUT_IS_ATOMIC:
                fs.pipe_file(path, content)
            else:
                folder, _, last = path.rpartition("/")
                hidden = f"{folder}/.{last}.{secrets.token_hex(4)}.part"
                fs.pipe_file(hidden, content)
                fs.mv(hidden, path)

    def remove(self, name: str) -> None:
        """Let no file of that name be there.

        Raises:
            OutputError: It cannot be removed.
        """
        fs, root = self._opened()
        with self._told(name), suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{name}")

    def _opened(self) -> tuple[Any, str]:
        opened: tuple[Any, str] = _fsspec().core.url_to_fs(self.url, **self.options)
        return opened

    @contextmanager
    def _told(self, name: str) -> Generator[None]:
        """Errors of whatever the file system is made of, as one of ours."""
        try:
            yield
        except CallsError:
            raise
        except Exception as exc:
            where = f"{self.url}/{name}" if name else self.url
            told = getattr(exc, "strerror", None) or f"{type(exc).__name__}: {exc}"
            raise OutputError(f"cannot use {where}: {told}", output=where) from exc


def _kinds(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _fsspec() -> Any:
    try:
        import_module("fsspec.core")
        return import_module("fsspec")
    except ImportError as exc:
        raise ConfigurationError("a dataset needs fsspec: pip install 'calls_async[dask]'") from exc
