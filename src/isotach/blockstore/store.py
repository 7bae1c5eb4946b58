"""The block store: cached versions of one node, whatever tier they stand in.

Owns: the public operations on what is cached: look up, fill, hold, free, pin, promote, report. Never: fetches anything
(the worker does) and never waits for a network. Parts: `Shelves` (entries and room), `Draft` (a version being
written), `verification` (checksums), `recovery` (start).

When checksums are looked at: computed on every fill and write; compared at the first hand-out after a restart, and
whenever bytes go to an under storage or another worker. A hot read of a passed descriptor is the kernel's alone.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from isotach.base.errors import StaleVersionError
from isotach.base.limits import PAGE_BYTES
from isotach.base.types import ReadBuffer, TierInfo, Version
from isotach.blockstore.checksum import page_checksums
from isotach.blockstore.container import FULL_ERRNOS, copy_ranges, lock_shared, punch, write_all
from isotach.blockstore.draft import Draft
from isotach.blockstore.entry import CachedVersion, CacheReport, VersionMeta
from isotach.blockstore.eviction import EvictionPolicy, LeastRecentlyUsed
from isotach.blockstore.filling import PageFill, rows_of
from isotach.blockstore.index import header_row, load_pages, page_rows
from isotach.blockstore.pages import PageTable, allocated_bytes, page_count
from isotach.blockstore.recovery import recover
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Tier
from isotach.blockstore.verification import verify_pages
from isotach.conf.kinds import TierSpec
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

log = get_logger("blockstore")


def _ignore(_version: Version) -> None:
    return


class BlockStore:
    """Thread-safe. Tiers are given best first. `on_change` is called with every version whose presence here changed,
    from any thread and under the store's lock: it must only take a note.

    Raises AlreadyRunningError when another process has one of the tiers open.
    """

    def __init__(
        self,
        tiers: Sequence[TierSpec],
        *,
        policy: EvictionPolicy | None = None,
        on_change: Callable[[Version], None] = _ignore,
    ) -> None:
        opened: list[Tier] = []
        try:
            opened.extend(Tier(spec) for spec in tiers)
            self._shelves: Final = Shelves(opened, policy or LeastRecentlyUsed(), on_change)
            recover(self._shelves)
        except BaseException:
            for tier in opened:
                tier.close()
            raise
        self._entries = self._shelves.entries
        self._touched = self._shelves.policy.touched

    def close(self) -> None:
        """Gives the folders back. What is cached stays."""
        with self._shelves.lock:
            for tier in self._shelves.tiers:
                tier.close()

    # --- looking ---

    def get(self, version: Version) -> CachedVersion | None:
        """The entry, if any of the version is here. Takes no lock."""
        return self._entries.get(version)

    def touch(self, version: Version) -> None:
        """Notes a use, for eviction. Takes no lock."""
        self._touched(version)

    def versions(self) -> list[Version]:
        """Every version of which something is here."""
        return list(self._entries)

    @property
    def version_count(self) -> int:
        """How many versions there is something of."""
        return len(self._entries)

    def report(self, version: Version) -> CacheReport | None:
        """What of the version is here; None for nothing."""
        with self._shelves.lock:
            entry = self._entries.get(version)
            return None if entry is None else entry.report()

    def tiers(self) -> list[TierInfo]:
        """Capacity and use of each tier, best first."""
        return [tier.info() for tier in self._shelves.tiers]

    def folders_readable_beside(self) -> list[str]:
        """The tiers that trusted processes may read with us, best first: see `index.may_be_opened`."""
        return [os.fspath(tier.path) for tier in self._shelves.tiers if tier.is_readable_beside]

    @property
    def evictions(self) -> int:
        """Versions evicted since the start."""
        return sum(tier.evicted_files for tier in self._shelves.tiers)

    @property
    def checksum_errors(self) -> int:
        """Pages dropped because they did not match their checksum."""
        return sum(tier.checksum_errors for tier in self._shelves.tiers)

    def counts_by_tier(self, name: str) -> dict[tuple[str, ...], float]:
        """For metrics: `evicted_files`, `evicted_bytes` or `checksum_errors` of every tier."""
        return {(tier.alias,): float(getattr(tier, name)) for tier in self._shelves.tiers}

    def files_by_tier(self) -> dict[tuple[str, ...], float]:
        """For metrics: versions of which each tier holds something."""
        counts = Counter(entry.tier.alias for entry in list(self._entries.values()))
        return {(tier.alias,): float(counts[tier.alias]) for tier in self._shelves.tiers}

    # --- reading ---

    def open_container(self, entry: CachedVersion) -> int:
        """A descriptor for a client: read-only, an open file description of its own, marked as in use for as long as
        any copy of it lives. For partial versions ask `hand_out` first. Raises FileNotFoundError when the version has
        just left."""
        entry.handed_out = True
        descriptor = self.open_for_sending(entry)
        try:
            lock_shared(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def hand_out(self, entry: CachedVersion) -> bool:
        """Whether a partial container may be passed out; from then on it is never punched."""
        with self._shelves.lock:
            if entry.dropped or entry.is_streaming:
                return False
            entry.handed_out = True
            return True

    def open_for_sending(self, entry: CachedVersion) -> int:
        """A read-only descriptor that stays within the worker. Raises FileNotFoundError when the version has left."""
        descriptor = entry.tier.open(entry.meta.version)
        if entry.dropped:  # what we opened may be the container of the version's next life, with other pages in it
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, f"version {entry.meta.version} has just left: open it again")
        return descriptor

    def hold(self, entry: CachedVersion, first: int, stop: int) -> bool:
        """Keeps these pages from being punched or evicted until `release`; False when they are not all present."""
        with self._shelves.lock:
            if entry.dropped or not entry.has(first, stop):
                return False
            entry.held.append((first, stop))
            return True

    def release(self, entry: CachedVersion, first: int, stop: int) -> None:
        """Ends a `hold`."""
        with self._shelves.lock:
            entry.held.remove((first, stop))

    def verify(self, entry: CachedVersion) -> None:
        """Compares every present page with its checksum, once after a restart. Bad pages of a clean version are
        dropped, to be fetched again. Raises DataCorruptionError for a dirty one, of which there is no other copy."""
        if entry.verified:
            return
        with self._shelves.lock:
            if entry.dropped:
                return
            entry.users += 1
        try:
            pages = self.pages_of(entry)
            bad = verify_pages(entry, pages)
        finally:
            with self._shelves.lock:
                entry.users -= 1
        with self._shelves.lock:
            entry.verified = True
            if bad and not entry.dropped:
                self.drop_pages(entry, pages, bad)
            elif entry.complete and not entry.dropped:
                self._note_verified(entry)

    def _note_verified(self, entry: CachedVersion) -> None:
        """Under the lock: from here on trusted processes may open the container themselves."""
        try:
            entry.tier.commit([header_row(entry.meta.version, entry.header())])
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            log.debug("verification_not_noted", version=entry.meta.version, error=str(error))

    def pages_of(self, entry: CachedVersion) -> PageTable:
        """Presence and checksums, read from the index for a complete version."""
        pages = entry.pages
        return load_pages(entry.tier.index, entry.meta.version, entry.meta.length) if pages is None else pages

    def drop_pages(self, entry: CachedVersion, pages: PageTable, bad: Sequence[int]) -> None:
        """Forgets pages whose checksum did not match."""
        with self._shelves.lock:
            entry.tier.checksum_errors += len(bad)
            log.error("checksum_mismatch", version=entry.meta.version, tier=entry.tier.alias, pages=list(bad))
            before = entry.allocated_all()
            entry.pages, entry.complete = pages, False
            entry.handed_out = True  # whoever opened it beside us while it was complete may still read it
            rows: Batch = [header_row(entry.meta.version, entry.header())]
            for page in bad:
                pages.remove(page, page + 1)
            rows += page_rows(entry.meta.version, pages, min(bad), max(bad) + 1)
            entry.tier.give_back(before - entry.allocated_all())
            entry.tier.commit(rows)
            self._shelves.on_change(entry.meta.version)

    # --- filling ---

    def fill(self, meta: VersionMeta, first: int, data: ReadBuffer) -> bool:
        """Puts fetched bytes in, from page `first` on: whole pages, or up to the end of the file. False: there is no
        room (that is never an error) or the version was freed meanwhile; nothing is kept then."""
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
            if not self._shelves.make_room(entry.tier, size, entry, first):
                self._drop_if_empty(entry)
                return False
            try:
                descriptor = entry.tier.open(meta.version, os.O_RDWR)
            except FileNotFoundError:  # somebody removed it behind our back
                self._shelves.drop(entry)
                return False
            entry.tier.take(size)
            entry.users += 1
        try:
            crcs = _write_runs(entry.tier, descriptor, runs, memoryview(data), first)
            return self._settle_fill(entry, size, runs, crcs)
        finally:
            os.close(descriptor)

    def begin_fill(self, meta: VersionMeta, first: int, stop: int) -> PageFill | None:
        """Starts to fill the missing pages [first, stop) of a container that a client has, page by page. None when it
        is of another kind, pages of it are here, or there is no room: `fill` says what becomes of those."""
        with self._shelves.lock:
            entry = self._entries.get(meta.version)
            if entry is None or entry.pages is None or entry.complete or not entry.handed_out:
                return None
            if next(entry.pages.missing_runs(first, stop), None) != (first, stop):
                return None
            size = _run_bytes(meta.length, (first, stop))
            if not self._shelves.make_room(entry.tier, size, entry, first):
                return None
            try:
                descriptor = entry.tier.open(meta.version, os.O_RDWR)
            except FileNotFoundError:  # somebody removed it behind our back
                self._shelves.drop(entry)
                return None
            entry.tier.take(size)
            return PageFill(self._shelves, entry, descriptor, first, stop, size)

    def prepare(self, meta: VersionMeta) -> CachedVersion | None:
        """The entry to be filled, made empty if there is none; None when no tier can take it."""
        with self._shelves.lock:
            return self._entries.get(meta.version) or self._create(meta)

    def _create(self, meta: VersionMeta) -> CachedVersion | None:
        tier = self._shelves.choose_tier(allocated_bytes(meta.length))
        if tier is None:
            return None
        stale = tier.stale_rows.get(meta.version)
        if stale is not None and not self._shelves.delete_rows(tier, meta.version, stale):
            return None
        try:
            os.close(tier.create(meta.version, meta.length))
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            return None
        entry = CachedVersion(meta, tier)
        entry.pages = PageTable(page_count(meta.length))
        self._shelves.add(entry)
        return entry

    def _settle_fill(
        self, entry: CachedVersion, size: int, runs: list[tuple[int, int]], crcs: list[list[int]] | None
    ) -> bool:
        """Marks what was written as present, or gives its bytes back."""
        version, tier = entry.meta.version, entry.tier
        with self._shelves.lock:
            entry.users -= 1
            tier.written(size)
            tier.give_back(size)  # what becomes present is counted again below
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
                tier.commit(list(dict(rows).items()))
            except OSError as error:
                if error.errno not in FULL_ERRNOS:
                    raise
                entry.complete = False
                for first, stop in runs:
                    pages.remove(first, stop)
                self._drop_if_empty(entry)
                return False
            tier.used_bytes += entry.allocated_all() - before
            if entry.complete:
                entry.pages = None
            self._shelves.on_change(version)
            return True

    def _drop_if_empty(self, entry: CachedVersion) -> None:
        is_used = entry.dropped or entry.complete or entry.users or entry.held
        if not is_used and (entry.pages is None or not entry.pages.count):
            self._shelves.drop(entry)

    # --- writing ---

    def begin_write(self, meta: VersionMeta) -> Draft:
        """Starts a version that is written here. `meta.length` is a hint (0: unknown). Raises TierFullError."""
        return Draft(self._shelves, meta)

    # --- marks ---

    def mark_persisted(self, version: Version, fingerprint: str | None) -> None:
        """The under storage holds it now: it may be evicted."""
        self._change(version, dirty=False, fingerprint=fingerprint)

    def mark_dirty(self, version: Version) -> bool:
        """A copy of what no under storage has: it must not be evicted. False when it is not wholly here."""
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None or not entry.complete:
                return False
            self._change(version, dirty=True)
            return True

    def set_pinned(self, version: Version, pinned: bool) -> None:
        """A pinned version is never evicted."""
        self._change(version, pinned=pinned)

    def _change(
        self, version: Version, dirty: bool | None = None, pinned: bool | None = None, fingerprint: str | None = None
    ) -> None:
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None:
                return
            entry.dirty = entry.dirty if dirty is None else dirty
            entry.pinned = entry.pinned if pinned is None else pinned
            if fingerprint is not None:
                entry.meta = msgspec.structs.replace(entry.meta, fingerprint=fingerprint)
            if entry.complete or (entry.pages is not None and entry.pages.count):
                entry.tier.commit([header_row(version, entry.header())])
            self._shelves.on_change(version)

    def free(self, version: Version, force: bool = False) -> bool:
        """Drops the version; who has it open keeps its bytes. A dirty one only with `force`. Whether it is gone."""
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None:
                return True
            if entry.dirty and not force:
                return False
            self._shelves.drop(entry)
            return True

    # --- moving ---

    def promote(self, version: Version) -> bool:
        """Moves a complete version to the best tier, if it fits there. Whether it stands there afterwards."""
        top = self._shelves.tiers[0] if self._shelves.tiers else None
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None or top is None or entry.tier is top:
                return entry is not None and entry.tier is top
            size = entry.allocated_all()
            if not entry.complete or size > top.quota_bytes // 2 or not self._shelves.make_room(top, size, entry):
                return False
            top.take(size)
            entry.users += 1
        pages = self.pages_of(entry)
        moved = False
        try:
            moved = _copy_container(entry, top)
        finally:
            with self._shelves.lock:
                entry.users -= 1
                top.written(size)
                if moved and not entry.dropped:
                    moved = self._switch(entry, top, pages)
                if not moved:
                    top.give_back(size)
        return moved

    def _switch(self, entry: CachedVersion, top: Tier, pages: PageTable) -> bool:
        """The copy becomes the version; the old container goes."""
        version = entry.meta.version
        fresh = CachedVersion(entry.meta, top)
        fresh.complete, fresh.dirty, fresh.pinned, fresh.verified = True, entry.dirty, entry.pinned, entry.verified
        try:
            top.commit([header_row(version, fresh.header()), *page_rows(version, pages, 0, len(pages))])
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            top.unlink(version)
            return False
        self._shelves.drop(entry)
        self._shelves.add(fresh)
        self._shelves.on_change(version)
        return True

    def reachable(self, version: Version) -> CachedVersion:
        """The entry. Raises StaleVersionError when nothing of the version is here."""
        entry = self._entries.get(version)
        if entry is None:
            raise StaleVersionError(f"version {version} is not cached here any more: look the path up again")
        return entry


def _run_bytes(length: int, run: tuple[int, int]) -> int:
    return allocated_bytes(min(length, run[1] * PAGE_BYTES) - run[0] * PAGE_BYTES)


def _write_runs(
    tier: Tier, descriptor: int, runs: list[tuple[int, int]], data: memoryview, first: int
) -> list[list[int]] | None:
    """Writes the missing runs of a fetched range and gives their checksums; None when the file system is full."""
    crcs = []
    for start, stop in runs:
        part = data[(start - first) * PAGE_BYTES : (stop - first) * PAGE_BYTES]
        try:
            with tier.writing:
                write_all(descriptor, part, start * PAGE_BYTES)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            for begin, end in runs:
                punch(descriptor, begin * PAGE_BYTES, (end - begin) * PAGE_BYTES)
            return None
        crcs.append(page_checksums(part))
    return crcs


def _copy_container(entry: CachedVersion, top: Tier) -> bool:
    source = entry.tier.open(entry.meta.version)
    try:
        target = top.create(entry.meta.version, entry.meta.length)
        try:
            copy_ranges(source, target, [(0, entry.meta.length)])
        except OSError as error:
            top.unlink(entry.meta.version)
            if error.errno not in FULL_ERRNOS:
                raise
            return False
        finally:
            os.close(target)
    finally:
        os.close(source)
    return True
