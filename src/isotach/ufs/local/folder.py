"""Opening things below a root without ever being led out of it by a symbolic link.

Owns: descriptors of directories and files below one root. What the kernel opened is looked up (/proc/self/fd) after the
fact, so there is no moment in which a link could be swapped in between.
Never: reads content, or follows a link that leaves the root.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from isotach.base.errors import UfsBucketMissingError, os_error

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not to hang when a pipe of that name is opened; regular files do not mind.
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Folder:
    """A root folder. Paths are relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._real_root = os.path.realpath(root)

    def full(self, path: str) -> str:
        """The absolute path, for messages and the kernel."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """A descriptor to read the file with."""
        with self._opened(path, _FILE_FLAGS) as fd:
            yield fd

    @contextmanager
    def directory(self, path: str, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory; with `create` it and its parents are made when missing."""
        if create:
            self._make(path)
        with self._opened(path, _DIRECTORY_FLAGS) as fd:
            yield fd

    @contextmanager
    def parent(self, path: str, create: bool = False) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory that holds it, last name). The entry itself need not exist."""
        directory, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise os_error(errno.EACCES, "the root of a mount is not moved, removed or written", self.full(path))
        with self.directory(directory, create) as fd:
            yield fd, name

    @contextmanager
    def nearest(self, path: str) -> Iterator[tuple[int, str]]:
        """(descriptor, path) of the innermost directory above `path` that exists. Raises NotADirectoryError when a file
        is in the way."""
        directory, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise os_error(errno.EACCES, "the root of a mount is not moved, removed or written", self.full(path))
        while directory and not os.path.lexists(self.full(directory)):
            directory = directory.rpartition("/")[0]
        with self.directory(directory) as fd:
            yield fd, directory

    def require_root(self) -> None:
        """Raises UfsBucketMissingError when the root folder is gone: then "no such file" means nothing."""
        if not os.path.exists(self.root):
            message = "the folder does not exist: create it, or mount the file system that holds it"
            raise UfsBucketMissingError(errno.ENOENT, message, self.root)

    def is_within(self, real_path: str) -> bool:
        """Whether a path without links lies in the root."""
        if _is_below(real_path, self._real_root):
            return True
        self._real_root = os.path.realpath(self.root)  # the root may be a link that was changed since
        return _is_below(real_path, self._real_root)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        try:
            fd = os.open(self.full(path), flags)
        except FileNotFoundError:
            self.require_root()
            raise
        try:
            if path and not self.is_within(os.readlink(f"/proc/self/fd/{fd}")):
                message = "a symbolic link leads out of the mounted folder: mount the link's target instead"
                raise os_error(errno.EACCES, message, self.full(path))
            yield fd
        finally:
            os.close(fd)

    def _make(self, path: str) -> None:
        if not path or os.path.isdir(self.full(path)):
            return
        with self.parent(path, create=True) as (fd, name):
            try:
                os.mkdir(name, dir_fd=fd)
            except FileExistsError:
                if not os.path.isdir(self.full(path)):
                    raise
            else:
                os.fsync(fd)


def _is_below(real_path: str, real_root: str) -> bool:
    return real_path == real_root or real_path.startswith(real_root.rstrip("/") + "/")
