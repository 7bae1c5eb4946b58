"""How many bytes of reads may be on their way through the daemon at once.

Owns: the count and who waits. Never: holds the bytes.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Final


class ReadMemory:
    """A budget of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes: Final = limit_bytes
        self._room: Final = threading.Condition()
        self._taken_bytes = 0

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Waits until there is room for `size` bytes; one request alone always has room."""
        with self._room:
            while self._taken_bytes and self._taken_bytes + size > self._limit_bytes:
                self._room.wait()
            self._taken_bytes += size
        try:
            yield
        finally:
            with self._room:
                self._taken_bytes -= size
                self._room.notify_all()
