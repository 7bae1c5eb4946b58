"""Versions on their way from one folder to another, several at a time.

Owns: the order of copy, commit and switch that never loses a version, and that never shows half of one. Never: chooses
what moves or where to (`Mover` and `BlockStore.promote` do).

    under the lock   the bytes are taken in the target, the entry counts as used: it is not evicted meanwhile
    no lock          the copy, into a draft; fsync where the version is dirty and the target a disk
    no lock          the draft becomes the container, then one commit of all rows in the target's index
    under the lock   the entry is replaced, if nothing happened to it; the source's rows go, then its container

Killed before the commit: the target has a container without a row, which the next start removes. Killed after it: the
version stands in two folders, and the next start keeps one. A version that was freed, filled or opened (while partial)
meanwhile stays where it is, and what was copied goes. Readers keep what they have open; those that find the old entry
dropped look the version up again.
"""

import errno
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from isotach.base.failpoints import fail_at
from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.container import FULL_ERRNOS, copy_ranges, data_ranges, is_in_use
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.folder import DRAFT_SUFFIX, Folder
from isotach.blockstore.index import header_row, page_rows_as_stored
from isotach.blockstore.pages import PageTable
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.write_back import WriteBack
from isotach.kv.interface import Batch
from isotach.obs.log import get_logger

log = get_logger("blockstore.moving")
_serial: Final = itertools.count()
#: Told of the bytes of each piece that was copied; may wait, to hold the moves back.
Pace = Callable[[int], None]


def at_full_speed(_size: int) -> None:
    """The pace of a move that somebody waits for."""


class _Move:
    """One version under way."""

    __slots__ = ("count", "entry", "fresh", "name", "rows", "size")

    def __init__(self, entry: CachedVersion, target: Folder, tier_of: Shelves) -> None:
        self.entry = entry
        self.size = entry.allocated_all()
        self.count = -1 if entry.pages is None else entry.pages.count
        self.name = f"{entry.meta.version:016x}-move{next(_serial)}{DRAFT_SUFFIX}"
        self.rows: Batch = []
        self.fresh = CachedVersion(entry.meta, target, tier_of.tier_of(target))

    def ranges(self, source: int) -> list[tuple[int, int]]:
        """The byte ranges that are present; of a file with holes, those that are stored."""
        pages = self.entry.pages
        if self.entry.meta.stored_bytes >= 0:
            return data_ranges(source, self.entry.meta.length)
        if pages is None:
            return [(0, self.entry.meta.length)]
        return [(first * PAGE_BYTES, stop * PAGE_BYTES) for first, stop in list(pages.present_runs(0, len(pages)))]


def move(shelves: Shelves, entries: Sequence[CachedVersion], target: Folder, pace: Pace = at_full_speed) -> int:
    """Moves versions into `target`, as far as there is room without evicting. The caller holds no lock. Returns how
    many went; the others stay as they were."""
    with shelves.lock:
        moves = [begun for entry in entries if (begun := _begin(shelves, entry, target)) is not None]
    done = 0
    try:
        copied = [each for each in moves if _copy(shelves, each, target, pace)]
        if copied and _commit(shelves, copied, target):
            with shelves.lock:
                done = _switch_all(shelves, copied, target)
    finally:
        with shelves.lock:
            for each in moves:
                _end(shelves, each, target)
            shelves.arrived.notify_all()
    return done


def _begin(shelves: Shelves, entry: CachedVersion, target: Folder) -> _Move | None:
    """Under the lock."""
    begun = _Move(entry, target, shelves)
    version = entry.meta.version
    is_possible = not (entry.dropped or entry.users or entry.held or entry.folder is target or entry.is_streaming)
    may_be_there = target.holds_memory_only or not entry.meta.memory_only
    if not (is_possible and may_be_there and target.fits(begun.size) and shelves.clear_stale(target, version)):
        return None
    shelves.take(target, begun.size)
    shelves.arriving.add((target, version))
    entry.users += 1
    return begun


def _end(shelves: Shelves, each: _Move, target: Folder) -> None:
    """Under the lock, whatever happened: a move that did not switch leaves nothing."""
    version = each.entry.meta.version
    shelves.arriving.discard((target, version))
    each.entry.users -= 1
    target.written(each.size)
    if shelves.entries.get(version) is each.fresh:
        return
    target.give_back(each.size)
    if not target.failure:
        target.remove_file(each.name)


def _copy(shelves: Shelves, each: _Move, target: Folder, pace: Pace) -> bool:
    entry = each.entry
    try:
        source = entry.folder.open(entry.meta.version)
    except OSError as error:
        if not shelves.blame(entry.folder, error) and error.errno == errno.ENOENT:
            with shelves.lock:
                if not entry.dropped:  # somebody removed it behind our back
                    shelves.drop(entry)
        return False
    try:
        with entry.folder.snapshot() as snapshot:
            each.rows = page_rows_as_stored(snapshot, entry.meta.version)
        descriptor = target.create_draft(each.name)
        try:
            os.ftruncate(descriptor, entry.meta.length)
            write_back = None if target.is_memory else WriteBack()

            def copied(to: int, offset: int, size: int) -> None:
                if write_back is not None:
                    write_back.wrote(to, offset, size)
                pace(size)

            copy_ranges(source, descriptor, each.ranges(source), copied)
            if entry.dirty and not target.is_memory:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            is_broken = shelves.blame(target, error) or shelves.blame(entry.folder, error)
            log.warning("move_failed", version=entry.meta.version, error=error, folder_is_broken=is_broken)
        return False
    finally:
        os.close(source)
    return not entry.dropped and not entry.folder.failure


def _commit(shelves: Shelves, moves: Sequence[_Move], target: Folder) -> bool:
    """The copies become containers with rows."""
    rows: Batch = []
    try:
        for each in moves:
            _take_over(each.fresh, each.entry)
            target.publish_draft(each.name, each.entry.meta.version)
            rows += [header_row(each.entry.meta.version, each.fresh.header()), *each.rows]
        fail_at("store.before_move_switch")
        target.commit(rows)
    except OSError as error:
        is_broken = error.errno not in FULL_ERRNOS and shelves.blame(target, error)
        log.warning("move_not_committed", folder=str(target.path), error=error, folder_is_broken=is_broken)
        if not is_broken:
            for each in moves:
                target.unlink(each.entry.meta.version)
        return False
    fail_at("store.after_move_switch")
    return True


def _take_over(fresh: CachedVersion, entry: CachedVersion) -> None:
    fresh.meta = entry.meta
    fresh.complete, fresh.dirty, fresh.pinned = entry.complete, entry.dirty, entry.pinned
    fresh.verified, fresh.former = entry.verified, entry.former
    fresh.accessed_ns = time.time_ns()  # that the copy was made is no use of it


def _switch_all(shelves: Shelves, moves: Sequence[_Move], target: Folder) -> int:
    """Under the lock: each version that is still as it was when it was copied changes over."""
    if target.failure:
        return 0
    switched: list[_Move] = []
    undone: list[_Move] = []
    for each in moves:
        (switched if _is_unchanged(each) else undone).append(each)
    corrected: Batch = []
    for each in switched:
        before = each.fresh.header()
        _take_over(each.fresh, each.entry)
        if each.fresh.header() != before:
            corrected.append(header_row(each.entry.meta.version, each.fresh.header()))
    if undone:
        shelves.delete_rows(target, [(each.entry.meta.version, each.entry.meta.length) for each in undone])
        for each in undone:
            target.unlink(each.entry.meta.version)
    if corrected:
        try:
            target.commit(corrected)
        except OSError as error:
            log.warning("moved_header_not_corrected", folder=str(target.path), error=error)
    by_source: dict[Folder, list[_Move]] = {}
    for each in switched:
        by_source.setdefault(each.entry.folder, []).append(each)
    for leaving in by_source.values():
        _change_over(shelves, leaving)
    return len(switched)


def _change_over(shelves: Shelves, moves: Sequence[_Move]) -> None:
    """Rows and containers of one source folder go, the new entries come."""
    is_down = shelves.tiers.index(moves[0].fresh.tier) >= shelves.tiers.index(moves[0].entry.tier)
    for each in moves:
        entry, pages = each.entry, each.entry.pages
        each.fresh.pages = None if pages is None else _copy_of(pages)
        policy = entry.tier.policy
        (policy.evicted if is_down else policy.removed)(entry.meta.version)
        # In one step, for those who look without the lock: a version that moves is never absent.
        shelves.add(each.fresh)
        if is_down:
            entry.tier.demoted_bytes += each.size
        else:
            each.fresh.tier.promoted_bytes += each.size
    shelves.drop_all([each.entry for each in moves])


def _is_unchanged(each: _Move) -> bool:
    """Whether nobody filled, freed, held or (while it is partial) opened it since the move began."""
    entry = each.entry
    if entry.dropped or entry.users != 1 or entry.held or entry.folder.failure:
        return False
    if entry.pages is None:
        return each.count < 0
    return each.count == entry.pages.count and not _is_open_elsewhere(entry)


def _is_open_elsewhere(entry: CachedVersion) -> bool:
    try:
        descriptor = entry.folder.open(entry.meta.version)
    except OSError:
        return True
    try:
        return is_in_use(descriptor)
    finally:
        os.close(descriptor)


def _copy_of(pages: PageTable) -> PageTable:
    """The old entry keeps its own table, and with it the truth about its container."""
    table = PageTable(len(pages))
    table.marks[:], table.crcs[:], table.count = pages.marks, pages.crcs, pages.count
    return table
