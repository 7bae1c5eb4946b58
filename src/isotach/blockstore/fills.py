"""Bytes that were fetched, put into containers.

Owns: making the entry, making room, writing, and marking pages present. Never: fetches. That there is no room is never
an error; a folder that breaks under a fill is taken out of service, and the fill is simply not kept.
"""

import os
from typing import Final

from isotach.base.limits import PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.blockstore.checksum import page_checksums
from isotach.blockstore.choice import choose_for_fill
from isotach.blockstore.container import FULL_ERRNOS, punch, write_all
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.filling import PageFill, rows_of
from isotach.blockstore.folder import Folder
from isotach.blockstore.index import header_row
from isotach.blockstore.pages import PageTable, allocated_bytes, page_count
from isotach.blockstore.shelves import Shelves
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

log = get_logger("blockstore.fills")


class Fills:
    """One per store; any thread."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves: Final = shelves
        self._entries: Final = shelves.entries

    def fill(self, meta: VersionMeta, first: int, data: ReadBuffer) -> bool:
        """See `BlockStore.fill`."""
        with self._shelves.lock:
            entry = self._entries.get(meta.version) or self._create(meta)
            if entry is None:
                return False
            if entry.complete:
                return True
            pages = entry.pages
            assert pages is not None
            runs = list(pages.missing_runs(first, min(len(pages), first + page_count(len(data)))))
            size = sum(_run_bytes(meta.length, run) for run in runs)
            span = (runs[0][0], runs[-1][1]) if runs else (first, first)
            descriptor = self._open_with_room(entry, size, first)
            if descriptor is None:
                return False
            entry.users += 1
            # Another fill of these pages may mark them, and a third one punch them, before this one marks them again.
            entry.hold(*span)
        try:
            crcs = self._write_runs(entry.folder, descriptor, runs, memoryview(data), first)
            return self._settle(entry, size, runs, span, crcs)
        finally:
            os.close(descriptor)

    def begin(self, meta: VersionMeta, first: int, stop: int) -> PageFill | None:
        """See `BlockStore.begin_fill`."""
        with self._shelves.lock:
            entry = self._entries.get(meta.version)
            if entry is None or entry.pages is None or entry.complete or not entry.handed_out:
                return None
            if next(entry.pages.missing_runs(first, stop), None) != (first, stop):
                return None
            size = _run_bytes(meta.length, (first, stop))
            descriptor = self._open_with_room(entry, size, first)
            if descriptor is None:
                return None
            return PageFill(self._shelves, entry, descriptor, first, stop, size)

    def prepare(self, meta: VersionMeta, *, insist: bool = False) -> CachedVersion | None:
        """See `BlockStore.prepare`."""
        with self._shelves.lock:
            entry = self._entries.get(meta.version)
            if entry is None:
                return self._create(meta, insist=insist)
            if insist:
                self._shelves.keep_loaded(meta.version)
            return entry

    def _open_with_room(self, entry: CachedVersion, size: int, first: int) -> int | None:
        """A descriptor to write with, `size` bytes taken; None when there is no room or the container is gone."""
        folder = entry.folder
        if not self._shelves.make_room(folder, size, entry, first):
            self._drop_if_empty(entry)
            return None
        try:
            descriptor = folder.open(entry.meta.version, os.O_RDWR)
        except OSError as error:
            if not self._shelves.blame(folder, error):  # somebody removed it behind our back
                self._shelves.drop(entry)
            return None
        self._shelves.take(folder, size)
        return descriptor

    def _create(self, meta: VersionMeta, *, insist: bool = False) -> CachedVersion | None:
        shelves = self._shelves
        while True:
            folder = choose_for_fill(shelves, meta, allocated_bytes(meta.length), insist=insist)
            if folder is None or (folder, meta.version) in shelves.arriving:
                return None
            if not shelves.clear_stale(folder, meta.version):
                return None
            try:
                os.close(folder.create(meta.version, meta.length))
                break
            except OSError as error:
                if error.errno in FULL_ERRNOS or not shelves.blame(folder, error):
                    log.warning("container_not_made", folder=str(folder.path), version=meta.version, error=error)
                    return None
        entry = CachedVersion(meta, folder, shelves.tier_of(folder))
        entry.pages = PageTable(page_count(meta.length))
        if insist:
            shelves.expect_loaded(meta.version)
        shelves.add(entry)
        return entry

    def _write_runs(
        self, folder: Folder, descriptor: int, runs: list[tuple[int, int]], data: memoryview, first: int
    ) -> list[list[int]] | None:
        """Writes the missing runs of a fetched range and gives their checksums; None when the folder cannot take it."""
        crcs = []
        for start, stop in runs:
            part = data[(start - first) * PAGE_BYTES : (stop - first) * PAGE_BYTES]
            try:
                with folder.writing:
                    write_all(descriptor, part, start * PAGE_BYTES)
            except OSError as error:
                self._give_up(folder, descriptor, runs, error)
                return None
            crcs.append(page_checksums(part))
        return crcs

    def _give_up(self, folder: Folder, descriptor: int, runs: list[tuple[int, int]], error: OSError) -> None:
        """What was written goes: it is not counted."""
        if error.errno not in FULL_ERRNOS and self._shelves.blame(folder, error):
            return
        for begin, end in runs:
            try:
                punch(descriptor, begin * PAGE_BYTES, (end - begin) * PAGE_BYTES)
            except OSError as worse:
                if not self._shelves.blame(folder, worse):
                    raise

    def _settle(
        self,
        entry: CachedVersion,
        size: int,
        runs: list[tuple[int, int]],
        span: tuple[int, int],
        crcs: list[list[int]] | None,
    ) -> bool:
        """Marks what was written as present, or gives its bytes back."""
        version, folder = entry.meta.version, entry.folder
        with self._shelves.lock:
            entry.users -= 1
            entry.release(*span)
            folder.written(size)
            folder.give_back(size)  # what becomes present is counted again below
            pages = entry.pages
            if crcs is None or entry.dropped or pages is None:
                self._drop_if_empty(entry)
                return entry.complete and not entry.dropped
            before = entry.allocated_all()
            rows: Batch = []
            for (first, _), sums in zip(runs, crcs, strict=True):
                pages.add(first, sums)
            entry.complete = pages.count == len(pages)
            for first, stop in runs:
                rows += rows_of(entry, pages, first, stop)
            if before == 0 or entry.complete:
                rows.append(header_row(version, entry.header()))
            try:
                folder.commit(list(dict(rows).items()))
            except OSError as error:
                self._shelves.blame(folder, error)
                log.warning("fill_not_committed", folder=str(folder.path), version=version, error=error)
                entry.complete = False
                for first, stop in runs:
                    pages.remove(first, stop)
                self._drop_if_empty(entry)
                return False
            folder.used_bytes += entry.allocated_all() - before
            if entry.complete:
                entry.pages = None
            self._shelves.on_change(version)
            return True

    def _drop_if_empty(self, entry: CachedVersion) -> None:
        is_used = entry.dropped or entry.complete or entry.users or entry.held
        if not is_used and (entry.pages is None or not entry.pages.count):
            self._shelves.drop(entry)


def _run_bytes(length: int, run: tuple[int, int]) -> int:
    return allocated_bytes(min(length, run[1] * PAGE_BYTES) - run[0] * PAGE_BYTES)
