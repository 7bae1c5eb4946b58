"""The streaming write of a file: a temporary file in the target's own folder, fsync, rename.

Owns: temporary names, and that a file appears whole or not at all, also after a power cut.
Never: leaves a temporary file behind but when the process dies (`clean_leftovers` finds those by their names).
"""

import contextlib
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


class LocalWriter:
    """`UfsWriter` of one file. Used by one thread at a time."""

    def __init__(self, folder: Folder, path: str) -> None:
        self._path = path
        self._full_path = folder.full(path)
        self._fd = -1
        self._directory_fd = -1
        self._is_synced = False
        with naming(self._full_path), folder.parent(path, create=True) as (directory_fd, name):
            self._name = name
            self._temporary = TEMPORARY_START + os.urandom(_RANDOM_BYTES).hex()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, 0o666, dir_fd=directory_fd)
            self._directory_fd = os.dup(directory_fd)

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

    def commit(self) -> UfsStatus:
        self._require_open()
        with naming(self._full_path):
            self._keep_mode_of_replaced()
            if not self._is_synced:
                os.fsync(self._fd)
            os.rename(self._temporary, self._name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            self._temporary = ""
            os.fsync(self._directory_fd)
            status = status_of(os.fstat(self._fd), self._path)
        self._close()
        return status

    def abort(self) -> None:
        if self._temporary and self._directory_fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory_fd)
        self._close()

    def __del__(self) -> None:
        if self._fd >= 0:
            self.abort()

    def _require_open(self) -> None:
        if self._fd < 0:
            raise ValueError("the writer was committed or aborted: open another one")

    def _keep_mode_of_replaced(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False)
            if stat.S_ISREG(old.st_mode):
                os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def _close(self) -> None:
        for fd in (self._fd, self._directory_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._directory_fd = -1
