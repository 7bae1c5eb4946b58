"""What is done to a container file: write, read, copy, punch, and the test of who has it open.

Owns: the system calls. Never: knows versions, indexes or quotas; every function takes a descriptor.
"""

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterable
from typing import Final

from isotach.base.limits import PAGE_BYTES
from isotach.base.types import ReadBuffer

_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2
_COPY_BYTES: Final = 8 * PAGE_BYTES
#: The kernel or the quota says that no byte more fits.
FULL_ERRNOS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


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


def copy_ranges(source: int, target: int, ranges: Iterable[tuple[int, int]]) -> None:
    """Copies byte ranges [start, end) to the same places of another file."""
    for start, end in ranges:
        for at in range(start, end, _COPY_BYTES):
            write_all(target, read_exactly(source, min(_COPY_BYTES, end - at), at), at)


def lock_shared(descriptor: int) -> None:
    """Says "in use" for as long as any copy of this descriptor, or a mapping of it, lives."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def note_access(descriptor: int, mtime_ns: int) -> None:
    """Says "used just now" to the evictor, by the access time of the file (about 1 us): for readers beside the worker,
    which cannot touch its order of use. The kernel itself leaves it alone, see `Tier.open`."""
    os.utime(descriptor, ns=(time.time_ns(), mtime_ns))


def is_in_use(descriptor: int) -> bool:
    """Whether somebody holds a descriptor that was passed out. `descriptor` must be one of its own (freshly opened)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
