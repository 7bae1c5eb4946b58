"""What is found in a folder when it comes into service: entries from the index, in the order of their versions, without
reading data.

Owns: bringing index and containers back in step after any crash. Never: trusts the data (entries come back unverified)
or reads it.

Drafts that an earlier process noted are put aside (`Shelves.found_drafts`) for whoever knows what they are.

A container without a row is the rest of a write that was not committed: removed. A row without a container: removed. A
version that stands in two folders was being moved: the better tier keeps it. What must never be on a disk and stands on
one (because the folder of MEM was given another place) is removed.
"""

import gc
import time

from isotach.base.types import Version
from isotach.blockstore import open_draft
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.folder import Folder, container_name
from isotach.blockstore.index import Header, load_headers, load_pages
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Tier
from isotach.obs.log import get_logger

log = get_logger("blockstore.recovery")


def recover(shelves: Shelves) -> None:
    """Fills empty shelves from their folders, then shrinks a folder whose quota has become smaller. A folder that turns
    out to be broken is taken out of service."""
    with shelves.lock:
        for tier in shelves.tiers:
            for folder in tier.folders:
                recover_folder(shelves, tier, folder)
        for folder in shelves.folders():
            if not shelves.make_room(folder, 0):
                log.warning(
                    "folder_over_quota", folder=str(folder.path), used=folder.used_bytes, quota=folder.quota_bytes
                )
                shelves.is_crowded.set()


def recover_folder(shelves: Shelves, tier: Tier, folder: Folder, *, report: bool = False) -> int:
    """Under the lock. Takes in what the folder holds, telling `on_change` if wished; how many versions."""
    # A million objects that all stay: looking through them for garbage again and again costs more than making them.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _recover(shelves, tier, folder, report)
    except OSError as error:
        if not shelves.blame(folder, error):
            raise
        return 0
    finally:
        if was_enabled:
            gc.enable()


def _recover(shelves: Shelves, tier: Tier, folder: Folder, report: bool) -> int:
    names = folder.container_names()
    now_ns = time.time_ns()
    lost: list[tuple[Version, int]] = []
    used = found = 0
    with folder.snapshot() as snapshot:
        for version, header in load_headers(snapshot):
            name = container_name(version)
            if name not in names or version in shelves.entries or not _may_stand_here(header, folder):
                lost.append((version, header.length))
                continue
            names.discard(name)
            entry = _entry_of(version, header, folder, tier, now_ns)
            used += entry.allocated_all()
            found += 1
            shelves.add(entry, order_later=True)
            if report:
                shelves.on_change(version)
    folder.used_bytes += used
    for name in folder.noted_drafts():
        try:
            shelves.found_drafts.append(open_draft.found(shelves, folder, name))
        except OSError as error:  # one file; whether the folder is broken shows elsewhere
            log.error("draft_not_readable", folder=str(folder.path), name=name, error=error)
    if lost:
        shelves.delete_rows(folder, lost)
    for name in names:
        folder.remove_file(name)
    if lost or names:
        log.info("folder_cleaned", folder=str(folder.path), rows=len(lost), containers=len(names))
    return found


def _may_stand_here(header: Header, folder: Folder) -> bool:
    return folder.holds_memory_only or not header.memory_only


def _entry_of(version: Version, header: Header, folder: Folder, tier: Tier, now_ns: int) -> CachedVersion:
    meta = VersionMeta(
        version,
        header.file_id,
        header.length,
        header.block_bytes,
        header.fingerprint,
        header.pinned,
        header.spread,
        header.tier,
        header.memory_only,
        header.stored_bytes,
    )
    entry = CachedVersion(meta, folder, tier, now_ns)
    entry.complete, entry.dirty = header.complete, header.dirty
    entry.verified = False
    entry.former = not header.spread
    entry.handed_out = True  # by the process before us, for all we know
    if not header.complete:
        entry.pages = load_pages(folder.index, version, header.length)
    return entry
