"""Room for versions that are being written: a first folder, another one when that is full, and the words when none is.

Owns: the search, with the bytes counted in what it finds, and `TierFullError`. Never: writes or copies a byte. The
order of folders is `choice`'s; eviction is `Shelves.make_room`'s.
"""

import errno
from collections.abc import Callable

from isotach.blockstore.choice import choose_for_write, may_hold
from isotach.blockstore.container import FULL_ERRNOS
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.folder import Folder
from isotach.blockstore.shelves import Shelves


class TierFullError(OSError):
    """No tier has room, and nothing more can be evicted: the text says which are full, and of what."""


def first_file(shelves: Shelves, meta: VersionMeta, size: int, name_of: Callable[[], str]) -> tuple[Folder, str, int]:
    """A new file in the folder for `size` bytes that are known to come (none of which are counted): folder, name,
    descriptor. Folders that turn out to be broken are passed over. Raises TierFullError."""
    while True:
        with shelves.lock:
            folder = choose_for_write(shelves, meta, size)
        if folder is None:
            raise TierFullError(errno.ENOSPC, nowhere_text(shelves, meta))
        name = name_of()
        try:
            return folder, name, folder.create_draft(name)
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                raise TierFullError(errno.ENOSPC, full_text(shelves, meta, 1)) from error
            if not shelves.blame(folder, error):
                raise


def another_folder(
    shelves: Shelves, old: Folder, meta: VersionMeta, needed: int, *, below: bool, evicting: bool = True
) -> Folder | None:
    """A folder other than `old` with that much room, made if need be; it counts as taken then. `below`: of this tier or
    lower. Without `evicting`: on a disk, and with room as it is."""
    with shelves.lock:
        place = next(at for at, tier in enumerate(shelves.tiers) if tier.alias == old.alias)
        for tier in shelves.tiers[place if below else 0 :]:
            for folder in tier.freest():
                if folder is old or not may_hold(folder, meta) or (folder.is_memory and not evicting):
                    continue
                if folder.fits(needed) or (evicting and shelves.make_room(folder, needed)):
                    shelves.take(folder, needed)
                    return folder
    return None


def give_back(shelves: Shelves, folder: Folder, size: int, unseen: int) -> None:
    """Bytes that were counted are not there any more; `unseen` of them `statvfs` never saw."""
    with shelves.lock:
        folder.written(unseen)
        folder.give_back(size)


def nowhere_text(shelves: Shelves, meta: VersionMeta) -> str:
    """Why there is no folder at all."""
    if meta.memory_only and shelves.folders():
        return (
            "this file may only be in memory, and no folder of this worker is in memory: give it worker.mem_size "
            "with worker.mem_dir in a tmpfs"
        )
    return "this worker has no cache tier that serves: give it worker.mem_size or worker.tiers"


def full_text(shelves: Shelves, meta: VersionMeta, size: int) -> str:
    """Which tiers are full, and of what."""
    with shelves.lock:
        entries = list(shelves.entries.values())
        parts = []
        for folder in shelves.folders():
            if not may_hold(folder, meta):
                continue
            staying = (each for each in entries if each.folder is folder and (each.dirty or each.pinned))
            kept = sum(each.allocated_all() for each in staying)
            parts.append(
                f"{folder.alias} ({folder.used_bytes >> 20} of {folder.quota_bytes >> 20} MiB used, "
                f"{kept >> 20} MiB of it not persisted or pinned)"
            )
    which = "no tier in memory, where alone this file may be," if meta.memory_only else "no tier"
    return f"{which} has room for {size} bytes more: {', '.join(parts)}; persist or unpin files, or enlarge a tier"
