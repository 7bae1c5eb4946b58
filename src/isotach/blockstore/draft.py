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
from isotach.blockstore.choice import choose_for_write, may_hold
from isotach.blockstore.container import FULL_ERRNOS, read_exactly, write_all
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


class TierFullError(OSError):
    """No tier has room, and nothing more can be evicted: the text says which are full, and of what."""


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
        self._folder, self._name, self._descriptor = self._open()
        self._write_back = _write_back_of(self._folder)

    def _open(self) -> tuple[Folder, str, int]:
        """The first file. Folders that turn out to be broken are passed over."""
        while True:
            with self._shelves.lock:
                folder = choose_for_write(self._shelves, self._meta, allocated_bytes(max(self._meta.length, 1)))
            if folder is None:
                raise TierFullError(errno.ENOSPC, self._nowhere_text())
            name = _draft_name(self._meta)
            try:
                return folder, name, folder.create_draft(name)
            except OSError as error:
                if error.errno in FULL_ERRNOS:
                    raise TierFullError(errno.ENOSPC, self._full_text(1)) from error
                if not self._shelves.blame(folder, error):
                    raise

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
        self._give_back(self._folder, self._taken)

    def _give_back(self, folder: Folder, size: int) -> None:
        with self._shelves.lock:
            folder.written(size)
            folder.give_back(size)

    # --- room ---

    def _take(self, size: int) -> None:
        if size <= 0:
            return
        if self._outgrows(size):
            lower = self._another_folder(self._taken + size, below=True, evicting=False)
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
            target = self._another_folder(needed, below=True) or self._another_folder(needed, below=False)
            if target is None:
                raise TierFullError(errno.ENOSPC, self._full_text(size))
            if self._move_on(target, needed):
                return

    def _another_folder(self, needed: int, *, below: bool, evicting: bool = True) -> Folder | None:
        """A folder with that much room, made if need be; it counts as taken then. `below`: of this tier or lower.
        Without `evicting`: on a disk, and with room as it is."""
        shelves, old = self._shelves, self._folder
        with shelves.lock:
            place = next(at for at, tier in enumerate(shelves.tiers) if tier.alias == old.alias)
            for tier in shelves.tiers[place if below else 0 :]:
                for folder in tier.freest():
                    if folder is old or not may_hold(folder, self._meta) or (folder.is_memory and not evicting):
                        continue
                    if folder.fits(needed) or (evicting and shelves.make_room(folder, needed)):
                        shelves.take(folder, needed)
                        return folder
        return None

    def _move_on(self, target: Folder, needed: int) -> bool:
        """From here on the draft is a file in `target`, in which `needed` bytes are taken; the old one is copied piece
        by piece. False when the new folder does not take a file."""
        try:
            self._finish_spill()
            name = _draft_name(self._meta)
            descriptor = target.create_draft(name)
        except OSError as error:
            self._give_back(target, needed)
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
                raise TierFullError(errno.ENOSPC, self._full_text(size)) from error
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
            self._give_back(spill.folder, spill.taken)

    def _written_ranges(self) -> Ranges:
        runs = self._pages.present_runs(0, len(self._pages))
        ranges = [(first * PAGE_BYTES, stop * PAGE_BYTES) for first, stop in runs]
        ranges += [(page * PAGE_BYTES, page * PAGE_BYTES + size) for page, (size, _) in self._open_pages.items()]
        return ranges

    # --- texts ---

    def _nowhere_text(self) -> str:
        if self._meta.memory_only and self._shelves.folders():
            return (
                "this file may only be in memory, and no folder of this worker is in memory: give it worker.mem_size "
                "with worker.mem_dir in a tmpfs"
            )
        return "this worker has no cache tier that serves: give it worker.mem_size or worker.tiers"

    def _full_text(self, size: int) -> str:
        with self._shelves.lock:
            entries = list(self._shelves.entries.values())
            parts = []
            for folder in self._shelves.folders():
                if not may_hold(folder, self._meta):
                    continue
                staying = (each for each in entries if each.folder is folder and (each.dirty or each.pinned))
                kept = sum(each.allocated_all() for each in staying)
                parts.append(
                    f"{folder.alias} ({folder.used_bytes >> 20} of {folder.quota_bytes >> 20} MiB used, "
                    f"{kept >> 20} MiB of it not persisted or pinned)"
                )
        which = "no tier in memory, where alone this file may be," if self._meta.memory_only else "no tier"
        return f"{which} has room for {size} bytes more: {', '.join(parts)}; persist or unpin files, or enlarge a tier"

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
