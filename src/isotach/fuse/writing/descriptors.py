"""Descriptors that several threads read from while another one may replace them.

Owns: closing each with its last user, and copying between two of them in the kernel, holes left out. Never: knows what
the bytes are.
"""

import errno
import os

from isotach.base.limits import FUSE_COPY_BYTES
from isotach.blockstore.container import copy_ranges, lock_shared

_NO_KERNEL_COPY = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))


class OwnedDescriptor:
    """Closed when nobody refers to it any more: whoever is about to use `number` keeps a reference meanwhile."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


def read_only(held: OwnedDescriptor) -> OwnedDescriptor:
    """The same file, for reading, with the lock that keeps its bytes from the evictor. Raises OSError."""
    again = OwnedDescriptor(os.open(f"/proc/self/fd/{held.number}", os.O_RDONLY | os.O_CLOEXEC))
    lock_shared(again.number)
    return again


def data_ranges(descriptor: int, start: int, stop: int) -> list[tuple[int, int]]:
    """Where [start, stop) of a file has data, as its file system tells: the rest reads as zeros."""
    found: list[tuple[int, int]] = []
    while start < stop:
        try:
            begin = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:  # nothing but a hole from here on
                break
            found.append((start, stop))
            break
        if begin >= stop:
            break
        end = min(stop, os.lseek(descriptor, begin, os.SEEK_HOLE))
        found.append((begin, end))
        start = end
    return found


def copy_data(source: int, target: int, start: int, stop: int) -> None:
    """Copies the data of [start, stop) to the same place of another file, by the kernel where it can; holes stay what
    they are in `target`, so that has to read as zeros there. Raises OSError."""
    copy_ranges(source, target, data_ranges(source, start, stop))


def copy_across(source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
    """Copies to any place of another file (or of the same, if the ranges do not overlap); how many bytes, which is
    less where the source ends. Raises OSError."""
    done = 0
    in_kernel = True
    while done < length:
        size = min(length - done, FUSE_COPY_BYTES)
        if in_kernel:
            try:
                count = os.copy_file_range(source, target, size, source_offset + done, target_offset + done)
            except OSError as problem:
                if problem.errno not in _NO_KERNEL_COPY:
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, size, source_offset + done)
            count = os.pwrite(target, data, target_offset + done) if data else 0
        if not count:
            break
        done += count
    return done
