"""What a connection holds: its open reads and writes, which end with it.

Owns: the handle numbers of one connection. Never: outlives it: `close` drops every unfinished write.
"""

from typing import Protocol, TypeVar

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import OPEN_HANDLES_PER_CONNECTION_MAX, PASSING_PIECE_BYTES, WRITE_CHUNK_BYTES
from isotach.worker.buffers import BufferBudget, Share


class Handle(Protocol):
    """Something that a connection's end ends."""

    def close(self) -> None:
        """Releases it; an unfinished write is dropped."""


H = TypeVar("H", bound=Handle)


class Handles:
    """The state of one connection; used by its thread only."""

    def __init__(self) -> None:
        self._by_number: dict[int, Handle] = {}
        self._last = 0
        self._buffer = bytearray()  # for payloads
        self._share: Share | None = None  # of the memory for writes that it takes

    def add(self, handle: Handle) -> int:
        """The handle's number, from 1. Raises InvalidArgumentError when the connection has too many."""
        if len(self._by_number) >= OPEN_HANDLES_PER_CONNECTION_MAX:
            raise InvalidArgumentError(
                f"this connection has {OPEN_HANDLES_PER_CONNECTION_MAX} files open at this worker: close some"
            )
        self._last += 1
        self._by_number[self._last] = handle
        return self._last

    def get(self, number: int, kind: type[H]) -> H:
        """The handle of that number. Raises InvalidArgumentError for one that is not open, or of another kind."""
        handle = self._by_number.get(number)
        if not isinstance(handle, kind):
            raise InvalidArgumentError(f"handle {number} is not open on this connection: open the file again")
        return handle

    def pop(self, number: int) -> Handle | None:
        """Takes the handle out, for its end."""
        return self._by_number.pop(number, None)

    def grown(self, wanted: int, budget: BufferBudget) -> bytearray:
        """The connection's buffer for payloads, of `wanted` bytes; smaller when there is no memory for that now."""
        if len(self._buffer) >= wanted:
            return self._buffer
        size = wanted if wanted < WRITE_CHUNK_BYTES // 4 else WRITE_CHUNK_BYTES
        if size > PASSING_PIECE_BYTES:
            share = budget.take(size)
            if share is None:
                size = PASSING_PIECE_BYTES
            else:
                self._share = share
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        return self._buffer

    def shrink(self) -> None:
        """A file is done: with no other open here, a large buffer is given back."""
        if self._share is not None and not self._by_number:
            self._buffer, self._share = bytearray(), None

    def close(self) -> None:
        """Ends them all."""
        self._buffer, self._share = bytearray(), None
        handles, self._by_number = list(self._by_number.values()), {}
        for handle in handles:
            handle.close()
