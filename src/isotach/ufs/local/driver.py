"""The under storage in a folder.

Owns: files and directories below one root, through the kernel. Special files, dangling links, links that leave
the root and our own temporary files are not there for anybody.
Never: follows a symbolic link out of the root (PermissionError), or caches anything.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from typing import Final

from isotach.base.errors import StaleVersionError, os_error
from isotach.base.limits import UFS_DELETE_ROUNDS_MAX, UFS_LIST_PAGE_ENTRIES, UFS_MOUNT_CHECK_TIMEOUT_S
from isotach.base.types import ReadBuffer
from isotach.ufs.deadline import run_within
from isotach.ufs.interface import Capabilities, RangeReader, UfsStatus, UfsWriter
from isotach.ufs.local.faults import is_transient, naming
from isotach.ufs.local.folder import Folder
from isotach.ufs.local.status import fingerprint_of, is_ordinary, status_of
from isotach.ufs.local.writer import TEMPORARY_START, LocalWriter
from isotach.ufs.ranges import WholeRange

CAPABILITIES: Final = Capabilities(
    atomic_rename=True, real_directories=True, object_store=False, set_mode=True, ranged_if_match=False
)


class LocalUnderStorage:
    """`UnderStorage` over the folder `root` (absolute)."""

    def __init__(self, root: str) -> None:
        self._folder = Folder(root)

    @property
    def uri(self) -> str:
        return f"file://{self._folder.root}"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def check(self, read_only: bool) -> None:
        run_within(UFS_MOUNT_CHECK_TIMEOUT_S, self.uri, lambda: self._check(read_only))

    def stat(self, path: str) -> UfsStatus:
        with naming(self._folder.full(path)):
            if not path:
                self._folder.require_root()
                return status_of(os.stat(self._folder.root), "")
            with self._folder.parent(path) as (fd, name):
                state = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISLNK(state.st_mode):
                    state = self._target_state(path)
            self._refuse_hidden(path)
            if not is_ordinary(state):
                raise FileNotFoundError(errno.ENOENT, "neither a file nor a directory")
            return status_of(state, path)

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        after = os.fsencode(start_after.removesuffix("/"))
        with naming(self._folder.full(path)), self._folder.directory(path) as fd, os.scandir(fd) as entries:
            page: list[UfsStatus] = []
            for entry in entries:
                if after and os.fsencode(entry.name) <= after:
                    continue
                status = self._entry_status(entry, f"{path}/{entry.name}" if path else entry.name)
                if status is None:
                    continue
                page.append(status)
                if len(page) == UFS_LIST_PAGE_ENTRIES:
                    yield page
                    page = []
        if page:
            yield page

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        """Directories come before what is in them; links to directories are not entered, since they may form loops."""
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            try:
                for page in self.list_pages(directory):
                    yield page
                    waiting.extend(status.path for status in page if status.is_dir and not self._is_link(status.path))
            except FileNotFoundError:
                if directory == path:
                    raise
                continue  # removed while we walked

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        with naming(self._folder.full(path)), self._folder.file(path) as fd:
            state = os.fstat(fd)
            if stat.S_ISDIR(state.st_mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            if not stat.S_ISREG(state.st_mode):
                raise FileNotFoundError(errno.ENOENT, "neither a file nor a directory")
            self._require_same(fd, fingerprint, path)
            data = _pread_all(fd, length, offset)
            self._require_same(fd, fingerprint, path)
            return data

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        return WholeRange(self.read_range(path, offset, length, fingerprint))

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        if self._is_hidden(path):
            raise os_error(
                errno.EACCES, f"names that start with {TEMPORARY_START!r} are reserved", self._folder.full(path)
            )
        writer = LocalWriter(self._folder, path)
        if os.path.isdir(self._folder.full(path)):
            writer.abort()
            raise os_error(errno.EISDIR, "is a directory", self._folder.full(path))
        return writer

    def delete(self, path: str) -> None:
        with naming(self._folder.full(path)), self._folder.parent(path) as (fd, name):
            self._refuse_hidden(path)
            os.unlink(name, dir_fd=fd)
            os.fsync(fd)

    def delete_directory(self, path: str, recursive: bool) -> None:
        with naming(self._folder.full(path)), self._folder.parent(path) as (fd, name):
            if recursive and not self._is_link(path):
                os.stat(name, dir_fd=fd)
                _remove_tree(name, fd)
            else:
                _remove_empty(name, fd)
            os.fsync(fd)

    def rename(self, src: str, dst: str) -> None:
        with naming(self._folder.full(src)), self._folder.parent(src) as (src_fd, src_name):
            self._refuse_hidden(src)
            os.stat(src_name, dir_fd=src_fd, follow_symlinks=False)
            if dst.startswith(f"{src}/"):
                raise OSError(errno.EINVAL, "into itself")
            with naming(self._folder.full(dst)), self._folder.parent(dst, create=True) as (dst_fd, dst_name):
                os.rename(src_name, dst_name, src_dir_fd=src_fd, dst_dir_fd=dst_fd)
                os.fsync(dst_fd)
            os.fsync(src_fd)

    def mkdir(self, path: str) -> None:
        with naming(self._folder.full(path)), self._folder.directory(path, create=True):
            return

    def set_mode(self, path: str, mode: int) -> None:
        with naming(self._folder.full(path)):
            if not path:
                os.chmod(self._folder.root, mode)
                return
            with self._folder.parent(path) as (fd, name):
                if not stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    os.chmod(name, mode, dir_fd=fd)

    def clean_leftovers(self, older_than_s: float) -> int:
        oldest_kept_s = time.time() - older_than_s
        count = 0
        with naming(self._folder.root):
            for _, _, names, fd in os.fwalk(self._folder.root):
                for name in names:
                    if name.startswith(TEMPORARY_START):
                        with contextlib.suppress(FileNotFoundError):
                            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime <= oldest_kept_s:
                                os.unlink(name, dir_fd=fd)
                                count += 1
        return count

    def drop_leftover(self, path: str, leftover: str) -> None:
        if not self._is_hidden(leftover):
            raise os_error(errno.EINVAL, "this is no temporary file of Isotach", self._folder.full(path))
        with naming(self._folder.full(leftover)), contextlib.suppress(FileNotFoundError):
            self._folder.require_root()
            with self._folder.parent(leftover) as (fd, name):
                os.unlink(name, dir_fd=fd)

    def is_transient(self, error: BaseException) -> bool:
        return is_transient(error)

    def close(self) -> None:
        return

    def _check(self, read_only: bool) -> None:
        root = self._folder.root
        with naming(root):
            self._folder.require_root()
            if not os.path.isdir(root):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory")
            with os.scandir(root) as entries:
                next(entries, None)
            if read_only:
                return
            if os.statvfs(root).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, "read-only")
            if not os.access(root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")

    def _entry_status(self, entry: "os.DirEntry[str]", path: str) -> UfsStatus | None:
        if entry.name.startswith(TEMPORARY_START):
            return None
        try:
            if entry.is_symlink():
                state = self._target_state(path)
            else:
                state = entry.stat(follow_symlinks=False)
        except (FileNotFoundError, PermissionError):
            return None  # gone since, or a link that leads nowhere or out
        return status_of(state, path) if is_ordinary(state) else None

    def _target_state(self, path: str) -> os.stat_result:
        """What a link inside the root stands for; PermissionError when it leads out."""
        full_path = self._folder.full(path)
        if not self._folder.is_within(os.path.realpath(full_path)):
            message = "a symbolic link leads out of the mounted folder: mount the link's target instead"
            raise os_error(errno.EACCES, message, full_path)
        return os.stat(full_path)

    def _is_link(self, path: str) -> bool:
        return os.path.islink(self._folder.full(path))

    def _require_same(self, fd: int, fingerprint: str | None, path: str) -> None:
        if fingerprint is not None and fingerprint_of(os.fstat(fd)) != fingerprint:
            message = "the file is not that content any more: look the path up again"
            raise StaleVersionError(errno.ESTALE, message, self._folder.full(path))

    def _is_hidden(self, path: str) -> bool:
        return path.rpartition("/")[2].startswith(TEMPORARY_START)

    def _refuse_hidden(self, path: str) -> None:
        if self._is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, "a temporary file of Isotach")


def _pread_all(fd: int, length: int, offset: int) -> bytes:
    """Reads until `length` bytes or the end of the file: one system call may give fewer (over 2 GiB, NFS)."""
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]
    total = len(data)
    while total < length:
        piece = os.pread(fd, length - total, offset + total)
        if not piece:
            break
        pieces.append(piece)
        total += len(piece)
    return b"".join(pieces)


def _remove_empty(name: str, parent_fd: int) -> None:
    """rmdir; hidden temporary files of ours (of a file system that has no unnamed ones) do not make it full."""
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            names = os.listdir(fd)
            if not all(each.startswith(TEMPORARY_START) for each in names):
                raise
            for each in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(each, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent_fd)


def _remove_tree(name: str, parent_fd: int) -> None:
    """A writer below may make or take away its temporary file while we go through: then we go through again."""
    for _ in range(UFS_DELETE_ROUNDS_MAX - 1):
        try:
            shutil.rmtree(name, dir_fd=parent_fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
        else:
            return
    shutil.rmtree(name, dir_fd=parent_fd)
