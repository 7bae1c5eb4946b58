"""Publishing in the background: what was put off, and what failed.

Owns: the order in time, a few threads, and the bytes that nobody has open any more but that are not published yet.
Never: publishes by itself (the file does), or waits without bound.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol

from isotach.base.limits import FUSE_PUBLISH_RETRY_S_MAX, FUSE_PUBLISH_THREADS, FUSE_UNPUBLISHED_MAX
from isotach.base.types import FileId, Inode
from isotach.obs.log import get_logger

log = get_logger("fuse.publisher")


class Late(Protocol):
    """Something to be done later."""

    def late(self) -> float | None:
        """Does it; after how many seconds to do it again (None: done, or given up). Never raises."""


class Publisher:
    """Of one mount; for many threads. Its threads begin with the first file, and end with `close`."""

    def __init__(self, published_late: Callable[[Inode], None] | None = None) -> None:
        """`published_late` is told of what was published here."""
        self._published_late = published_late
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Late]] = []
        self._serial = itertools.count()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._unpublished: dict[FileId, Late] = {}

    def later(self, file: Late, delay_s: float) -> None:
        """Has `file` try after so long."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._serial), file))
            if len(self._threads) < FUSE_PUBLISH_THREADS and not self._closed:
                thread = threading.Thread(target=self._run, name="fuse-publisher", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._wake.notify()

    def keep(self, file_id: FileId, file: Late, delay_s: float) -> bool:
        """Keeps a file that nobody has open any more; False: there are too many of them."""
        with self._wake:
            if len(self._unpublished) >= FUSE_UNPUBLISHED_MAX:
                return False
            self._unpublished[file_id] = file
        self.later(file, delay_s)
        return True

    def take_back(self, file_id: FileId) -> Late | None:
        """The file, if it is kept: somebody opens it again."""
        with self._wake:
            return self._unpublished.pop(file_id, None)

    def kept(self, file_id: FileId) -> Late | None:
        """The file, if it is kept."""
        return self._unpublished.get(file_id)

    def unpublished(self) -> list[Late]:
        """All that is kept."""
        with self._wake:
            return list(self._unpublished.values())

    def forget(self, file_id: FileId, file: Late) -> None:
        """It is published, or given up."""
        with self._wake:
            if self._unpublished.get(file_id) is file:
                del self._unpublished[file_id]

    def published(self, inode: Inode) -> None:
        """Says so to whom it concerns."""
        if self._published_late is not None:
            self._published_late(inode)

    def close(self) -> None:
        """Ends the threads; what is due is not tried again."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closed and not (self._due and self._due[0][0] <= time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                file = heapq.heappop(self._due)[2]
            try:
                delay_s = file.late()
            except Exception:  # our bug: the file stays, and so does this thread
                log.exception("publishing_broke")
                delay_s = FUSE_PUBLISH_RETRY_S_MAX
            if delay_s is not None:
                self.later(file, delay_s)
