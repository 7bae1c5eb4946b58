"""The background work of the store: emptying folders that are too full, lifting what is hot, watching the folders.

Owns: one thread, the choice of what moves where, and the pace. Never: decides what may leave (`entry`, `shelves`), or
how a move is made safe (`moving`).

A folder above its high watermark is emptied down to its low one, the coldest first in the order of its tier's policy:
into the next tier where there is room (or where something colder can go), else out of the cache when it is clean. What
is dirty only sinks. So writers and readers nearly always find room, and nothing that is not persisted is ever evicted.
"""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from isotach.base.limits import (
    FOLDER_CHECK_S,
    MOVE_BATCH_BYTES,
    MOVE_BATCH_VERSIONS,
    MOVE_SEARCH_VERSIONS,
    MOVER_INTERVAL_S,
    ORDER_AT_ONCE_VERSIONS,
    ORDER_PAUSE_S,
    ORDER_SLICE_VERSIONS,
    PROMOTE_SHARE_PER_ROUND,
    READS_BESIDE_PER_ROUND,
    SECOND_CHANCES_MAX,
)
from isotach.base.types import Version
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.folder import Folder
from isotach.blockstore.moving import move
from isotach.blockstore.promotion import Heat
from isotach.blockstore.service import FolderService
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Tier
from isotach.obs.log import get_logger

log = get_logger("blockstore.mover")


class Mover:
    """One per store. `run_once` is one round, for tests; `start` runs rounds in a thread until `close`."""

    def __init__(
        self,
        shelves: Shelves,
        service: FolderService,
        heat: Heat,
        *,
        bandwidth: int = 0,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelves: Final = shelves
        self._service: Final = service
        self._heat: Final = heat
        self._bandwidth: Final = bandwidth
        self._monotonic_s: Final = monotonic_s
        self._checked_s = monotonic_s()
        self._walk: Iterator[Version] = iter(())
        self._closing: Final = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to work in the background."""
        self._thread = threading.Thread(target=self._run, name="mover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; a move under way ends first, at full speed."""
        self._closing.set()
        self._shelves.is_crowded.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                is_done = self.run_once()
            except Exception as error:  # the world's fault or ours: the next round tries again
                log.error("mover_round_failed", error=error, exc_info=error)
                is_done = False
            if not is_done:  # looking through a folder full of dirty data at every write would only burn a core
                self._closing.wait(MOVER_INTERVAL_S)
            self._shelves.is_crowded.wait(MOVER_INTERVAL_S)

    def run_once(self) -> bool:
        """Everything that is to be done now. False when a folder stays too full: nothing more may leave it."""
        self._shelves.is_crowded.clear()
        now_s = self._monotonic_s()
        if now_s - self._checked_s >= FOLDER_CHECK_S:
            self._checked_s = now_s
            self._service.check()
        for folder in self._shelves.folders():
            folder.remove_discarded()
        self._order_what_a_start_found()
        with self._shelves.lock:
            self._shelves.settle_loaded()
        self._place_bound()
        is_done = True
        for tier in reversed(self._shelves.tiers):
            for folder in tier.folders:
                if folder.is_pressed or not tier.below_high(folder, 0):
                    folder.is_pressed = False
                    is_done &= self._relieve(tier, folder, tier.low_reserve(folder))
        self._notice_reads_beside()
        self._lift(now_s)
        return is_done

    def _order_what_a_start_found(self) -> None:
        """In slices with pauses: those who read and the report to the master come first."""
        is_more = True
        while is_more and not self._closing.is_set():
            with self._shelves.lock:
                is_more = self._shelves.order(ORDER_SLICE_VERSIONS)
            if is_more:
                self._closing.wait(ORDER_PAUSE_S)

    def _pace(self, size: int) -> None:
        if self._bandwidth:
            self._closing.wait(size / self._bandwidth)

    # --- down ---

    def make_room(self, folder: Folder, size: int) -> bool:
        """Moves down or evicts the coldest at once, until `size` bytes fit; whether they do. Any thread."""
        return self._relieve(self._shelves.tier_of(folder), folder, size)

    def _relieve(self, tier: Tier, folder: Folder, room: int) -> bool:
        """Moves down or evicts the coldest until there are `room` bytes to spare; whether there are."""
        order = self._coldest(tier, folder)
        while not (self._closing.is_set() or folder.failure):
            missing = room - folder.room_bytes()
            if missing <= 0:
                return True
            batch = self._next_batch(order, missing)
            if not batch:
                return False
            self._sink(tier, batch)
        return False

    def _coldest(self, tier: Tier, folder: Folder) -> Iterator[CachedVersion | None]:
        """The folder's versions that may sink or leave, coldest first. None now and then: to let go of the lock. Those
        that were read beside us since we last looked are passed over, up to a bound."""
        chances = SECOND_CHANCES_MAX
        self._shelves.order(ORDER_AT_ONCE_VERSIONS)
        for looked, version in enumerate(self._shelves.candidates(tier)):
            if looked % MOVE_SEARCH_VERSIONS == MOVE_SEARCH_VERSIONS - 1:
                yield None
            entry = self._shelves.entries.get(version)
            if entry is None or entry.folder is not folder or not (entry.may_sink or entry.may_leave):
                continue
            if chances and self._shelves.was_read_beside(entry):
                chances -= 1
                continue
            yield entry

    def _next_batch(self, order: Iterator[CachedVersion | None], missing: int) -> list[CachedVersion]:
        """The next versions in that order, about `missing` bytes of them, but no more than one commit should hold."""
        batch: list[CachedVersion] = []
        size = 0
        while True:
            with self._shelves.lock:
                for entry in order:
                    if entry is None:
                        break
                    batch.append(entry)
                    size += entry.allocated_all()
                    if size >= min(missing, MOVE_BATCH_BYTES) or len(batch) == MOVE_BATCH_VERSIONS:
                        return batch
                else:
                    return batch

    def _sink(self, tier: Tier, batch: list[CachedVersion]) -> None:
        """Each goes down where a lower tier takes it, and out where none does and it is clean."""
        leaving: list[CachedVersion] = []
        by_target: dict[Folder, list[CachedVersion]] = {}
        with self._shelves.lock:
            for entry in batch:
                if entry.dropped:
                    continue
                target = self._lower_folder(tier, entry) if entry.may_sink else None
                if target is not None:
                    by_target.setdefault(target, []).append(entry)
                elif entry.may_leave:
                    leaving.append(entry)
            if leaving:
                self._shelves.evict(leaving)
        for target, entries in by_target.items():
            if move(self._shelves, entries, target, self._pace):
                log.debug("moved_down", to=target.alias, versions=len(entries))

    def _lower_folder(self, tier: Tier, entry: CachedVersion) -> Folder | None:
        """Under the lock. The best lower folder for it, room made there if it is worth it; None: none takes it."""
        size = entry.allocated_all()
        version = entry.meta.version
        if not entry.complete and entry.pages is None:
            return None
        for lower in self._shelves.tiers[self._shelves.tiers.index(tier) + 1 :]:
            for folder in lower.freest():
                if lower.below_low(folder, size):
                    return folder
                is_wanted = entry.dirty or lower.policy.admits(version, entry.meta.length)
                if is_wanted and size <= folder.quota_bytes // 2 and self._shelves.make_room(folder, size):
                    return folder
        return None

    # --- up, and to where a version is bound ---

    def _notice_reads_beside(self) -> None:
        """The next versions of a walk through the lower tiers: readers beside the worker tell their uses by the access
        time only."""
        if len(self._shelves.tiers) < 2:
            return
        versions = list(islice(self._walk, READS_BESIDE_PER_ROUND))
        if not versions:
            self._walk = iter(list(self._shelves.entries))
        top = self._shelves.tiers[0]
        for version in versions:
            entry = self._shelves.entries.get(version)
            if entry is not None and entry.tier is not top and entry.complete:
                self._shelves.was_read_beside(entry)

    def _lift(self, now_s: float) -> None:
        budgets = {tier.alias: tier.info().capacity_bytes * PROMOTE_SHARE_PER_ROUND for tier in self._shelves.tiers}
        for version in self._heat.hot(now_s):
            if self._closing.is_set():
                return
            entry = self._shelves.entries.get(version)
            if entry is not None and self._may_climb(entry):
                self._climb(entry, budgets)

    def _may_climb(self, entry: CachedVersion) -> bool:
        """What is dirty on a disk stays: there it outlives the machine. What was put somewhere by order stays too."""
        return entry.complete and not (entry.dirty or entry.pinned or entry.meta.tier or entry.users or entry.held)

    def _climb(self, entry: CachedVersion, budgets: dict[str, float]) -> None:
        """To the best tier that has room, or that holds something colder."""
        size = entry.allocated_all()
        for tier in self._shelves.tiers[: self._shelves.tiers.index(entry.tier)]:
            for folder in tier.freest():
                if size > folder.quota_bytes // 2:
                    continue
                if not tier.below_high(folder, size):
                    if budgets[tier.alias] <= 0 or not tier.policy.admits(entry.meta.version, entry.meta.length):
                        continue
                    budgets[tier.alias] -= size
                    if not self._relieve(tier, folder, tier.low_reserve(folder) + size):
                        continue
                if move(self._shelves, [entry], folder, self._pace):
                    return

    def _place_bound(self) -> None:
        """Versions that are bound to a tier go there as soon as there is room."""
        misplaced = self._shelves.misplaced
        with self._shelves.lock:
            versions = list(islice(misplaced, MOVE_BATCH_VERSIONS))
        for version in versions:
            if self._closing.is_set():
                return
            entry = self._shelves.entries.get(version)
            tier = next((each for each in self._shelves.tiers if entry and each.alias == entry.meta.tier), None)
            is_done = entry is None or tier is None or entry.tier is tier or self._bring(entry, tier)
            with self._shelves.lock:
                misplaced.pop(version, None)
                if not is_done:
                    misplaced[version] = None  # to the end: others have their turn first

    def _bring(self, entry: CachedVersion, tier: Tier) -> bool:
        size = entry.allocated_all()
        for folder in tier.freest():
            if size > folder.quota_bytes:
                continue
            if self._relieve(tier, folder, size):
                return move(self._shelves, [entry], folder, self._pace) == 1
        return False
