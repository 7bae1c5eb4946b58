"""The local file system as a side of a transfer.

Owns: hidden temporary files, so that no half file appears under its name. Never: follows a link in a circle (the
engine sees each directory's identity).
"""

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from isotach.base.errors import os_error
from isotach.cli.transfer.place import Entry, Source, Target, base_name

_NO_LINKS: Final = frozenset((errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK))
_numbers = itertools.count()


class LocalSide:
    """Local files; symbolic links are followed."""

    def look(self, path: str) -> Entry:
        """Raises FileNotFoundError when there is nothing."""
        return _entry(path, base_name(os.path.abspath(path)), os.stat(path))

    def children(self, path: str) -> Iterator[Entry]:
        """In byte order of the names. A link to nothing is given as not copyable."""
        for name in sorted(os.listdir(path), key=os.fsencode):
            inner = os.path.join(path, name)
            try:
                yield _entry(inner, name, os.stat(inner))
            except FileNotFoundError:
                if os.path.lexists(inner):
                    yield _entry(inner, name, os.lstat(inner))

    def join(self, path: str, name: str) -> str:
        return os.path.join(path, name)

    def make_directory(self, path: str) -> None:
        """With its parents; nothing happens if it is there."""
        os.makedirs(path, exist_ok=True)

    def reading(self, path: str) -> AbstractContextManager[Source]:
        return open(path, "rb", buffering=0)

    @contextmanager
    def writing(self, path: str, overwrite: bool) -> Iterator[Target]:
        """The file takes its name, whole, when the context ends; on an error nothing is left."""
        _refuse_existing(path, overwrite)
        hidden = os.path.join(os.path.dirname(path), f".isotach-{os.getpid()}-{next(_numbers)}.tmp")
        try:
            with open(hidden, "xb") as target:
                yield target
            _publish(hidden, path, overwrite)
        finally:
            if os.path.lexists(hidden):
                os.unlink(hidden)

    def write_whole(self, path: str, data: memoryview, overwrite: bool) -> None:
        with self.writing(path, overwrite) as target:
            target.write(data)

    def set_attributes(self, path: str, like: Entry) -> None:
        os.chmod(path, like.mode)
        os.utime(path, (like.mtime, like.mtime))

    def remove(self, path: str, recursive: bool) -> None:
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        elif recursive:
            shutil.rmtree(path)
        else:
            os.rmdir(path)


def _entry(path: str, name: str, status: os.stat_result) -> Entry:
    is_dir = stat.S_ISDIR(status.st_mode)
    return Entry(
        path=path,
        name=name,
        is_dir=is_dir,
        length=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        mtime=status.st_mtime,
        copyable=is_dir or stat.S_ISREG(status.st_mode),
        identity=(status.st_dev, status.st_ino) if is_dir else None,
    )


def _refuse_existing(path: str, overwrite: bool) -> None:
    if os.path.isdir(path):
        raise os_error(errno.EISDIR, "the target is a directory: name the file inside it", path)
    if not overwrite and os.path.lexists(path):
        raise os_error(errno.EEXIST, "the file exists: give --overwrite, or another name", path)


def _publish(hidden: str, path: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(hidden, path)
        return
    try:
        os.link(hidden, path)  # unlike a rename it fails when somebody was faster
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _refuse_existing(path, overwrite)
        os.rename(hidden, path)
