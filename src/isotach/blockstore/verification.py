"""Checksums compared with what the containers really hold.

Owns: reading pages back, comparing, dropping what does not match, and the order in which a scrub goes through the
store. Never: repairs a page (it is fetched again when it is next wanted), or decides how fast a scrub goes (the worker
does).

A bad page of a dirty version is kept: the under storage has no copy, and part of a file may be worth more than none.
It is counted and reported, and every reader of it gets the error.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import PAGE_BYTES, SCRUB_SLICE_VERSIONS
from isotach.base.types import Version
from isotach.blockstore.checksum import extend, zeros_checksum
from isotach.blockstore.container import FULL_ERRNOS, data_ranges, read_exactly
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.index import header_row, load_pages, page_rows
from isotach.blockstore.pages import PageTable, page_runs
from isotach.blockstore.shelves import Shelves
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

log = get_logger("blockstore.verification")


class Verifier:
    """One per store; any thread."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves: Final = shelves

    def verify(self, entry: CachedVersion, *, force: bool = False) -> int:
        """See `BlockStore.verify`."""
        if entry.verified and not force:
            return 0
        with self._shelves.lock:
            if entry.dropped:
                return 0
            entry.users += 1
        try:
            pages = self.pages_of(entry)
            bad = bad_pages(entry, pages)
        except OSError as error:
            if isinstance(error, DataCorruptionError) or not self._lost(entry, error):
                raise
            return 0
        finally:
            with self._shelves.lock:
                entry.users -= 1
        return self._settle(entry, pages, bad)

    def _settle(self, entry: CachedVersion, pages: PageTable, bad: Sequence[int]) -> int:
        with self._shelves.lock:
            if entry.dropped:
                return len(bad)
            if bad and entry.dirty:
                entry.tier.checksum_errors += len(bad)
                log.error("checksum_mismatch_of_unpersisted_data", version=entry.meta.version, pages=list(bad))
                raise corruption(entry, bad[0])
            entry.verified = True
            if bad:
                self.drop_pages(entry, pages, bad)
            elif entry.complete:
                self._note_verified(entry)
        return len(bad)

    def _lost(self, entry: CachedVersion, error: OSError) -> bool:
        """Whether the bytes cannot be read at all: then the version (or its whole folder) goes, to be fetched again."""
        if self._shelves.blame(entry.folder, error):
            return True
        if error.errno not in (errno.ENOENT, errno.EIO) or (entry.dirty and error.errno == errno.EIO):
            return False
        log.error("container_not_readable", version=entry.meta.version, folder=str(entry.folder.path), error=error)
        with self._shelves.lock:
            if not entry.dropped:
                entry.tier.checksum_errors += 1
                self._shelves.drop(entry)
        return True

    def _note_verified(self, entry: CachedVersion) -> None:
        """Under the lock: from here on trusted processes may open the container themselves."""
        try:
            entry.folder.commit([header_row(entry.meta.version, entry.header())])
        except OSError as error:
            if error.errno not in FULL_ERRNOS and not self._shelves.blame(entry.folder, error):
                raise
            log.debug("verification_not_noted", version=entry.meta.version, error=str(error))

    def pages_of(self, entry: CachedVersion) -> PageTable:
        """See `BlockStore.pages_of`."""
        while True:
            pages = entry.pages
            if pages is not None:
                return pages
            if not entry.folder.failure:
                table = load_pages(entry.folder.index, entry.meta.version, entry.meta.length)
                if not entry.dropped:
                    return table
            moved_to = self._shelves.successor(entry)
            if moved_to is None:
                raise FileNotFoundError(errno.ENOENT, f"version {entry.meta.version} has just left: open it again")
            entry = moved_to

    def drop_pages(self, entry: CachedVersion, pages: PageTable, bad: Sequence[int]) -> None:
        """See `BlockStore.drop_pages`."""
        with self._shelves.lock:
            entry.tier.checksum_errors += len(bad)
            log.error("checksum_mismatch", version=entry.meta.version, tier=entry.tier.alias, pages=list(bad))
            if entry.dropped:
                return
            before = entry.allocated_all()
            entry.pages, entry.complete = pages, False
            entry.handed_out = True  # whoever opened it beside us while it was complete may still read it
            rows: Batch = [header_row(entry.meta.version, entry.header())]
            for page in bad:
                pages.remove(page, page + 1)
            rows += page_rows(entry.meta.version, pages, min(bad), max(bad) + 1)
            entry.folder.give_back(before - entry.allocated_all())
            try:
                entry.folder.commit(rows)
            except OSError as error:
                if not self._shelves.blame(entry.folder, error):
                    self._shelves.drop(entry)  # the index still calls the bad page good: nothing of it may stay
            self._shelves.on_change(entry.meta.version)

    def candidates(self) -> Iterator[CachedVersion]:
        """See `BlockStore.scrub_candidates`."""
        versions = sorted(self._shelves.entries)
        for start in range(0, len(versions), SCRUB_SLICE_VERSIONS):
            part: list[Version] = versions[start : start + SCRUB_SLICE_VERSIONS]
            for version in part:
                entry = self._shelves.entries.get(version)
                if entry is not None and entry.present_bytes():
                    yield entry


def bad_pages(entry: CachedVersion, pages: PageTable) -> list[int]:
    """The present pages that are not what was written."""
    bad = []
    descriptor = entry.folder.open(entry.meta.version)
    try:
        for first, stop, is_hole in _runs_to_read(descriptor, entry, pages):
            if is_hole:
                bad += [page for page in range(first, stop) if pages.crcs[page] != zeros_checksum(PAGE_BYTES)]
            else:
                bad += [page for page in range(first, stop) if not _is_good(descriptor, entry, pages, page)]
    finally:
        os.close(descriptor)
    return bad


def _runs_to_read(descriptor: int, entry: CachedVersion, pages: PageTable) -> Iterator[tuple[int, int, bool]]:
    """(first page, end, whether it is a hole) of what is present. Only of a file with holes these are looked for: what
    was never written need not be read."""
    present = list(pages.present_runs(0, len(pages)))
    if entry.meta.stored_bytes < 0 or not entry.complete:
        for first, stop in present:
            yield first, stop, False
        return
    yield from page_runs(data_ranges(descriptor, entry.meta.length), entry.meta.length)


def read_page(descriptor: int, entry: CachedVersion, pages: PageTable, page: int) -> bytes:
    """One present page, compared with its checksum. Raises DataCorruptionError."""
    data = read_exactly(descriptor, _page_bytes(entry, page), page * PAGE_BYTES)
    if extend(0, data) != pages.crcs[page]:
        raise corruption(entry, page)
    return data


def corruption(entry: CachedVersion, page: int) -> DataCorruptionError:
    """The error for a page that is not what was written."""
    where = f"{entry.folder.path}/containers/{entry.meta.version:016x}"
    return DataCorruptionError(
        errno.EIO, f"page {page} of version {entry.meta.version} does not match its checksum: check the device", where
    )


def _is_good(descriptor: int, entry: CachedVersion, pages: PageTable, page: int) -> bool:
    return extend(0, read_exactly(descriptor, _page_bytes(entry, page), page * PAGE_BYTES)) == pages.crcs[page]


def _page_bytes(entry: CachedVersion, page: int) -> int:
    return min(PAGE_BYTES, entry.meta.length - page * PAGE_BYTES)
