"""A version that is being written: a file nobody sees until it is sealed.

Owns: the draft file, its checksums as bytes come in, and its move to another folder: when the present one is full or
broken, and once when the file turns out too large for memory. Never: decides when a version is committed (the worker
does).

A draft has no index row and a name of its own: a worker that dies leaves a file that the next start removes. Two
writers of one version (a client that connected again) have two drafts; the last one sealed wins.
"""

import errno
import itertools
import os
from typing import Final

import msgspec

from isotach.base.failpoints import fail_at
from isotach.base.limits import MOVE_PIECE_BYTES, PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import FULL_ERRNOS, read_exactly, write_all
from isotach.blockstore.draft_room import TierFullError, another_folder, first_file, full_text, give_back
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.folder import DRAFT_SUFFIX, Folder
from isotach.blockstore.index import header_row, page_rows
from isotach.blockstore.pages import PageTable, allocated_bytes, page_count
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.spill import Ranges, Spill
from isotach.blockstore.write_back import WriteBack
from isotach.obs.log import get_logger

log = get_logger("blockstore.draft")
_serial: Final = itertools.count()


class Draft:
    """Used by one thread at a time. Bytes of one page come in order; pages and blocks may come in any."""

    def __init__(self, shelves: Shelves, meta: VersionMeta) -> None:
        self._shelves = shelves
        self._meta = meta
        self._pages = PageTable(page_count(meta.length))
        self._open_pages: dict[int, tuple[int, int]] = {}  # page -> (bytes so far, checksum so far)
        self._bytes = 0  # written
        self._taken = 0  # counted in the folder
        self._closed = False
        self._spill: Spill | None = None
        size = allocated_bytes(max(meta.length, 1))
        self._folder, self._name, self._descriptor = first_file(shelves, meta, size, lambda: _draft_name(meta))
        self._write_back = _write_back_of(self._folder)

    @property
    def is_on_disk(self) -> bool:
        """Whether the present tier outlives the machine's memory."""
        return not self._folder.is_memory

    @property
    def tier_alias(self) -> str:
        """The present tier."""
        return self._folder.alias

    def write(self, offset: int, data: ReadBuffer) -> None:
        """Puts `data` at `offset`. Raises TierFullError when no tier has room; what was written before stays."""
        view = memoryview(data)
        size = view.nbytes
        self._take(allocated_bytes(self._bytes + size) - self._taken)
        if self._spill is not None and self._spill.overlaps(offset, offset + size):
            self._finish_spill()
        try:
            write_all(self._descriptor, view, offset)
        except OSError as error:
            if error.errno not in FULL_ERRNOS and not self._shelves.blame(self._folder, error):
                log.warning("draft_not_writable", folder=str(self._folder.path), error=error)
            self._relocate(size)  # the file system is fuller than we knew, or broken
            write_all(self._descriptor, view, offset)
        if self._write_back is not None:
            self._write_back.wrote(self._descriptor, offset, size)
        if self._spill is not None:
            self._step_spill(max(2 * size, MOVE_PIECE_BYTES))
        self._bytes += size
        self._note(offset, view)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes written before."""
        if self._spill is not None:
            return self._spill.read(self._descriptor, offset, length)
        return read_exactly(self._descriptor, length, offset)

    def seal(self, length: int, *, dirty: bool, fingerprint: str | None = None) -> CachedVersion:
        """Makes it a cached version of `length` bytes: from here on it survives a restart. A dirty one on a disk tier
        is on the disk on return. When the folder turns out to be broken, another one takes it. Raises OSError(ENOSPC)
        when the index is full; then abort."""
        for page, (size, crc) in self._open_pages.items():
            if size == min(PAGE_BYTES, length - page * PAGE_BYTES):
                self._pages.add(page, (crc,))
        self._pages.resize(page_count(length))
        meta = msgspec.structs.replace(self._meta, length=length, fingerprint=fingerprint)
        while True:
            try:
                entry = self._publish(meta, dirty)
                break
            except OSError as error:
                if not self._shelves.blame(self._folder, error):
                    self.abort()
                    raise
                self._relocate(0)
        self._closed = True
        os.close(self._descriptor)
        return entry

    def _publish(self, meta: VersionMeta, dirty: bool) -> CachedVersion:
        self._finish_spill()
        shelves, folder = self._shelves, self._folder
        os.ftruncate(self._descriptor, meta.length)
        if dirty and self.is_on_disk:
            os.fsync(self._descriptor)
        fail_at("worker.before_seal")
        with shelves.lock:
            shelves.await_arrival(folder, meta.version)
            if folder.failure:
                raise OSError(errno.ENODEV, folder.failure, str(folder.path))
            entry = CachedVersion(meta, folder, shelves.tier_of(folder))
            entry.dirty, entry.complete = dirty, self._pages.count == len(self._pages)
            before = shelves.entries.get(meta.version)
            if before is not None:
                shelves.drop(before)
            folder.publish_draft(self._name, meta.version)
            pages = page_rows(meta.version, self._pages, 0, len(self._pages))
            try:
                folder.commit([header_row(meta.version, entry.header()), *pages])
            except BaseException:
                folder.publish_back(meta.version, self._name)
                raise
            entry.pages = None if entry.complete else self._pages
            folder.written(self._taken)
            folder.used_bytes += entry.allocated_all() - self._taken
            shelves.add(entry)
            shelves.on_change(meta.version)
        return entry

    def abort(self) -> None:
        """Removes the draft and gives its room back. Safe to call more than once, and after `seal`."""
        if not self._closed:
            self._closed = True
            self._end_spill()
            self._discard()

    def _discard(self) -> None:
        self._folder.remove_file(self._name)
        os.close(self._descriptor)
        give_back(self._shelves, self._folder, self._taken, self._taken)

    # --- room ---

    def _take(self, size: int) -> None:
        if size <= 0:
            return
        if self._outgrows(size):
            lower = self._another(self._taken + size, below=True, evicting=False)
            if lower is not None and self._move_on(lower, self._taken + size):
                return
        with self._shelves.lock:
            if self._shelves.make_room(self._folder, size):
                self._shelves.take(self._folder, size)
                self._taken += size
                return
            self._shelves.turned_away(self._folder)
        self._relocate(size)

    def _outgrows(self, size: int) -> bool:
        """Whether the file takes more than half of a folder in memory: it is better off below."""
        folder = self._folder
        is_large = self._taken + size > folder.quota_bytes // 2
        return is_large and folder.is_memory and not self._meta.memory_only and self._meta.tier != folder.alias

    def _relocate(self, size: int) -> None:
        """Moves on to another folder that takes what was written and `size` bytes more: a lower tier, else any."""
        needed = allocated_bytes(self._bytes) + size
        while True:
            target = self._another(needed, below=True) or self._another(needed, below=False)
            if target is None:
                raise TierFullError(errno.ENOSPC, full_text(self._shelves, self._meta, size))
            if self._move_on(target, needed):
                return

    def _another(self, needed: int, *, below: bool, evicting: bool = True) -> Folder | None:
        return another_folder(self._shelves, self._folder, self._meta, needed, below=below, evicting=evicting)

    def _move_on(self, target: Folder, needed: int) -> bool:
        """From here on the draft is a file in `target`, in which `needed` bytes are taken; the old one is copied piece
        by piece. False when the new folder does not take a file."""
        try:
            self._finish_spill()
            name = _draft_name(self._meta)
            descriptor = target.create_draft(name)
        except OSError as error:
            give_back(self._shelves, target, needed, needed)
            if error.errno not in FULL_ERRNOS and not self._shelves.blame(target, error):
                raise
            return False
        self._spill = Spill(self._folder, self._name, self._descriptor, self._taken, self._written_ranges())
        self._folder, self._name, self._descriptor, self._taken = target, name, descriptor, needed
        self._write_back = _write_back_of(target)
        if not self._bytes:
            self._end_spill()
        return True

    def _step_spill(self, size: int) -> None:
        assert self._spill is not None
        try:
            self._spill.step(self._descriptor, size, self._write_back)
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                raise TierFullError(errno.ENOSPC, full_text(self._shelves, self._meta, size)) from error
            raise
        if self._spill.is_over():
            self._end_spill()

    def _finish_spill(self) -> None:
        while self._spill is not None:
            self._step_spill(MOVE_PIECE_BYTES)

    def _end_spill(self) -> None:
        spill, self._spill = self._spill, None
        if spill is not None:
            spill.close()
            give_back(self._shelves, spill.folder, spill.taken, spill.taken)

    def _written_ranges(self) -> Ranges:
        runs = self._pages.present_runs(0, len(self._pages))
        ranges = [(first * PAGE_BYTES, stop * PAGE_BYTES) for first, stop in runs]
        ranges += [(page * PAGE_BYTES, page * PAGE_BYTES + size) for page, (size, _) in self._open_pages.items()]
        return ranges

    # --- checksums ---

    def _note(self, offset: int, view: memoryview) -> None:
        """Carries each page's checksum on over the bytes that were just written."""
        self._pages.resize(page_count(offset + view.nbytes))
        start = 0
        while start < view.nbytes:
            page, inside = divmod(offset + start, PAGE_BYTES)
            part = view[start : start + PAGE_BYTES - inside]
            size, crc = self._open_pages.pop(page, (0, 0))
            if inside == 0:
                size, crc = 0, 0
                self._pages.remove(page, page + 1)
            if size == inside:
                size, crc = size + part.nbytes, extend(crc, part)
                if size == PAGE_BYTES:
                    self._pages.add(page, (crc,))
                else:
                    self._open_pages[page] = (size, crc)
            start += part.nbytes


def _draft_name(meta: VersionMeta) -> str:
    return f"{meta.version:016x}-{next(_serial)}{DRAFT_SUFFIX}"


def _write_back_of(folder: Folder) -> WriteBack | None:
    return None if folder.is_memory else WriteBack()
