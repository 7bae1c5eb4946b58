"""The memory that bytes on their way may take beside the cache: one named limit for the whole worker.

Owns: the count and its ceilings. Never: waits: who gets no share goes the way that needs none (page by page into the
cache, or piece by piece to the reader), so that a reader who waits never depends on another who is slow.

A share is given back when the last one who can see its bytes has let go of them: it lives and dies with its object.
"""

import threading
from typing import Final

from isotach.base.limits import BUFFER_AHEAD_SHARE, BUFFER_FETCH_SHARE


class Share:
    """So many bytes of the budget, until this object is gone (CPython counts references: at once) or `give_back`."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: "BufferBudget", size: int) -> None:
        self._budget = budget
        self.size = size

    def give_back(self) -> None:
        """Returns it before its time; safe to call twice."""
        size, self.size = self.size, 0
        if size:
            self._budget._return(size)

    def __del__(self) -> None:
        self.give_back()


class BufferBudget:
    """One for fetches and one for writes in each worker; any thread. `limit_bytes` is `worker.buffer_memory`, of which
    this one may hold `share` (BUFFER_FETCH_SHARE, BUFFER_WRITE_SHARE); the rest is for the small pieces in each
    thread's hands. Read-ahead stops at BUFFER_AHEAD_SHARE."""

    def __init__(self, limit_bytes: int, share: float = BUFFER_FETCH_SHARE) -> None:
        self._fetch_bytes: Final = int(limit_bytes * share)
        self._ahead_bytes: Final = int(limit_bytes * BUFFER_AHEAD_SHARE)
        self._lock: Final = threading.RLock()  # a share may go, at any moment, while another is taken
        self.used_bytes = 0
        self.refusals = 0

    def take(self, size: int, *, is_ahead: bool = False) -> Share | None:
        """A share of `size` bytes; None when there is no room for it now."""
        with self._lock:
            if self.used_bytes + size > (self._ahead_bytes if is_ahead else self._fetch_bytes):
                self.refusals += 1
                return None
            self.used_bytes += size
        return Share(self, size)

    @property
    def is_tight(self) -> bool:
        """Whether so much is in use that nothing should be read ahead any more."""
        return self.used_bytes >= self._ahead_bytes

    def _return(self, size: int) -> None:
        with self._lock:
            self.used_bytes -= size
