"""Where a version that comes in is put.

Owns: the order in which folders are tried, for writes and for what is read from an under storage. Never: makes room
itself, but says where room can be made. All under the store's lock.

From the top tier down, the first folder that can take it; within a tier the one with the most room. A write goes past a
tier that is above its high watermark while a lower one is not: the mover is emptying the upper one meanwhile, and
nobody waits for it. What is read is taken without a question while its tier is below the low watermark; above it, the
tier's policy is asked whether the newcomer is worth what will have to leave (the admission of TinyLFU, Einziger et al.,
2017), and when no tier wants it, it is served without being cached.
"""

from collections.abc import Sequence

from isotach.base.limits import ORDER_AT_ONCE_VERSIONS
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.folder import Folder
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Tier


def allowed_tiers(shelves: Shelves, meta: VersionMeta) -> Sequence[Tier]:
    """The tiers that may hold the version, the one it is bound to first."""
    tiers = [tier for tier in shelves.tiers if tier.folders]
    if meta.tier:
        tiers.sort(key=lambda tier: tier.alias != meta.tier)
    return tiers


def may_hold(folder: Folder, meta: VersionMeta) -> bool:
    """Whether the version may be in this folder at all."""
    return folder.holds_memory_only or not meta.memory_only


def choose_for_write(shelves: Shelves, meta: VersionMeta, size: int) -> Folder | None:
    """The folder for a file being written, of which `size` bytes are known to come. None: there is no folder for it."""
    tiers = allowed_tiers(shelves, meta)
    fitting: Folder | None = None
    for tier in tiers:
        for folder in tier.freest():
            if not may_hold(folder, meta):
                continue
            if folder.fits(size):
                if tier.below_high(folder, 0) or tier.alias == meta.tier:
                    return folder
                fitting = fitting or folder
            shelves.turned_away(folder)
    return fitting or _where_room_can_be_made(shelves, tiers, meta, size) or _largest(tiers, meta)


def choose_for_fill(shelves: Shelves, meta: VersionMeta, size: int, *, insist: bool) -> Folder | None:
    """The folder for a version that is read from elsewhere. None: it is not worth a place, or there is none. `insist`
    asks no policy: somebody said that it is to be here."""
    tiers = allowed_tiers(shelves, meta)
    insist = insist or meta.pinned
    refused = False
    for tier in tiers:
        folder = next((each for each in tier.freest() if may_hold(each, meta) and each.fits(size)), None)
        if folder is None:
            for each in tier.folders:
                shelves.turned_away(each)
            continue
        if insist or tier.below_low(folder, size) or tier.policy.admits(meta.version, size):
            return folder
        refused = True
    for tier in reversed(tiers):
        if insist or tier.policy.admits(meta.version, size):
            folder = _where_room_can_be_made(shelves, [tier], meta, size)
            if folder is not None:
                return folder
        else:
            refused = True
    return None if refused else _largest(tiers, meta)


def _where_room_can_be_made(shelves: Shelves, tiers: Sequence[Tier], meta: VersionMeta, size: int) -> Folder | None:
    """The folder of the version to leave first of the lowest tier that has one, if `size` bytes could stay there."""
    shelves.order(ORDER_AT_ONCE_VERSIONS)
    for tier in reversed(tiers):
        if not any(may_hold(folder, meta) and size <= folder.quota_bytes // 2 for folder in tier.folders):
            continue
        for version in shelves.candidates(tier):
            entry = shelves.entries.get(version)
            if entry is None or entry.tier is not tier or not entry.may_leave:
                continue
            if size <= entry.folder.quota_bytes // 2 and may_hold(entry.folder, meta):
                return entry.folder
    return None


def _largest(tiers: Sequence[Tier], meta: VersionMeta) -> Folder | None:
    """Where it will stream through, or find out that there is no room."""
    folders = [folder for tier in tiers for folder in tier.folders if may_hold(folder, meta)]
    return max(folders, key=lambda folder: folder.quota_bytes, default=None)
