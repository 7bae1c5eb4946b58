"""A run of missing pages being filled as its bytes arrive: each page can be read once it is whole.

Owns: one run's descriptor, its checksums, and its share of the folder's count. Never: fetches, or makes room
(`Fills.begin` does).

Only for a container that a client has (it is never punched). Presence in memory is told page by page; the rows of the
index are committed once, at the end: a crash before costs the run, never shows a page that is not there.
"""

import os
from typing import Final

from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import punch, write_all
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.folder import Folder
from isotach.blockstore.index import header_row, page_rows
from isotach.blockstore.pages import PageTable, allocated_bytes
from isotach.blockstore.shelves import Shelves
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

log = get_logger("blockstore.filling")


class PageFill:
    """The pages [first, stop) of one version. `put` in order, then `close`, whatever happened. For one thread. Made
    under the store's lock, with `size` bytes taken from the folder."""

    def __init__(
        self, shelves: Shelves, entry: CachedVersion, descriptor: int, first: int, stop: int, size: int
    ) -> None:
        self._shelves: Final = shelves
        self._entry: Final = entry
        self._folder: Final[Folder] = entry.folder
        self._descriptor: Final = descriptor
        self._first: Final = first
        self._end: Final = min(entry.meta.length, stop * PAGE_BYTES)
        self._size: Final = size
        self._at = first * PAGE_BYTES
        self._tried_to = self._at  # up to where bytes may have been written
        self._crc = 0
        #: The first page that is not yet whole.
        self.reached = first
        entry.users += 1

    def put(self, view: memoryview) -> bool:
        """The next bytes, which do not cross the border of a page. False when they cannot be kept: the file system is
        full, or the version was freed. Raises OSError."""
        page = self._at // PAGE_BYTES
        if self._entry.dropped:
            return False
        self._tried_to = self._at + len(view)
        try:
            write_all(self._descriptor, view, self._at)
        except OSError as error:
            self._shelves.blame(self._folder, error)
            log.warning(
                "fill_not_written", folder=str(self._folder.path), version=self._entry.meta.version, error=error
            )
            return False
        self._crc = extend(self._crc, view)
        self._at = self._tried_to
        if self._at % PAGE_BYTES and self._at < self._end:
            return True
        crc, self._crc = self._crc, 0
        return self._show(page, crc)

    def close(self) -> bool:
        """Commits what has become whole. False when none of it stays: the index is full, the folder broke, or the
        version was freed."""
        entry, folder = self._entry, self._folder
        self._clear_rest()
        with self._shelves.lock:
            entry.users -= 1
            folder.written(self._size)
            folder.give_back(self._size)  # what became present was counted page by page
            pages = entry.pages
            if entry.dropped or pages is None:
                return entry.complete and not entry.dropped
            if self.reached == self._first:
                return False
            entry.complete = pages.count == len(pages)
            rows: Batch = rows_of(entry, pages, self._first, self.reached)
            rows.append(header_row(entry.meta.version, entry.header()))
            try:
                folder.commit(rows)
            except OSError as error:
                self._shelves.blame(folder, error)
                log.warning("fill_not_committed", folder=str(folder.path), version=entry.meta.version, error=error)
                entry.complete = False
                before = entry.allocated_all()
                pages.remove(self._first, self.reached)
                folder.give_back(before - entry.allocated_all())
                return False
            if entry.complete:
                entry.pages = None
            self._shelves.on_change(entry.meta.version)
            return True

    def _clear_rest(self) -> None:
        """What was written of a page that never became whole is not counted: it goes."""
        whole_end = min(self._end, self.reached * PAGE_BYTES)
        try:
            if self._tried_to > whole_end and not self._entry.dropped:
                punch(self._descriptor, whole_end, self._tried_to - whole_end)
        except OSError as error:
            if not self._shelves.blame(self._folder, error):
                raise
        finally:
            os.close(self._descriptor)

    def _show(self, page: int, crc: int) -> bool:
        entry = self._entry
        with self._shelves.lock:
            if entry.dropped:
                return False
            self.reached = page + 1
            if entry.pages is not None and not entry.pages.has(page, page + 1):
                entry.pages.add(page, (crc,))
                start = page * PAGE_BYTES
                self._folder.used_bytes += allocated_bytes(min(entry.meta.length, start + PAGE_BYTES) - start)
            return True


def rows_of(entry: CachedVersion, pages: PageTable, first: int, stop: int) -> Batch:
    """The rows of [first, stop); of all pages when the version is complete while another fill has its rows to come:
    the header must never say more than the rows."""
    if entry.complete and entry.users:
        first, stop = 0, len(pages)
    return page_rows(entry.meta.version, pages, first, stop)
