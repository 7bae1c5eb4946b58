"""Which version stands in which folder, and how room is made for the next: the state that all parts of the store share.

Owns: the table of entries, the one lock over it and over the accounting, the choice of a folder, eviction, and taking a
broken folder out of service. Never: writes page data or computes a checksum (`fills`, `draft`, `moving` do).

What may leave: clean, unpinned versions that nobody fills, sends or holds a descriptor of. The row goes before the
file: a container without a row is removed at start. A container is unlinked, so that a reader who opened it at this
very moment keeps its bytes. Only a version that is too large to stay (`is_streaming`) and never left the worker is
punched, behind its own readers.

Hot reads take no lock: `entries.get` and `tier.touched` are atomic, and an entry that leaves meanwhile still tells the
truth about its container.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import ORDER_AT_ONCE_VERSIONS, ORDER_SLICE_VERSIONS, PAGE_BYTES, SECOND_CHANCES_MAX
from isotach.base.types import Version
from isotach.blockstore.container import FULL_ERRNOS, is_in_use, punch
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.folder import Folder
from isotach.blockstore.index import page_rows, removal_rows
from isotach.blockstore.loaded import Loaded
from isotach.blockstore.pages import allocated_bytes
from isotach.blockstore.tier import Tier
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

if TYPE_CHECKING:
    from isotach.blockstore.open_draft import OpenDraft

log = get_logger("blockstore")


class Shelves:
    """The entries of all tiers, best tier first. Methods that say "under the lock" expect the caller to hold it."""

    def __init__(self, tiers: Sequence[Tier], on_change: Callable[[Version], None]) -> None:
        self.tiers: Final = tuple(tiers)
        self.entries: Final[dict[Version, CachedVersion]] = {}
        self.lock: Final = threading.RLock()
        self.on_change: Final = on_change
        #: Set when a folder gets above its high watermark: the mover waits for it.
        self.is_crowded: Final = threading.Event()
        #: Moves whose target has the version's container already, but no entry: (folder, version).
        self.arriving: Final[set[tuple[Folder, Version]]] = set()
        self.arrived: Final = threading.Condition(self.lock)
        #: Drafts with notes that were found in folders coming into service, for the worker to take.
        self.found_drafts: list[OpenDraft] = []
        self._unordered: Final[deque[CachedVersion]] = deque()
        self._loaded: Final = Loaded()
        #: Versions that are not in the tier that they are bound to: the mover tries until they are.
        self.misplaced: Final[dict[Version, None]] = {}

    def folders(self) -> list[Folder]:
        """Those that serve, best tier first."""
        return [folder for tier in self.tiers for folder in tier.folders]

    def tier_of(self, folder: Folder) -> Tier:
        """The tier that the folder belongs or belonged to."""
        return next(tier for tier in self.tiers if tier.alias == folder.alias)

    # --- entries; under the lock ---

    def add(self, entry: CachedVersion, *, order_later: bool = False) -> None:
        """Takes in an entry whose bytes are counted already. `order_later` is for the many that a start finds: telling
        the policy of a million takes seconds, in which the worker could serve."""
        self.entries[entry.meta.version] = entry
        if order_later:
            self._unordered.append(entry)
        elif entry.meta.version not in self._loaded:
            entry.tier.policy.added(entry.meta.version, entry.meta.length)
        if entry.meta.tier:
            self.note_place(entry)

    def keep_loaded(self, version: Version) -> None:
        """A load asks for a version that is here: see `loaded`."""
        entry = self.entries.get(version)
        if entry is not None:
            entry.tier.policy.removed(version)
            self._loaded.add(version)
            self.settle_loaded()

    def expect_loaded(self, version: Version) -> None:
        """A load brings this version in: policies hear of it later. To be called right before `add`."""
        self._loaded.add(version)
        self.settle_loaded()

    def settle_loaded(self) -> None:
        """Tells the policies of some versions that were loaded long ago."""
        for version in self._loaded.over(ORDER_SLICE_VERSIONS):
            entry = self.entries.get(version)
            if entry is not None:
                entry.tier.policy.added(version, entry.meta.length)

    def candidates(self, tier: Tier) -> Iterator[Version]:
        """The tier's versions (and some of others), those that are to leave first at the front."""
        yield from tier.policy.candidates()
        yield from self._loaded

    def order(self, count: int | None = None) -> bool:
        """Tells the policies of (up to `count`) versions that they do not know of yet; whether there are more. To be
        called before a policy is asked for candidates: those found at start come oldest first."""
        unordered = self._unordered
        for _ in range(len(unordered) if count is None else min(count, len(unordered))):
            entry = unordered.popleft()
            if self.entries.get(entry.meta.version) is entry and entry.meta.version not in self._loaded:
                entry.tier.policy.added(entry.meta.version, entry.meta.length)
        return bool(unordered)

    def note_place(self, entry: CachedVersion) -> None:
        """Leaves it to the mover to bring the version to the tier that it is bound to, if it is elsewhere."""
        wanted = entry.meta.tier
        if wanted and wanted != entry.tier.alias and any(tier.alias == wanted for tier in self.tiers):
            self.misplaced[entry.meta.version] = None
            self.is_crowded.set()

    def successor(self, entry: CachedVersion) -> CachedVersion | None:
        """The entry that has taken the place of this complete one when it moved; None when it has left."""
        current = self.entries.get(entry.meta.version)
        return current if current is not entry and current is not None and current.complete else None

    def drop(self, entry: CachedVersion, *, evicted: bool = False) -> None:
        """Takes the version out: row, container, count. Bytes that a fill has taken are given back by that fill."""
        self.drop_all([entry], evicted=evicted)

    def drop_all(self, entries: Sequence[CachedVersion], *, evicted: bool = False) -> None:
        """The same for several versions of one folder, with one commit."""
        for entry in entries:
            self.forget(entry, evicted=evicted)
        if not entries or entries[0].folder.failure:
            return
        folder = entries[0].folder
        self.delete_rows(folder, [(entry.meta.version, entry.meta.length) for entry in entries])
        for entry in entries:
            size = entry.allocated_all()
            if folder.discard(entry.meta.version, size):
                self.is_crowded.set()
            folder.give_back(size)

    def forget(self, entry: CachedVersion, *, evicted: bool = False) -> None:
        """Takes the entry out of the table only: whoever holds it sees that it was dropped."""
        version = entry.meta.version
        entry.dropped = True
        if self.entries.get(version) is entry:
            del self.entries[version]
            self._loaded.discard(version)
            policy = entry.tier.policy
            (policy.evicted if evicted else policy.removed)(version)
        self.on_change(version)

    def delete_rows(self, folder: Folder, versions: Sequence[tuple[Version, int]]) -> bool:
        """Deletes the rows of these versions (with their lengths). On a full disk even that can fail: then they are
        remembered as stale."""
        rows: Batch = []
        for version, length in versions:
            rows += removal_rows(version, length)
        try:
            folder.commit(rows)
        except OSError as error:
            self.blame(folder, error)
            for version, length in versions:
                folder.stale_rows[version] = length
            log.warning("index_rows_not_deleted", folder=str(folder.path), versions=len(versions), error=error)
            return False
        for version, _ in versions:
            folder.stale_rows.pop(version, None)
        return True

    def clear_stale(self, folder: Folder, version: Version) -> bool:
        """Before a version comes into a folder: whether no old row of it is left there."""
        length = folder.stale_rows.get(version)
        return length is None or self.delete_rows(folder, [(version, length)])

    def await_arrival(self, folder: Folder, version: Version) -> None:
        """Before a version comes into a folder on another way: a move of it to there ends first."""
        while (folder, version) in self.arriving:
            self.arrived.wait(1.0)

    # --- broken folders ---

    def blame(self, folder: Folder, error: OSError) -> bool:
        """Whether this error was the folder's fault and not one file's: then it is out of service from here on."""
        if folder.failure:
            return True
        if error.errno in FULL_ERRNOS:
            return False
        # Pages that do not match their checksum are not meant here: this is the index.
        reason = str(error) if isinstance(error, DataCorruptionError) else folder.trouble()
        if reason:
            self.retire(folder, reason)
        return bool(reason)

    def retire(self, folder: Folder, reason: str) -> None:
        """Takes the folder out of service: what stands in it is gone from here, until the folder is back."""
        with self.lock:
            if folder.failure:
                return
            folder.failure = reason
            gone = [entry for entry in self.entries.values() if entry.folder is folder]
            for entry in gone:
                self.forget(entry)
            tier = self.tier_of(folder)
            for place in tier.places:
                if place.folder is folder:
                    place.folder, place.retired, place.failure = None, folder, reason
            tier.refresh()
        log.error(
            "folder_out_of_service",
            folder=str(folder.path),
            tier=folder.alias,
            reason=reason,
            versions=len(gone),
            not_persisted=[entry.meta.version for entry in gone if entry.dirty][:100],
        )

    # --- room; under the lock ---

    def take(self, folder: Folder, size: int) -> None:
        """Counts bytes that are about to be written, and wakes the mover when they make the folder crowded."""
        folder.take(size)
        if folder.used_bytes > folder.quota_bytes * self.tier_of(folder).marks.high:
            self.is_crowded.set()

    def turned_away(self, folder: Folder) -> None:
        """A newcomer found no room here: there is to be some for the next one."""
        folder.is_pressed = True
        self.is_crowded.set()

    def make_room(self, folder: Folder, size: int, newcomer: CachedVersion | None = None, before_page: int = 0) -> bool:
        """Evicts until `size` bytes fit. `newcomer` itself does not leave, but when it is streaming, its pages below
        `before_page` may be punched. False: what is left is dirty, pinned or in use."""
        if folder.failure:
            return False
        if folder.fits(size):
            return True
        if allocated_bytes(size) > folder.quota_bytes:
            return False
        spared, found = 0, ORDER_AT_ONCE_VERSIONS
        while True:
            is_more = self.order(found)
            spared += self._evict_until_fits(folder, size, newcomer, SECOND_CHANCES_MAX)
            if folder.fits(size) or not is_more:
                break
            found *= 4
        if spared and not folder.fits(size):
            self._evict_until_fits(folder, size, newcomer, 0)
        if newcomer is not None and newcomer.is_streaming:
            self._punch_behind(newcomer, size, before_page)
        return folder.fits(size)

    def _evict_until_fits(self, folder: Folder, size: int, newcomer: CachedVersion | None, chances: int) -> int:
        """One round over the candidates. Those that were read beside us since we last looked stay, `chances` of them at
        most; how many."""
        spared = 0
        for version in self.candidates(self.tier_of(folder)):
            entry = self.entries.get(version)
            if entry is None or entry is newcomer or entry.folder is not folder or not entry.may_leave:
                continue
            was_read = self.was_read_beside(entry)
            if was_read and spared < chances:
                spared += 1
            elif self.evict([entry]) and folder.fits(size):
                break
        return spared

    def was_read_beside(self, entry: CachedVersion) -> bool:
        """Whether the container's access time is news: then the version counts as used just now."""
        accessed_ns = entry.folder.access_time_ns(entry.meta.version)
        if accessed_ns <= entry.accessed_ns:
            return False
        entry.accessed_ns = accessed_ns
        entry.tier.touched(entry.meta.version)
        return True

    def evict(self, entries: Iterable[CachedVersion]) -> int:
        """Evicts those versions of one folder that nobody has open; how many left."""
        leaving: list[CachedVersion] = []
        locks: list[int] = []
        try:
            for entry in entries:
                try:
                    descriptor = entry.folder.open(entry.meta.version, os.O_RDWR)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        self.blame(entry.folder, error)
                    if not entry.dropped:  # somebody removed it behind our back
                        leaving.append(entry)
                    continue
                locks.append(descriptor)
                if not is_in_use(descriptor):
                    leaving.append(entry)
            # While we hold the exclusive locks: a reader gets its shared one after this.
            self.drop_all(leaving, evicted=True)
        finally:
            for descriptor in locks:
                os.close(descriptor)
        for entry in leaving:
            entry.tier.evicted_files += 1
            entry.tier.evicted_bytes += entry.meta.length
            log.debug("evicted", tier=entry.tier.alias, version=entry.meta.version)
        return len(leaving)

    def _punch_behind(self, entry: CachedVersion, size: int, before_page: int) -> None:
        """Gives back the lowest pages of a streaming version, as many as it takes."""
        pages = entry.pages
        if pages is None:
            return
        folder = entry.folder
        for first, run_stop in list(pages.present_runs(0, min(before_page, len(pages)))):
            stop = min(run_stop, first + (size + PAGE_BYTES - 1) // PAGE_BYTES)
            if any(held[0] < stop and first < held[1] for held in entry.held or ()):
                continue
            freed = entry.allocated(first, stop)
            pages.remove(first, stop)
            try:
                folder.commit(page_rows(entry.meta.version, pages, first, stop))
                descriptor = folder.open(entry.meta.version, os.O_RDWR)
                try:
                    punch(descriptor, first * PAGE_BYTES, (stop - first) * PAGE_BYTES)
                finally:
                    os.close(descriptor)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EOPNOTSUPP, errno.ENOENT) and not self.blame(folder, error):
                    raise
                log.warning("punch_failed", version=entry.meta.version, error=error)
            folder.give_back(freed)
            self.on_change(entry.meta.version)
            if folder.fits(size):
                return
