"""The streaming write of a file: a file without a name, fsync, then its name.

Owns: that a file appears whole or not at all, also after a power cut, and that nothing stays of a writer that died.
Never: makes a directory before `commit`: whoever removes the file's directory meanwhile finds nothing of ours in it.

The unnamed file is Linux's O_TMPFILE, which the kernel drops with its last descriptor. Where a file system has none
(NFS, some of FUSE), a temporary file with a hidden name takes its place; `clean_leftovers` finds those of the dead.
"""

import contextlib
import errno
import os
import stat
from typing import Final

from isotach.base.types import ReadBuffer
from isotach.ufs.interface import UfsStatus
from isotach.ufs.local.faults import naming
from isotach.ufs.local.folder import Folder
from isotach.ufs.local.status import status_of

TEMPORARY_START: Final = ".isotach-tmp-"
_RANDOM_BYTES: Final = 12
_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC
_NO_UNNAMED_FILES: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class LocalWriter:
    """`UfsWriter` of one file. Used by one thread at a time."""

    def __init__(self, folder: Folder, path: str, *, unnamed: bool = True) -> None:
        self._folder = folder
        self._path = path
        self._full_path = folder.full(path)
        self._fd = -1
        self._directory_fd = -1
        self._temporary = ""  # its name, while it has one
        self._coming_name = _random_name()  # which an unnamed file has for the moment in which it replaces another
        self.leftover: str | None = None
        self._is_synced = False
        with naming(self._full_path), folder.nearest(path) as (directory_fd, directory):
            self._directory_fd = os.dup(directory_fd)
            try:
                self._fd = self._open(unnamed)
                self.leftover = _below(directory, self._temporary) if self._temporary else None
            except BaseException:
                self._close()
                raise

    def _open(self, unnamed: bool) -> int:
        if unnamed:
            try:
                return os.open(".", _FLAGS | os.O_TMPFILE, 0o666, dir_fd=self._directory_fd)
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES:
                    raise
        self._temporary = _random_name()
        return os.open(self._temporary, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._directory_fd)

    def write(self, data: ReadBuffer) -> None:
        self._require_open()
        with naming(self._full_path), memoryview(data) as view, view.cast("B") as rest:
            start = 0
            while start < len(rest):
                start += os.write(self._fd, rest[start:])

    def prepare(self) -> None:
        self._require_open()
        with naming(self._full_path):
            os.fsync(self._fd)
        self._is_synced = True
        if self.leftover is None and os.path.lexists(self._full_path):
            self.leftover = _below(self._path.rpartition("/")[0], self._coming_name)

    def commit(self) -> UfsStatus:
        self._require_open()
        with naming(self._full_path), self._folder.parent(self._path, create=True) as (directory_fd, name):
            self._keep_mode_of_replaced(directory_fd, name)
            if not self._is_synced:
                os.fsync(self._fd)
            if self._temporary or not self._link(directory_fd, name):
                self._replace(directory_fd, name)
            self._temporary, self.leftover = "", None
            os.fsync(directory_fd)
            status = status_of(os.fstat(self._fd), self._path)
        self._close()
        return status

    def abort(self) -> None:
        if self._temporary and self._directory_fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory_fd)
                self._temporary = ""
        if not self._temporary:
            self.leftover = None
        self._close()

    def __del__(self) -> None:
        if self._fd >= 0:
            self.abort()

    def _require_open(self) -> None:
        if self._fd < 0:
            raise ValueError("the writer was committed or aborted: open another one")

    def _link(self, directory_fd: int, name: str) -> bool:
        """Gives the unnamed file its first name. False when there is a file of that name."""
        try:
            os.link(f"/proc/self/fd/{self._fd}", name, dst_dir_fd=directory_fd, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def _replace(self, directory_fd: int, name: str) -> None:
        """A link cannot replace a file, a rename can: for a moment the file has a hidden name in that directory."""
        if not self._temporary:
            self._link(directory_fd, self._coming_name)
            os.dup2(directory_fd, self._directory_fd, inheritable=False)
            self._temporary = self._coming_name
        os.rename(self._temporary, name, src_dir_fd=self._directory_fd, dst_dir_fd=directory_fd)

    def _keep_mode_of_replaced(self, directory_fd: int, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
            if stat.S_ISREG(old.st_mode):
                os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def _close(self) -> None:
        for fd in (self._fd, self._directory_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._directory_fd = -1


def _below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _random_name() -> str:
    return TEMPORARY_START + os.urandom(_RANDOM_BYTES).hex()
