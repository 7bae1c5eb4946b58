"""The block store: cached versions of one node, whatever tier and folder they stand in.

Owns: the public operations on what is cached: look up, fill, hold, free, pin, promote, report. Never: fetches anything
(the worker does) and never waits for a network. Parts: `Shelves` (entries and room), `Fills` (bytes fetched), `Draft`
(a version being written), `Verifier` (checksums), `Mover` (moves in the background), `FolderService` (folders that
break and come back), `recovery` (start).

When checksums are looked at: computed on every fill and write; compared at the first hand-out after a restart, by a
scrub, and whenever bytes go to an under storage or another worker. A hot read of a passed descriptor is the kernel's.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from isotach.base.errors import StaleVersionError
from isotach.base.types import ReadBuffer, TierInfo, Version
from isotach.blockstore import open_draft
from isotach.blockstore.container import FULL_ERRNOS, lock_shared
from isotach.blockstore.draft import Draft
from isotach.blockstore.entry import CachedVersion, CacheReport, VersionMeta
from isotach.blockstore.filling import PageFill
from isotach.blockstore.fills import Fills
from isotach.blockstore.index import header_row
from isotach.blockstore.mover import Mover
from isotach.blockstore.moving import move
from isotach.blockstore.open_draft import OpenDraft
from isotach.blockstore.pages import PageTable
from isotach.blockstore.promotion import Heat
from isotach.blockstore.recovery import recover
from isotach.blockstore.service import FolderService, open_places
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Place, Tier, Watermarks
from isotach.blockstore.verification import Verifier
from isotach.conf.kinds import TierSpec
from isotach.eviction.registry import make
from isotach.obs.log import get_logger

log = get_logger("blockstore")


def _ignore(_version: Version) -> None:
    return


class BlockStore:
    """Thread-safe. Folders are given best tier first; those with one alias make up a tier. `eviction` names the policy
    of each tier. `on_change` is called with every version whose presence here changed, from any thread and under the
    store's lock: it must only take a note. `start` begins the work in the background; without it nothing moves.

    `cluster` is the stamp that folders of this cluster carry (`ownership.cluster_stamp`): what another one left in a
    folder is never served.

    Raises AlreadyRunningError when another process has one of the folders open. A folder that cannot be opened, or that
    holds files that only another cluster has, is left out of service.
    """

    def __init__(
        self,
        folders: Sequence[TierSpec],
        *,
        cluster: bytes = b"",
        eviction: str = "LRU",
        marks: Watermarks | None = None,
        move_bandwidth: int = 0,
        on_change: Callable[[Version], None] = _ignore,
    ) -> None:
        heat = Heat()
        self.cluster: Final = cluster
        self._places: Final = [Place(spec) for spec in folders]
        try:
            open_places(self._places, cluster)
            tiers = _tiers_of(self._places, eviction, marks or Watermarks(), heat)
            self._shelves: Final = Shelves(tiers, on_change)
            recover(self._shelves)
        except BaseException:
            self._close_folders()
            raise
        self._entries: Final = self._shelves.entries
        self._fills: Final = Fills(self._shelves)
        self._verifier: Final = Verifier(self._shelves)
        self._service: Final = FolderService(self._shelves, cluster)
        #: The background work; `run_once` is one round of it.
        self.mover: Final = Mover(self._shelves, self._service, heat, bandwidth=move_bandwidth)

    def start(self) -> None:
        """Begins to move versions between tiers and to look after the folders, in a thread of its own."""
        self.mover.start()

    def close(self) -> None:
        """Gives the folders back. What is cached stays."""
        self.mover.close()
        for folder in self._shelves.folders():
            folder.remove_discarded()
        self._close_folders()

    def _close_folders(self) -> None:
        for place in self._places:
            if place.folder is not None:
                place.folder.close()
            if place.retired is not None:
                place.retired.index.close()

    # --- looking ---

    def get(self, version: Version) -> CachedVersion | None:
        """The entry, if any of the version is here. Takes no lock."""
        return self._entries.get(version)

    def touch(self, version: Version) -> None:
        """Notes a use, for eviction and promotion. Takes no lock."""
        entry = self._entries.get(version)
        if entry is not None:
            entry.tier.touched(version)

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

    def reports(self, versions: Sequence[Version]) -> list[CacheReport | None]:
        """The same for many, under one lock: about 1.5 us each."""
        with self._shelves.lock:
            found = map(self._entries.get, versions)
            return [None if entry is None else entry.report() for entry in found]

    def tiers(self) -> list[TierInfo]:
        """Capacity and use of each tier and its folders, best first."""
        with self._shelves.lock:
            return [tier.info() for tier in self._shelves.tiers]

    def folders_readable_beside(self) -> list[str]:
        """The folders that trusted processes may read with us, best first: see `index.may_be_opened`."""
        return [os.fspath(folder.path) for folder in self._shelves.folders() if folder.is_readable_beside]

    @property
    def evictions(self) -> int:
        """Versions evicted since the start."""
        return sum(tier.evicted_files for tier in self._shelves.tiers)

    @property
    def checksum_errors(self) -> int:
        """Pages that did not match their checksum."""
        return sum(tier.checksum_errors for tier in self._shelves.tiers)

    def counts_by_tier(self, name: str) -> dict[tuple[str, ...], float]:
        """For metrics: `evicted_files`, `evicted_bytes`, `demoted_bytes`, `promoted_bytes` or `checksum_errors` of
        every tier."""
        return {(tier.alias,): float(getattr(tier, name)) for tier in self._shelves.tiers}

    def files_by_tier(self) -> dict[tuple[str, ...], float]:
        """For metrics: versions of which each tier holds something."""
        counts = Counter(entry.tier.alias for entry in list(self._entries.values()))
        return {(tier.alias,): float(counts[tier.alias]) for tier in self._shelves.tiers}

    def failed_folders_by_tier(self) -> dict[tuple[str, ...], float]:
        """For metrics: folders out of service."""
        return {
            (tier.alias,): float(sum(place.folder is None for place in tier.places)) for tier in self._shelves.tiers
        }

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
        """A read-only descriptor that stays within the worker. A complete version that is just changing folders is
        followed. Raises FileNotFoundError when the version has left."""
        while True:
            try:
                descriptor = entry.folder.open(entry.meta.version)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise
                if not entry.dropped:
                    self._gone(entry, error)
            else:
                if not entry.dropped:
                    return descriptor
                # What we opened may be the container of the version's next life, with other pages in it.
                os.close(descriptor)
            moved_to = self._shelves.successor(entry) if entry.complete else None
            if moved_to is None:
                raise FileNotFoundError(errno.ENOENT, f"version {entry.meta.version} has just left: open it again")
            entry = moved_to

    def _gone(self, entry: CachedVersion, error: OSError) -> None:
        """The container cannot be opened: its folder broke, or somebody removed it behind our back."""
        if self._shelves.blame(entry.folder, error):
            return
        with self._shelves.lock:
            if not entry.dropped:
                log.error("container_lost", version=entry.meta.version, dirty=entry.dirty, error=error)
                self._shelves.drop(entry)

    def hold(self, entry: CachedVersion, first: int, stop: int) -> bool:
        """Keeps these pages from being punched, moved or evicted until `release`; False when they are not all here."""
        with self._shelves.lock:
            if entry.dropped or not entry.has(first, stop):
                return False
            entry.hold(first, stop)
            return True

    def release(self, entry: CachedVersion, first: int, stop: int) -> None:
        """Ends a `hold`."""
        with self._shelves.lock:
            entry.release(first, stop)

    # --- checksums ---

    def verify(self, entry: CachedVersion, *, force: bool = False) -> int:
        """Compares every present page with its checksum: once after a restart, and with `force` (a scrub) again. Bad
        pages of a clean version are dropped, to be fetched again; how many. Raises DataCorruptionError for a dirty one,
        of which there is no other copy: it stays."""
        return self._verifier.verify(entry, force=force)

    def scrub_candidates(self) -> Iterator[CachedVersion]:
        """What is cached now, in the order of versions, for a slow walk with `verify(entry, force=True)`. Entries that
        left or moved meanwhile may be among them: `verify` passes over those."""
        return self._verifier.candidates()

    def checksums(self, version: Version) -> list[int] | None:
        """CRC32C of every page of a complete version, as written; None when it is not all here."""
        entry = self._entries.get(version)
        if entry is None or not entry.complete:
            return None
        try:
            return list(self.pages_of(entry).crcs)
        except FileNotFoundError:
            return None

    def pages_of(self, entry: CachedVersion) -> PageTable:
        """Presence and checksums, read from the index for a complete version. Raises FileNotFoundError when it has just
        left."""
        return self._verifier.pages_of(entry)

    def drop_pages(self, entry: CachedVersion, pages: PageTable, bad: Sequence[int]) -> None:
        """Forgets pages whose checksum did not match."""
        self._verifier.drop_pages(entry, pages, bad)

    # --- filling and writing ---

    def fill(self, meta: VersionMeta, first: int, data: ReadBuffer) -> bool:
        """Puts fetched bytes in, from page `first` on: whole pages, or up to the end of the file. False: there is no
        room (that is never an error) or the version was freed meanwhile; nothing is kept then."""
        return self._fills.fill(meta, first, data)

    def begin_fill(self, meta: VersionMeta, first: int, stop: int) -> PageFill | None:
        """Starts to fill the missing pages [first, stop) of a container that a client has, page by page. None when it
        is of another kind, pages of it are here, or there is no room: `fill` says what becomes of those."""
        return self._fills.begin(meta, first, stop)

    def prepare(self, meta: VersionMeta, *, insist: bool = False) -> CachedVersion | None:
        """The entry to be filled, made empty if there is none; None when no tier can take it, or when the policy finds
        it not worth what would have to leave. `insist` asks no policy: somebody wants it here."""
        return self._fills.prepare(meta, insist=insist)

    def begin_write(self, meta: VersionMeta) -> Draft:
        """Starts a version that is written here. `meta.length` is a hint (0: unknown). Raises TierFullError."""
        return Draft(self._shelves, meta)

    def begin_open_draft(self, meta: VersionMeta, room: int) -> OpenDraft:
        """Starts a version that somebody else writes, with room for `room` bytes. Raises TierFullError."""
        draft = open_draft.begin(self._shelves, meta, room)
        try:
            draft.make_room(room)
        except BaseException:
            draft.drop()
            raise
        return draft

    def take_found_drafts(self) -> list[OpenDraft]:
        """Drafts with notes of an earlier process, each once."""
        with self._shelves.lock:
            found, self._shelves.found_drafts = self._shelves.found_drafts, []
        return found

    # --- marks ---

    def mark_persisted(self, version: Version, fingerprint: str | None) -> None:
        """The under storage holds it now: it may be evicted."""
        self._change(version, dirty=False, fingerprint=fingerprint)

    def mark_dirty(self, version: Version) -> bool:
        """A copy of what no under storage has: it must not be evicted, and on a disk tier it is on the disk on return.
        False when it is not wholly here."""
        entry = self._entries.get(version)
        if entry is None or not entry.complete:
            return False
        if not entry.folder.is_memory:
            try:
                self._sync(entry)
            except FileNotFoundError:
                return False
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None or not entry.complete:
                return False
            self._change(version, dirty=True)
            return True

    def _sync(self, entry: CachedVersion) -> None:
        descriptor = self.open_for_sending(entry)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def set_pinned(self, version: Version, pinned: bool, tier: str = "") -> None:
        """A pinned version is never evicted. With `tier`, an alias, it is brought there in the background and stays."""
        self._change(version, pinned=pinned, tier=tier)

    def _change(
        self,
        version: Version,
        dirty: bool | None = None,
        pinned: bool | None = None,
        fingerprint: str | None = None,
        tier: str | None = None,
    ) -> None:
        with self._shelves.lock:
            entry = self._entries.get(version)
            if entry is None:
                return
            entry.dirty = entry.dirty if dirty is None else dirty
            entry.pinned = entry.pinned if pinned is None else pinned
            if fingerprint is not None:
                entry.meta = msgspec.structs.replace(entry.meta, fingerprint=fingerprint)
            if tier is not None and tier != entry.meta.tier:
                entry.meta = msgspec.structs.replace(entry.meta, tier=tier)
                self._shelves.note_place(entry)
            if entry.complete or (entry.pages is not None and entry.pages.count):
                try:
                    entry.folder.commit([header_row(version, entry.header())])
                except OSError as error:
                    if error.errno in FULL_ERRNOS or not self._shelves.blame(entry.folder, error):
                        raise
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
        """Moves a complete version to the best tier now, if it fits there: colder ones sink for it. Whether it stands
        there afterwards. A dirty one on a disk stays: there it outlives the machine."""
        entry = self._entries.get(version)
        top = self._shelves.tiers[0] if self._shelves.tiers else None
        if entry is None or top is None or entry.tier is top:
            return entry is not None and entry.tier is top
        if not entry.complete or entry.dirty or entry.meta.tier not in ("", top.alias):
            return False
        size = entry.allocated_all()
        for folder in top.freest():
            has_room = size <= folder.quota_bytes // 2 and self.mover.make_room(folder, size)
            if has_room and move(self._shelves, [entry], folder):
                return True
        return False

    def reachable(self, version: Version) -> CachedVersion:
        """The entry. Raises StaleVersionError when nothing of the version is here."""
        entry = self._entries.get(version)
        if entry is None:
            raise StaleVersionError(f"version {version} is not cached here any more: look the path up again")
        return entry


def _tiers_of(places: Sequence[Place], eviction: str, marks: Watermarks, heat: Heat) -> list[Tier]:
    """The tiers in the order in which their aliases first come."""
    by_alias: dict[str, list[Place]] = {}
    for place in places:
        by_alias.setdefault(place.spec.alias, []).append(place)
    tiers: list[Tier] = []
    for alias, own in by_alias.items():
        sizes = (place.spec.quota_bytes if place.folder is None else place.folder.quota_bytes for place in own)
        tiers.append(Tier(alias, own, make(eviction, max(1, sum(sizes))), marks, heat.used if tiers else None))
    return tiers
