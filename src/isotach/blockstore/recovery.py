"""What a worker finds when it starts: entries from the index, in the order of their versions, without reading data.

Owns: bringing index and containers back in step after any crash. Never: trusts the data (entries come back unverified)
or reads it.

A container without a row is the rest of a write that was not committed: removed. A row without a container: removed. A
version that stands in two tiers was being moved: the better tier keeps it.
"""

from isotach.base.types import Version
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.index import Header, load_headers, load_pages
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.tier import Tier
from isotach.obs.log import get_logger

log = get_logger("blockstore.recovery")


def recover(shelves: Shelves) -> None:
    """Fills empty shelves from their tiers, then shrinks a tier whose quota has become smaller."""
    with shelves.lock:
        for tier in shelves.tiers:
            _recover_tier(shelves, tier)
        for tier in shelves.tiers:
            if not shelves.make_room(tier, 0):
                log.warning("tier_over_quota", tier=tier.alias, used=tier.used_bytes, quota=tier.quota_bytes)


def _recover_tier(shelves: Shelves, tier: Tier) -> None:
    containers = tier.container_versions()
    tier.remove_drafts()
    lost: list[tuple[Version, int]] = []
    with tier.index.snapshot() as snapshot:
        for version, header in load_headers(snapshot):
            if version in containers and version not in shelves.entries:
                containers.discard(version)
                entry = _entry_of(version, header, tier)
                tier.used_bytes += entry.allocated_all()
                shelves.add(entry)
            else:
                lost.append((version, header.length))
    for version, length in lost:
        shelves.delete_rows(tier, version, length)
    for version in containers:
        tier.unlink(version)
    if lost or containers:
        log.info("tier_cleaned", tier=tier.alias, rows=len(lost), containers=len(containers))


def _entry_of(version: Version, header: Header, tier: Tier) -> CachedVersion:
    meta = VersionMeta(
        version,
        header.file_id,
        header.length,
        header.block_bytes,
        header.fingerprint,
        header.pinned,
        header.spread,
    )
    entry = CachedVersion(meta, tier)
    entry.complete, entry.dirty = header.complete, header.dirty
    entry.verified = False
    entry.former = not header.spread
    entry.handed_out = True  # by the process before us, for all we know
    if not header.complete:
        entry.pages = load_pages(tier.index, version, header.length)
    return entry
