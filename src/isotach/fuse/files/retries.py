"""Opens that were told to look the name up again, and whether they can.

Owns: who was told. Never: decides what to do with those who cannot.

Upon ESTALE the kernel walks the path once more with LOOKUP_REVAL and meets the file's new node. An open through
/proc/self/fd has no name to look up: it comes back to the same node, from the same thread, at once.
"""

import threading
import time
from typing import Final

from isotach.base.limits import FUSE_RETRY_OPEN_S, FUSE_RETRY_OPENS_MAX


class RetryNotes:
    """The threads (ids as the kernel tells them) that were answered ESTALE and have not opened anything since."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._told: Final[dict[int, tuple[int, float]]] = {}

    def came_back(self, thread: int, node: int) -> bool:
        """Whether this open of `node` is one that was sent away from it just now. To be asked at every open."""
        if not self._told:
            return False
        with self._lock:
            told = self._told.pop(thread, None)
        return told is not None and told[0] == node and time.monotonic() - told[1] < FUSE_RETRY_OPEN_S

    def tell(self, thread: int, node: int) -> None:
        """It is answered ESTALE now."""
        with self._lock:
            if len(self._told) >= FUSE_RETRY_OPENS_MAX:
                self._told.clear()  # those on their way are told once more, at worst
            self._told[thread] = node, time.monotonic()
