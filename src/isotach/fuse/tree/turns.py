"""Whether a change is made at once by the thread that read it, or by the pool.

Owns: how many reading threads may wait for the master at a time. Never: makes a change.

A change takes the master's commit (about half a millisecond). The thread that read it makes it quickest: handing it
over costs two switches of threads. But somebody must go on reading, and a master that is away must not stop the mount.
"""

import threading
from typing import Final

from isotach.base.limits import CHANGES_INLINE_SHARE
from isotach.fuse.contract import Handler, Later, Reply, Request


class Turns:
    """For many threads. `threads` read requests."""

    def __init__(self, later: Later, threads: int) -> None:
        self._later: Final = later
        self._places: Final = threading.BoundedSemaphore(max(1, int(threads * CHANGES_INLINE_SHARE)))
        self._may_stay: Final = threads > 1

    def run(self, request: Request, work: Handler) -> Reply:
        """Serves the request now, or lets it be served."""
        if self._may_stay and self._places.acquire(blocking=False):
            try:
                return work(request)
            finally:
                self._places.release()
        self._later.run("tree", request, work)
        return None
