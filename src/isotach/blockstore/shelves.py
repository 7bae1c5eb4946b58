"""Which version stands in which tier, and how room is made for the next: the state that all parts of the store share.

Owns: the table of entries, the one lock over it and over the tiers' accounting, the choice of a tier, and eviction.
Never: writes page data or computes a checksum (`store`, `draft`, `verification` do).

What may leave: clean, unpinned versions that nobody fills, sends or holds a descriptor of. The row goes before the
file: a container without a row is removed at start. A container is unlinked, so that a reader who opened it at this
very moment keeps its bytes. Only a version that is too large to stay (`is_streaming`) and never left the worker is
punched, behind its own readers.

Hot reads take no lock: `entries.get` and `policy.touched` are atomic, and an entry that leaves meanwhile still tells
the truth about its container.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from isotach.base.limits import PAGE_BYTES, SECOND_CHANCES_MAX
from isotach.base.types import Version
from isotach.blockstore.container import is_in_use, punch
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.eviction import EvictionPolicy
from isotach.blockstore.index import page_rows, removal_rows
from isotach.blockstore.pages import allocated_bytes
from isotach.blockstore.tier import Tier
from isotach.obs.log import get_logger

log = get_logger("blockstore")


class Shelves:
    """The entries of all tiers, best tier first. Methods that say "under the lock" expect the caller to hold it."""

    def __init__(self, tiers: Sequence[Tier], policy: EvictionPolicy, on_change: Callable[[Version], None]) -> None:
        self.tiers: Final = tuple(tiers)
        self.policy: Final = policy
        self.entries: Final[dict[Version, CachedVersion]] = {}
        self.lock: Final = threading.RLock()
        self.on_change: Final = on_change

    # --- entries; under the lock ---

    def add(self, entry: CachedVersion) -> None:
        """Takes in an entry whose bytes are counted already."""
        self.entries[entry.meta.version] = entry
        self.policy.added(entry.meta.version)

    def drop(self, entry: CachedVersion) -> None:
        """Takes the version out: row, container, count. Bytes that a fill has taken are given back by that fill."""
        version = entry.meta.version
        size = entry.allocated_all()
        entry.dropped = True
        if self.entries.get(version) is entry:
            del self.entries[version]
            self.policy.removed(version)
        self.delete_rows(entry.tier, version, entry.meta.length)
        entry.tier.unlink(version)
        entry.tier.give_back(size)
        self.on_change(version)

    def delete_rows(self, tier: Tier, version: Version, length: int) -> bool:
        """Deletes the version's rows. On a full disk even that can fail: then they are remembered as stale."""
        try:
            tier.commit(removal_rows(version, length))
        except OSError as error:
            tier.stale_rows[version] = length
            log.warning("index_rows_not_deleted", tier=tier.alias, version=version, error=error)
            return False
        tier.stale_rows.pop(version, None)
        return True

    # --- room; under the lock ---

    def choose_tier(self, size: int) -> Tier | None:
        """Where a version of `size` bytes goes: the best tier with room for it; else the tier of the version that is to
        leave first, if it could stay there at all; else the largest, which it will stream through."""
        for tier in self.tiers:
            if tier.fits(size):
                return tier
        for version in self.policy.candidates():
            entry = self.entries.get(version)
            if entry is not None and size <= entry.tier.quota_bytes // 2 and _may_leave(entry):
                return entry.tier
        return max(self.tiers, key=lambda tier: tier.quota_bytes, default=None)

    def make_room(self, tier: Tier, size: int, newcomer: CachedVersion | None = None, before_page: int = 0) -> bool:
        """Evicts until `size` bytes fit. `newcomer` itself does not leave, but when it is streaming, its pages below
        `before_page` may be punched. False: what is left is dirty, pinned or in use."""
        if tier.fits(size):
            return True
        if allocated_bytes(size) > tier.quota_bytes:
            return False
        spared = self._evict_until_fits(tier, size, newcomer, SECOND_CHANCES_MAX)
        if spared and not tier.fits(size):
            self._evict_until_fits(tier, size, newcomer, 0)
        if newcomer is not None and newcomer.is_streaming:
            self._punch_behind(newcomer, size, before_page)
        return tier.fits(size)

    def _evict_until_fits(self, tier: Tier, size: int, newcomer: CachedVersion | None, chances: int) -> int:
        """One round over the candidates. Those that were read beside us since we last looked stay, `chances` of them at
        most; how many."""
        spared = 0
        for version in self.policy.candidates():
            entry = self.entries.get(version)
            if entry is None or entry is newcomer or entry.tier is not tier or not _may_leave(entry):
                continue
            was_read = self._was_read_beside(entry)
            if was_read and spared < chances:
                spared += 1
            elif self._evict(entry) and tier.fits(size):
                break
        return spared

    def _was_read_beside(self, entry: CachedVersion) -> bool:
        """Whether the container's access time is news: then the version counts as used just now."""
        accessed_ns = entry.tier.access_time_ns(entry.meta.version)
        if accessed_ns <= entry.accessed_ns:
            return False
        entry.accessed_ns = accessed_ns
        self.policy.touched(entry.meta.version)
        return True

    def _evict(self, entry: CachedVersion) -> bool:
        try:
            descriptor = entry.tier.open(entry.meta.version, os.O_RDWR)
        except FileNotFoundError:  # somebody removed it behind our back
            self.drop(entry)
            return True
        try:
            if is_in_use(descriptor):
                return False
            self.drop(entry)  # while we hold the exclusive lock: a reader gets its shared one after this
        finally:
            os.close(descriptor)
        entry.tier.evicted_files += 1
        entry.tier.evicted_bytes += entry.meta.length
        log.debug("evicted", tier=entry.tier.alias, version=entry.meta.version)
        return True

    def _punch_behind(self, entry: CachedVersion, size: int, before_page: int) -> None:
        """Gives back the lowest pages of a streaming version, as many as it takes."""
        pages = entry.pages
        if pages is None:
            return
        for first, run_stop in list(pages.present_runs(0, min(before_page, len(pages)))):
            stop = min(run_stop, first + (size + PAGE_BYTES - 1) // PAGE_BYTES)
            if any(held[0] < stop and first < held[1] for held in entry.held):
                continue
            freed = entry.allocated(first, stop)
            pages.remove(first, stop)
            try:
                entry.tier.commit(page_rows(entry.meta.version, pages, first, stop))
                descriptor = entry.tier.open(entry.meta.version, os.O_RDWR)
                try:
                    punch(descriptor, first * PAGE_BYTES, (stop - first) * PAGE_BYTES)
                finally:
                    os.close(descriptor)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EOPNOTSUPP, errno.ENOENT):
                    raise
                log.warning("punch_failed", version=entry.meta.version, error=error)
            entry.tier.give_back(freed)
            self.on_change(entry.meta.version)
            if entry.tier.fits(size):
                return


def _may_leave(entry: CachedVersion) -> bool:
    return not (entry.dirty or entry.pinned or entry.users or entry.held)
