"""The namespace as a side of a transfer: the client's public methods under the names that the engine uses.

Owns: that translation. Never: buffers.
"""

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from isotach.base.errors import os_error
from isotach.base.types import FileInfo
from isotach.cli.transfer.place import Entry, Source, Target

if TYPE_CHECKING:
    from isotach.client import FileSystem


class NamespaceSide:
    """Files of the namespace, written with one write type (None: the configured one)."""

    def __init__(self, fs: "FileSystem", write_type: str | None = None) -> None:
        self._fs = fs
        self._write_type = write_type

    def look(self, path: str) -> Entry:
        """Raises FileNotFoundError when there is nothing."""
        return _entry(self._fs.stat(path), path)

    def children(self, path: str) -> Iterator[Entry]:
        """In byte order of the names. Links are followed; one to nothing is given as not copyable."""
        return map(self._followed, self._fs.list(path))

    def _followed(self, info: FileInfo) -> Entry:
        if not info.is_symlink:
            return _entry(info, info.path)
        try:
            return _entry(self._fs.stat(info.path), info.path)
        except OSError:
            return _entry(info, info.path)

    def join(self, path: str, name: str) -> str:
        return f"{path.rstrip('/')}/{name}"

    def make_directory(self, path: str) -> None:
        """With its parents; nothing happens if it is there."""
        self._fs.mkdir(path, parents=True, exist_ok=True)

    def reading(self, path: str) -> AbstractContextManager[Source]:
        return self._fs.open(path, "rb")

    def writing(self, path: str, overwrite: bool) -> AbstractContextManager[Target]:
        self._refuse_existing(path, overwrite)
        if overwrite:
            return self._fs.open(path, "wb", write_type=self._write_type)
        return self._fs.open(path, "xb", write_type=self._write_type)

    def write_whole(self, path: str, data: memoryview, overwrite: bool) -> None:
        try:
            self._fs.write(path, data, overwrite, self._write_type)
        except FileExistsError:
            self._refuse_existing(path, overwrite)
            raise

    def set_attributes(self, path: str, like: Entry) -> None:
        self._fs.chmod(path, like.mode)
        self._fs.utime(path, None, like.mtime)

    def remove(self, path: str, recursive: bool) -> None:
        self._fs.remove(path, recursive)

    def _refuse_existing(self, path: str, overwrite: bool) -> None:
        # In the words of this command line; the master would refuse as well.
        if not overwrite and self._fs.exists(path):
            raise os_error(errno.EEXIST, "the file exists: give --overwrite, or another name", path)


def _entry(info: FileInfo, path: str) -> Entry:
    return Entry(
        path=path,
        name=path.rpartition("/")[2],
        is_dir=info.is_dir,
        length=info.length,
        mode=info.mode,
        mtime=info.mtime,
        copyable=info.is_dir or info.is_file,
        identity=(0, info.id) if info.is_dir else None,
    )
