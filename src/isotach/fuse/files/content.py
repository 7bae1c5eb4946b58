"""The bytes of one version for the readers of a node that the daemon serves.

Owns: the three kinds: nothing, a whole container, and what is read through readers of the client library. Never: mixes
two versions: what can no longer be read fails with ESTALE or EIO.
"""

import errno
import mmap
import os
import threading
from typing import Final, Protocol

from isotach.base.errors import DeadlineExceededError, UnavailableError, os_error
from isotach.base.limits import FUSE_SECURED_BYTES_MAX, PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.fuse.files.streams import Stream, StreamPool


class Content(Protocol):
    """Bytes of one version."""

    def read_now(self, offset: int, size: int) -> ReadBuffer | None:
        """The bytes, fewer at the end, if they are at hand; None: `read` must wait for them."""

    def read(self, offset: int, size: int) -> ReadBuffer:
        """The bytes, fewer at the end. May take long. Raises OSError."""

    def secure(self) -> None:
        """The file is about to be removed: sees to it that its bytes can be read afterwards. May take long."""

    def close(self) -> None:
        """Nobody reads any more."""


class EmptyContent:
    """No bytes at all."""

    def read_now(self, offset: int, size: int) -> ReadBuffer | None:
        return b""

    def read(self, offset: int, size: int) -> ReadBuffer:
        return b""

    def secure(self) -> None:
        pass

    def close(self) -> None:
        pass


class WholeContent:
    """A whole container, mapped: a reply is copied once, from its pages into the reader's."""

    def __init__(self, descriptor: int, length: int) -> None:
        """Owns the descriptor, whose lock keeps the bytes. Raises OSError."""
        self._descriptor = descriptor
        try:
            self._mapping: Final = mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(descriptor)
            raise
        self._view: Final = memoryview(self._mapping)
        self._length: Final = length

    def read_now(self, offset: int, size: int) -> ReadBuffer | None:
        return self._view[offset : offset + size]

    def read(self, offset: int, size: int) -> ReadBuffer:
        return self._view[offset : offset + size]

    def secure(self) -> None:
        pass  # the descriptor's lock keeps them

    def close(self) -> None:
        # A reply in another thread may still hold a slice: the pages live until it is sent, as the mapping does.
        os.close(self._descriptor)


class StreamedContent:
    """A version that is not whole here: read by streams that each go on where they stand."""

    def __init__(self, pool: StreamPool, first: Stream, length: int) -> None:
        self._pool: Final = pool
        self._first: Final = first
        self._length: Final = length
        self._lock: Final = threading.Lock()
        self._streams: list[Stream] = [first]
        self._closed = False
        self._copy: WholeContent | None = None  # made before the file is removed

    def read_now(self, offset: int, size: int) -> ReadBuffer | None:
        if offset >= self._length or not size:
            return b""
        return None if self._copy is None else self._copy.read_now(offset, size)

    def read(self, offset: int, size: int) -> ReadBuffer:
        size = min(size, self._length - offset)
        if size <= 0:
            return b""
        if self._copy is not None:
            return self._copy.read(offset, size)
        with self._lock:
            if self._closed:
                raise os_error(errno.EBADF, "the file was closed while it was being read")
            stream = self._fitting(offset)
            ticket = stream.queue(offset, size)
        try:
            return stream.read(ticket, offset, size)
        except (UnavailableError, DeadlineExceededError) as problem:
            raise os_error(errno.EIO, f"nobody gives the file's bytes at present: {problem}") from problem
        finally:
            self._pool.used(stream)

    def secure(self) -> None:
        if self._copy is not None or self._length > FUSE_SECURED_BYTES_MAX:
            return
        descriptor = os.memfd_create("isotach-removed", os.MFD_CLOEXEC)
        try:
            at = 0
            while at < self._length:
                at += os.pwrite(descriptor, self.read(at, PAGE_BYTES), at)
        except BaseException:
            os.close(descriptor)
            raise
        self._copy = WholeContent(descriptor, self._length)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            streams, self._streams = self._streams, []
        for stream in streams:
            self._pool.remove(stream)
            stream.close()
        if self._copy is not None:
            self._copy.close()

    def _fitting(self, offset: int) -> Stream:
        """The stream that comes to this offset next; else an idle one, else one more, else the shortest queue."""
        for stream in self._streams:
            if stream.next_offset == offset:
                return stream
        idle = next((stream for stream in self._streams if not stream.waiting), None)
        if idle is not None:
            return idle
        if len(self._streams) < self._pool.streams_per_file:
            stream = self._first.another()
            self._streams.append(stream)
            return stream
        return min(self._streams, key=lambda stream: stream.waiting)
