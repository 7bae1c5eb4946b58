"""A version of which this host's worker has a part: its container mapped, and what is missing asked for first.

Owns: what is known to be present, the handles at the worker through which more is brought in, and when the bytes come
through its socket after all. Never: fetches ahead by itself: the worker does, for readers that it sees going on.

What is present is answered at once, by the thread that read the request, from the container's own pages.
"""

import mmap
import os
import threading
from typing import Final

from isotach.base.errors import AuthenticationError, DeadlineExceededError, StaleVersionError, UnavailableError
from isotach.base.limits import DATA_CALL_DEADLINE_S, FUSE_SECURED_BYTES_MAX, FUSE_STREAMS_PER_FILE_MAX, PAGE_BYTES
from isotach.base.types import ReadBuffer, ReadType
from isotach.client.link import Link
from isotach.client.reading.opening import Opened, open_version
from isotach.fuse.files.content import StreamedContent
from isotach.fuse.files.streams import StreamPool
from isotach.wire.messages import ENSURE, EnsureRequest, StatReply


class _Container:
    """The container as it is mapped, and which of its pages are known to be there."""

    def __init__(self, descriptor: int, length: int, present_bytes: int) -> None:
        """Owns the descriptor: its lock keeps the bytes."""
        self._descriptor: Final = descriptor
        self._length: Final = length
        status = os.fstat(descriptor)
        self.identity: Final = (status.st_dev, status.st_ino)
        self._view: Final = memoryview(mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ))
        self._present: Final = bytearray(-(-length // PAGE_BYTES))
        self.note(0, present_bytes)

    def note(self, start: int, stop: int) -> None:
        """These bytes are there."""
        first = -(-start // PAGE_BYTES)
        last = len(self._present) if stop >= self._length else stop // PAGE_BYTES
        if last > first:
            self._present[first:last] = b"\1" * (last - first)

    def first_missing(self, offset: int, stop: int) -> int:
        """From where on not all is known to be there; `stop` or more: nothing is missing."""
        missing = self._present.find(0, offset // PAGE_BYTES, -(-stop // PAGE_BYTES))
        return stop if missing < 0 else max(offset, missing * PAGE_BYTES)

    def slice(self, offset: int, stop: int) -> memoryview:
        """Bytes that are there."""
        return self._view[offset:stop]

    def close(self) -> None:
        """The mapping lives as long as slices of it."""
        os.close(self._descriptor)


class _Line:
    """One handle at the worker; its calls go one after the other."""

    def __init__(self, opened: Opened | None) -> None:
        self.opened = opened
        self.lock: Final = threading.Lock()
        self.next_offset = 0
        self.waiting = 0


class PartialContent:
    """See the module. Safe for many threads."""

    def __init__(
        self, link: Link, found: StatReply, opened: Opened, pool: StreamPool, otherwise: StreamedContent
    ) -> None:
        """`opened`: with a descriptor and a handle. `otherwise` gives what the container cannot take."""
        self._link: Final = link
        self._found: Final = found
        self._length: Final = found.inode.length
        self._pool: Final = pool
        self._otherwise: Final = otherwise
        self._lock: Final = threading.Lock()
        self._container: _Container | None = None
        self._lines: list[_Line] = [_Line(None)]
        self._is_given_up = False
        self._adopt(self._lines[0], opened)
        pool.used(self)

    def read_now(self, offset: int, size: int) -> ReadBuffer | None:
        stop = min(offset + size, self._length)
        if offset >= stop:
            return b""
        container = self._container
        if container is None or container.first_missing(offset, stop) < stop:
            return None
        return container.slice(offset, stop)

    def read(self, offset: int, size: int) -> ReadBuffer:
        stop = min(offset + size, self._length)
        if offset >= stop:
            return b""
        while not self._is_given_up:
            container = self._container
            missing = offset if container is None else container.first_missing(offset, stop)
            if container is not None and missing >= stop:
                return container.slice(offset, stop)
            try:
                is_brought = self._bring(missing, stop)
            except (StaleVersionError, AuthenticationError, UnavailableError, DeadlineExceededError):
                is_brought = False  # the reader below finds another way, or the error to tell
            if not is_brought:
                self._is_given_up = True
        return self._otherwise.read(offset, size)

    def secure(self) -> None:
        if self._length > FUSE_SECURED_BYTES_MAX:
            return
        at = 0
        while at < self._length and not self._is_given_up:
            at += len(self.read(at, PAGE_BYTES))  # the container's lock keeps what is there
        if self._is_given_up:
            self._otherwise.secure()

    def close(self) -> None:
        self._is_given_up = True
        self._pool.remove(self)
        self._otherwise.close()
        self.rest()
        with self._lock:
            container, self._container = self._container, None
        if container is not None:
            container.close()

    def rest(self) -> None:
        """Gives back the connections of handles that nobody uses."""
        for line in list(self._lines):
            if line.lock.acquire(blocking=False):
                try:
                    if line.opened is not None:
                        line.opened.close()
                        line.opened = None
                finally:
                    line.lock.release()

    # --- inside ---

    def _bring(self, offset: int, stop: int) -> bool:
        """Waits until the byte at `offset` is present; False: the container does not take it."""
        line = self._fitting(offset, stop)
        try:
            with line.lock:
                if line.opened is None and not self._adopt(line, open_version(self._link, self._found, ReadType.CACHE)):
                    return False
                container, opened = self._container, line.opened
                assert container is not None
                if opened is None or container.first_missing(offset, stop) > offset:
                    return True  # it came meanwhile
                assert opened.connection is not None
                request = EnsureRequest(opened.handle, offset, stop - offset)
                try:
                    reply, _ = opened.connection.call(ENSURE, request, deadline_s=DATA_CALL_DEADLINE_S)
                except BaseException:
                    opened.close()
                    line.opened = None
                    raise
                if reply.present_to <= offset:
                    return False
                container.note(offset, reply.present_to)
                return container.first_missing(offset, stop) > offset
        finally:
            with self._lock:
                line.waiting -= 1
            self._pool.used(self)

    def _adopt(self, line: _Line, opened: Opened) -> bool:
        """Takes over what the worker gave; False: that is of no use here."""
        if opened.fd < 0:
            opened.close()
            return False
        descriptor, opened.fd = opened.fd, -1
        present_bytes = self._length if opened.handle == 0 else opened.present_bytes
        try:
            fresh = _Container(descriptor, self._length, present_bytes)
        except BaseException:
            os.close(descriptor)
            opened.close()
            raise
        with self._lock:
            known = self._container
            if known is not None and known.identity == fresh.identity:
                known.note(0, present_bytes)
                known, fresh = fresh, known
            self._container = fresh
        if known is not None:
            known.close()
        line.opened = None if opened.handle == 0 else opened
        return True

    def _fitting(self, offset: int, stop: int) -> _Line:
        """The line that comes to this offset next; else an idle one, else one more, else the shortest queue."""
        with self._lock:
            line = next((each for each in self._lines if each.next_offset == offset), None)
            line = line or next((each for each in self._lines if not each.waiting), None)
            if line is None and len(self._lines) < FUSE_STREAMS_PER_FILE_MAX:
                line = _Line(None)
                self._lines.append(line)
            if line is None:
                line = min(self._lines, key=lambda each: each.waiting)
            line.waiting += 1
            line.next_offset = stop
            return line
