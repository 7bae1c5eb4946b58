"""What is done to a container file: write, read, copy, punch, and the test of who has it open.

Owns: the system calls. Never: knows versions, indexes or quotas; every function takes a descriptor.
"""

import ctypes
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from isotach.base.limits import MOVE_PIECE_BYTES, PAGE_BYTES
from isotach.base.types import ReadBuffer

_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2
_COPY_BYTES: Final = PAGE_BYTES // 2
_SYNC_WAIT_BEFORE: Final = 1
_SYNC_WRITE: Final = 2
_SYNC_WAIT_AFTER: Final = 4
#: Two file systems between which the kernel does not copy by itself; sendfile or plain copies do.
_NO_KERNEL_COPY: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
_TMPFS_MAGIC: Final = 0x01021994
_RAMFS_MAGIC: Final = 0x858458F6
#: The kernel or the quota says that no byte more fits.
FULL_ERRNOS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


def write_all(descriptor: int, data: ReadBuffer, offset: int) -> None:
    """Writes the whole buffer at `offset`. Raises OSError, ENOSPC among them, possibly after a part was written."""
    written = os.pwrite(descriptor, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < view.nbytes:
        written += os.pwrite(descriptor, view[written:], offset + written)


def read_exactly(descriptor: int, length: int, offset: int) -> bytes:
    """`length` bytes from `offset`; fewer only where the file ends."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    parts = [data]
    got = len(data)
    while got < length and (part := os.pread(descriptor, length - got, offset + got)):
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def punch(descriptor: int, offset: int, length: int) -> None:
    """Gives the blocks of this range back to the file system; the range reads as zeros from then on."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    if _libc.fallocate(descriptor, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def copy_piece(source: int, target: int, offset: int, length: int) -> int:
    """Copies up to `length` bytes to the same place of another file, in the kernel where it can; how many, which is
    less (even 0) where the source ends."""
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    buffer = _copying.buffer
    at, end = offset, offset + length
    while at < end:
        size = os.preadv(source, [buffer[: min(len(buffer), end - at)]], at)
        if not size:
            break
        write_all(target, buffer[:size], at)
        at += size
    return at - offset


class _Copying(threading.local):
    """The buffer of each thread that copies: stays in a core's cache between reading and writing."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_COPY_BYTES))


_copying: Final = _Copying()


def copy_ranges(
    source: int, target: int, ranges: Iterable[tuple[int, int]], copied: Callable[[int, int, int], None] | None = None
) -> None:
    """Copies byte ranges [start, end) to the same places of another file, in pieces; `copied(target, offset, size)`
    is told of each. Ends early where the source ends."""
    for start, end in ranges:
        at = start
        while at < end:
            size = copy_piece(source, target, at, min(MOVE_PIECE_BYTES, end - at))
            if not size:
                break
            if copied is not None:
                copied(target, at, size)
            at += size


def data_ranges(descriptor: int, length: int) -> list[tuple[int, int]]:
    """The byte ranges [start, end) below `length` in which anything may have been written; all else reads as zeros. A
    file system that does not tell has one range."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < length:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                break
            if error.errno != errno.EINVAL:
                raise
            start, end = at, length
        if start < length:
            ranges.append((start, min(end, length)))
        at = end
    return ranges


def is_open_for_writing(descriptor: int) -> bool:
    """Whether anybody may still write to the file of this descriptor, which is read-only and ours alone: the kernel
    grants a read lease (fcntl(2), F_SETLEASE) only while nobody can. Unsure counts as yes."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False


def begin_write_back(descriptor: int, offset: int, length: int) -> None:
    """Lets the kernel begin to write this range to the disk. Never waits for it to get there."""
    _libc.sync_file_range(descriptor, offset, length, _SYNC_WRITE)


def await_write_back(descriptor: int, offset: int, length: int) -> None:
    """Waits until this range has been handed to the disk (that is no fsync: errors show there)."""
    _libc.sync_file_range(descriptor, offset, length, _SYNC_WAIT_BEFORE | _SYNC_WRITE | _SYNC_WAIT_AFTER)


def is_in_memory(descriptor: int) -> bool:
    """Whether the file system of this file or folder keeps its bytes in memory only (tmpfs, ramfs)."""
    status = (ctypes.c_long * 64)()  # the first field of struct statfs is its type; the rest is shorter than this
    if _libc.fstatfs(descriptor, ctypes.byref(status)) != 0:
        return False
    return status[0] in (_TMPFS_MAGIC, _RAMFS_MAGIC)


def lock_shared(descriptor: int) -> None:
    """Says "in use" for as long as any copy of this descriptor, or a mapping of it, lives."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def note_access(descriptor: int, mtime_ns: int) -> None:
    """Says "used just now" to the evictor, by the access time of the file (about 1 us): for readers beside the worker,
    which cannot touch its order of use. The kernel itself leaves it alone, see `Folder.open`."""
    os.utime(descriptor, ns=(time.time_ns(), mtime_ns))


def is_in_use(descriptor: int) -> bool:
    """Whether somebody holds a descriptor that was passed out. `descriptor` must be one of its own (freshly opened)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
