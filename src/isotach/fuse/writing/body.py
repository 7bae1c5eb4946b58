"""Where the bytes of a file being written lie until they are published: what all such places have in common, and the
smallest of them, memory of the daemon.

Owns: the interface `Body`, `MemoryBody`, and the memory that all such files may take together. Never: decides when a
file is published or which kind of body it gets (`live_file.py`, `bodies.py`).

Gaps of a body read as zeros, and so does everything beyond its end.
"""

import threading
from typing import Protocol

from isotach.base.errors import IsotachError
from isotach.base.types import Inode, ReadBuffer
from isotach.fuse.writing.descriptors import OwnedDescriptor
from isotach.fuse.writing.grants import Grants


class BodyLostError(IsotachError):
    """The body cannot be written or published any more (its worker went away); what was written can still be read."""

    def __init__(self) -> None:
        super().__init__("the worker that held the file being written went away: see its log")


class BodyFullError(IsotachError):
    """No more fits into bodies of this kind; another kind may do."""


class Body(Protocol):
    """Changed by one thread at a time, read by any."""

    @property
    def descriptor(self) -> OwnedDescriptor | None:
        """The file in which the bytes lie, at their own offsets."""

    def has_room(self, end: int, size: int) -> bool:
        """Whether `prepare` has nothing to do."""

    def prepare(self, end: int, size: int) -> None:
        """Before `size` bytes are written up to the offset `end`. Raises BodyLostError, BodyFullError,
        OSError(ENOSPC)."""

    def read(self, offset: int, size: int) -> ReadBuffer:
        """`size` bytes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Raises OSError."""

    def set_length(self, length: int) -> None:
        """Drops what is beyond."""

    def punch(self, offset: int, length: int) -> None:
        """Zeros, without room for them where that can be."""

    def publish(self, length: int, mtime_ns: int, keep: bool) -> Inode | None:
        """Makes it the file's content. `keep`: it will be written to again. None: the file was removed. Raises
        BodyLostError, and what forbids it."""

    def sync(self, length: int) -> bool:
        """Sees to it that the bytes survive this process; False: only publishing does."""

    @property
    def is_frozen(self) -> bool:
        """Whether it may be published but not changed: it may be a version already."""

    @property
    def lasts(self) -> bool:
        """Whether it is still there after it was published without `keep`."""

    def drop(self) -> None:
        """Gives up what is not published. Never raises."""


class MemoryBudget:
    """The bytes that all memory bodies of a mount hold."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether they were free."""
        with self._lock:
            if self._used + size > self._limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size


class MemoryBody:
    """A small file in a bytearray, published by one call."""

    descriptor = None
    is_frozen = False
    lasts = True

    def __init__(self, budget: MemoryBudget, size_max: int, grants: Grants) -> None:
        self._budget = budget
        self._size_max = size_max
        self._grants = grants
        self._data = bytearray()
        self._taken = 0

    def has_room(self, end: int, size: int) -> bool:
        return end <= self._taken

    def prepare(self, end: int, size: int) -> None:
        if end <= self._taken:
            return
        wanted = min(self._size_max, max(2 * self._taken, -(-end // 4096) * 4096))
        if end > self._size_max or not self._budget.take(wanted - self._taken):
            raise BodyFullError
        self._taken = wanted

    def read(self, offset: int, size: int) -> ReadBuffer:
        found = self._data[offset : offset + size]
        return found if len(found) == size else bytes(found).ljust(size, b"\0")

    def write(self, offset: int, data: memoryview) -> None:
        gap = offset - len(self._data)
        if gap > 0:
            self._data += bytes(gap)
        self._data[offset : offset + len(data)] = data

    def set_length(self, length: int) -> None:
        del self._data[length:]

    def punch(self, offset: int, length: int) -> None:
        stop = min(offset + length, len(self._data))
        if offset < stop:
            self._data[offset:stop] = bytes(stop - offset)

    def publish(self, length: int, mtime_ns: int, keep: bool) -> Inode | None:
        if len(self._data) < length:
            self._data += bytes(length - len(self._data))
        return self._grants.publish_bytes(memoryview(self._data)[:length], mtime_ns)

    def sync(self, length: int) -> bool:
        return False

    def drop(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0
