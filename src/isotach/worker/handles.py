"""What a connection holds: its open reads and writes, which end with it.

Owns: the handle numbers of one connection. Never: outlives it: `close` drops every unfinished write.
"""

from typing import Protocol, TypeVar

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import OPEN_HANDLES_PER_CONNECTION_MAX


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
        self.buffer = bytearray()  # for payloads, grown once

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

    def close(self) -> None:
        """Ends them all."""
        handles, self._by_number = list(self._by_number.values()), {}
        for handle in handles:
            handle.close()
