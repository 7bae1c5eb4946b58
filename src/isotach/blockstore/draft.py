"""A version that is being written: a file nobody sees until it is sealed.

Owns: the draft file, its checksums as bytes come in, and its move to the next tier when the present one is full. Never:
decides when a version is committed (the worker does).

A draft has no index row and a name of its own: a worker that dies leaves a file that the next start removes. Two
writers of one version (a client that connected again) have two drafts; the last one sealed wins.
"""

import errno
import itertools
import os
from typing import Final

import msgspec

from isotach.base.failpoints import fail_at
from isotach.base.limits import PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import FULL_ERRNOS, copy_ranges, read_exactly, write_all
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.index import header_row, page_rows
from isotach.blockstore.pages import PageTable, allocated_bytes, page_count
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import DRAFT_SUFFIX, Tier

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
        self._taken = 0  # counted in the tier
        self._closed = False
        with shelves.lock:
            tier = shelves.choose_tier(allocated_bytes(max(meta.length, 1)))
        if tier is None:
            raise TierFullError(errno.ENOSPC, "this worker has no cache tier: give it worker.mem_size or worker.tiers")
        self._name, self._descriptor = _new_file(tier, meta)
        self._tier = tier

    @property
    def is_on_disk(self) -> bool:
        """Whether the present tier outlives the machine's memory."""
        return not self._tier.is_memory

    @property
    def tier_alias(self) -> str:
        """The present tier."""
        return self._tier.alias

    def write(self, offset: int, data: ReadBuffer) -> None:
        """Puts `data` at `offset`. Raises TierFullError when no tier has room; what was written before stays."""
        view = memoryview(data)
        size = view.nbytes
        self._take(allocated_bytes(self._bytes + size) - self._taken)
        try:
            write_all(self._descriptor, view, offset)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            self._relocate(size)  # the file system is fuller than we knew
            write_all(self._descriptor, view, offset)
        self._bytes += size
        self._note(offset, view)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes written before."""
        return read_exactly(self._descriptor, length, offset)

    def seal(self, length: int, *, dirty: bool, fingerprint: str | None = None) -> CachedVersion:
        """Makes it a cached version of `length` bytes: from here on it survives a restart. A dirty one on a disk tier
        is on the disk on return. Raises OSError(ENOSPC) when the index is full; then abort."""
        for page, (size, crc) in self._open_pages.items():
            if size == min(PAGE_BYTES, length - page * PAGE_BYTES):
                self._pages.add(page, (crc,))
        self._pages.resize(page_count(length))
        os.ftruncate(self._descriptor, length)
        if dirty and self.is_on_disk:
            os.fsync(self._descriptor)
        meta = msgspec.structs.replace(self._meta, length=length, fingerprint=fingerprint)
        entry = CachedVersion(meta, self._tier)
        entry.dirty, entry.complete = dirty, self._pages.count == len(self._pages)
        fail_at("worker.before_seal")
        with self._shelves.lock:
            before = self._shelves.entries.get(meta.version)
            if before is not None:
                self._shelves.drop(before)
            self._tier.publish_draft(self._name, meta.version)
            try:
                pages = page_rows(meta.version, self._pages, 0, len(self._pages))
                self._tier.commit([header_row(meta.version, entry.header()), *pages])
            except BaseException:
                self._tier.unlink(meta.version)
                self.abort()
                raise
            entry.pages = None if entry.complete else self._pages
            self._tier.written(self._taken)
            self._tier.used_bytes += entry.allocated_all() - self._taken
            self._shelves.add(entry)
            self._shelves.on_change(meta.version)
        self._closed = True
        os.close(self._descriptor)
        return entry

    def abort(self) -> None:
        """Removes the draft and gives its room back. Safe to call more than once, and after `seal`."""
        if not self._closed:
            self._closed = True
            self._discard()

    def _discard(self) -> None:
        self._tier.remove_draft(self._name)
        os.close(self._descriptor)
        with self._shelves.lock:
            self._tier.written(self._taken)
            self._tier.give_back(self._taken)

    # --- room ---

    def _take(self, size: int) -> None:
        if size <= 0:
            return
        with self._shelves.lock:
            if self._shelves.make_room(self._tier, size):
                self._tier.take(size)
                self._taken += size
                return
        self._relocate(size)

    def _relocate(self, size: int) -> None:
        """Moves what was written to the next tier that takes it and `size` bytes more."""
        needed = allocated_bytes(self._bytes) + size
        place = self._shelves.tiers.index(self._tier)
        for tier in self._shelves.tiers[place + 1 :]:
            with self._shelves.lock:
                if not self._shelves.make_room(tier, needed):
                    continue
                tier.take(needed)
            if self._copy_to(tier, needed):
                return
        raise TierFullError(errno.ENOSPC, self._full_text(size))

    def _copy_to(self, tier: Tier, needed: int) -> bool:
        name, descriptor = _new_file(tier, self._meta)
        try:
            copy_ranges(self._descriptor, descriptor, self._written_ranges())
        except OSError as error:
            os.close(descriptor)
            tier.remove_draft(name)
            with self._shelves.lock:
                tier.written(needed)
                tier.give_back(needed)
            if error.errno not in FULL_ERRNOS:
                raise
            return False
        self._discard()
        self._tier, self._name, self._descriptor, self._taken = tier, name, descriptor, needed
        return True

    def _written_ranges(self) -> list[tuple[int, int]]:
        runs = self._pages.present_runs(0, len(self._pages))
        ranges = [(first * PAGE_BYTES, stop * PAGE_BYTES) for first, stop in runs]
        ranges += [(page * PAGE_BYTES, page * PAGE_BYTES + size) for page, (size, _) in self._open_pages.items()]
        return ranges

    def _full_text(self, size: int) -> str:
        with self._shelves.lock:
            entries = list(self._shelves.entries.values())
            parts = []
            for tier in self._shelves.tiers:
                staying = (each for each in entries if each.tier is tier and (each.dirty or each.pinned))
                kept = sum(each.allocated_all() for each in staying)
                parts.append(
                    f"{tier.alias} ({tier.used_bytes >> 20} of {tier.quota_bytes >> 20} MiB used, "
                    f"{kept >> 20} MiB of it not persisted or pinned)"
                )
        return f"no tier has room for {size} bytes more: {', '.join(parts)}; persist or unpin files, or enlarge a tier"

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


def _new_file(tier: Tier, meta: VersionMeta) -> tuple[str, int]:
    name = f"{meta.version:016x}-{next(_serial)}{DRAFT_SUFFIX}"
    return name, tier.create_draft(name)
