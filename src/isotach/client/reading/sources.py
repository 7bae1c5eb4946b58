"""Where the bytes of one open version come from: a whole container, a partial one, or the worker's socket.

Owns: the three kinds of source and their read-ahead windows. Never: retries or reopens (`version_reader.py`).

Each `read_into(offset, view)` is asked for bytes that exist (the caller clips to the file's length) and gives at least
one. Sources are for one thread at a time.
"""

import os
from collections import deque
from typing import Protocol

from isotach.base.errors import ProtocolError, UnavailableError
from isotach.base.limits import (
    DATA_CALL_DEADLINE_S,
    KIB,
    STREAM_CHUNK_BYTES,
    STREAM_SKIP_BYTES_MAX,
    STREAM_WINDOW_BYTES_MAX,
)
from isotach.client.reading.opening import Opened
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import ENSURE, READ, EnsureRequest, ReadRequest


class Source(Protocol):
    """Gives bytes at an offset."""

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fills the start of `view`; how many bytes."""

    def suits(self, offset: int) -> bool:
        """Whether reading at `offset` is cheaper here than from a source opened anew."""


class WholeSource:
    """The container is complete: plain reads of its descriptor."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def read_into(self, offset: int, view: memoryview) -> int:
        return os.preadv(self._opened.fd, [view], offset)

    def suits(self, offset: int) -> bool:
        return offset >= 0


class PartialSource:
    """The container is at hand, but not yet all of it: what is known to be present is read from the descriptor, the
    rest is asked for first. Once the worker says that its cache is full, the bytes come through the socket."""

    def __init__(self, opened: Opened, length: int) -> None:
        self._opened = opened
        self._present = (0, opened.present_bytes)
        self._length = length
        self._socket_source: SocketSource | None = None

    def read_into(self, offset: int, view: memoryview) -> int:
        if self._socket_source is not None:
            return self._socket_source.read_into(offset, view)
        start, stop = self._present
        if not start <= offset < stop:
            if not self._ensure(offset, len(view)):
                self._socket_source = SocketSource(self._opened, self._length)
                return self._socket_source.read_into(offset, view)
            stop = self._present[1]
        return os.preadv(self._opened.fd, [view[: stop - offset]], offset)

    def suits(self, offset: int) -> bool:
        return self._socket_source is None or self._socket_source.suits(offset)

    def _ensure(self, offset: int, size: int) -> bool:
        connection = _connection_of(self._opened)
        reply, _ = connection.call(
            ENSURE, EnsureRequest(self._opened.handle, offset, size), deadline_s=DATA_CALL_DEADLINE_S
        )
        if reply.present_to <= offset:
            return False
        start, stop = self._present
        self._present = (start, reply.present_to) if offset == stop else (offset, reply.present_to)
        return True


class SocketSource:
    """Bytes through the worker's socket, received into the caller's memory. Sequential reading keeps several requests
    under way, so that the worker never waits for the next one; any other reading asks for just what is wanted."""

    def __init__(self, opened: Opened, length: int) -> None:
        self._connection = _connection_of(opened)
        self._handle = opened.handle
        self._length = length
        self._asked: deque[tuple[int, int]] = deque()  # (call id, bytes) of requests whose answers have not begun
        self._position = 0  # of the next byte that the pipeline gives
        self._asked_to = 0
        self._window_bytes = 0

    def read_into(self, offset: int, view: memoryview) -> int:
        if offset == self._position:
            self._window_bytes = min(STREAM_WINDOW_BYTES_MAX, max(2 * self._window_bytes, 64 * KIB))
        else:
            self._move(offset)
        size, filled = len(view), 0
        while filled < size:
            self._ask(size - filled)
            if not self._connection.payload_left:
                self._begin_answer()
            count = self._connection.receive_payload_into(view[filled:] if filled else view)
            filled += count
            self._position += count
        return filled

    def suits(self, offset: int) -> bool:
        skip = offset - self._position
        return self._under_way == 0 or 0 <= skip <= STREAM_SKIP_BYTES_MAX or self._under_way <= STREAM_SKIP_BYTES_MAX

    @property
    def _under_way(self) -> int:
        return self._asked_to - self._position

    def _move(self, offset: int) -> None:
        """Goes to `offset`: forward through what is under way, else by letting it pass."""
        skip = offset - self._position
        if 0 < skip <= min(self._under_way, STREAM_SKIP_BYTES_MAX):
            self._drop(skip)
            return
        self._drop(self._under_way)
        self._position = self._asked_to = offset
        self._window_bytes = 0

    def _drop(self, count: int) -> None:
        scratch = memoryview(bytearray(min(count, 256 * KIB)))
        while count:
            if not self._connection.payload_left:
                self._begin_answer()
            dropped = self._connection.receive_payload_into(scratch[:count] if count < len(scratch) else scratch)
            count -= dropped
            self._position += dropped

    def _ask(self, wanted: int) -> None:
        """Sends requests so that `wanted` bytes, and the window beyond, are under way; small gaps wait to grow."""
        window = max(min(wanted, STREAM_WINDOW_BYTES_MAX), self._window_bytes)
        stop = min(self._length, self._position + window)
        urgent = min(self._length, self._position + min(wanted, STREAM_WINDOW_BYTES_MAX))
        while self._asked_to < stop:
            size = min(stop - self._asked_to, STREAM_CHUNK_BYTES)
            if self._asked_to >= urgent and size < min(STREAM_CHUNK_BYTES, window // 2) and stop < self._length:
                return
            request = ReadRequest(self._handle, self._asked_to, size)
            self._asked.append((self._connection.send(READ, request, deadline_s=DATA_CALL_DEADLINE_S), size))
            self._asked_to += size

    def _begin_answer(self) -> None:
        call_id, size = self._asked.popleft()
        reply, payload_bytes = self._connection.receive_header(call_id, deadline_s=DATA_CALL_DEADLINE_S)
        if payload_bytes != size or reply.length != size:
            self._connection.abort()
            raise ProtocolError(f"{self._connection.address} sent {payload_bytes} bytes of a file where {size} are due")


def source_of(opened: Opened, length: int) -> Source:
    """The source that fits what the worker gave."""
    if opened.handle == 0:
        return WholeSource(opened)
    if opened.fd >= 0:
        return PartialSource(opened, length)
    return SocketSource(opened, length)


def _connection_of(opened: Opened) -> BlockingConnection:
    if opened.connection is None:
        raise UnavailableError("the file's connection to its worker is closed: open the file again")
    return opened.connection
