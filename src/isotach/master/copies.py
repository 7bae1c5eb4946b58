"""How many workers hold a file, how many should, and what to do about the difference. Pure.

Owns: that decision: who gets a copy, from where, and who gives one up. Never: sends a command, or knows whether a
worker lives (it gets the live ones).

A maximum bounds copies that something else would make; it never takes the last whole copy of what no store has. A
worker that is being decommissioned counts for nothing, so that what only it holds is wanted elsewhere; nor does, of
what no store has, a copy that may be evicted: it is made one that may not, where there is no other.
"""

from collections.abc import Collection, Sequence

import msgspec

from isotach.base.limits import HOT_COPIES_MAX
from isotach.base.locality import distance
from isotach.base.placement import free_bytes, in_order, takes_new
from isotach.base.types import BlockHolder, Flag, Inode, PathPolicy, WorkerId
from isotach.master.cache_states import covers, holds_all
from isotach.wire.messages import WorkerRow


class CopyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. `missing` copies are wanted, `targets` can take some of them; `sources` have all of it
    between them, or it is `in_store`, or (neither) nothing can be done now."""

    missing: int = 0
    targets: list[WorkerRow] = []
    sources: list[WorkerRow] = []
    in_store: bool = False
    drops: list[WorkerId] = []

    @property
    def is_idle(self) -> bool:
        """Whether all is as it should be."""
        return not self.missing and not self.drops


def plan_copies(
    inode: Inode,
    holders: Sequence[BlockHolder],
    live: Sequence[WorkerRow],
    *,
    dirty: Collection[WorkerId] = (),
    hot: bool = False,
) -> CopyPlan:
    """The plan for one file. `holders` may name workers that are not live: they are passed over. `dirty` are those of
    them that keep their copy from being evicted: of what no store has, no other copy counts for anything. A `hot` file
    gets one copy more than it has, within its maximum, if a store has it: it may be evicted again at any time."""
    policy = inode.rules
    rows = {row.worker_id: row for row in live}
    present = [holder for holder in holders if holder.worker_id in rows]
    staying = {row.worker_id for row in takes_new(live)}
    persisted = bool(inode.flags & Flag.PERSISTED)
    whole = [each.worker_id for each in present if holds_all(each, inode.length, inode.block_size)]
    kept = [each for each in present if each.worker_id in staying and (persisted or each.worker_id in dirty)]
    kept_ids = {each.worker_id for each in kept}
    safe = [worker_id for worker_id in whole if worker_id in kept_ids]
    least = 0 if persisted else 1
    wanted = policy.replication_min
    if policy.replication_max >= 0:
        wanted = min(wanted, max(policy.replication_max, least))
    if not persisted and not covers(kept, inode.length, inode.block_size):
        wanted = max(wanted, 1)
    if hot and persisted and safe:
        wanted = max(wanted, _one_more(len(safe), len(staying), policy.replication_max))
    if inode.length == 0:
        return CopyPlan()
    missing = max(0, wanted - len(safe))
    if missing:
        whole_somewhere = covers(present, inode.length, inode.block_size)
        return CopyPlan(
            missing=missing,
            targets=_targets(inode, policy, present, [rows[worker_id] for worker_id in safe], list(live))[:missing],
            sources=[rows[each.worker_id] for each in present] if whole_somewhere else [],
            in_store=persisted,
        )
    if policy.replication_max < 0:
        return CopyPlan()
    return CopyPlan(drops=_surplus(present, safe, max(policy.replication_max, least), least, rows))


def _one_more(copies: int, workers: int, maximum: int) -> int:
    limit = min(workers, HOT_COPIES_MAX if maximum < 0 else maximum)
    return min(copies + 1, limit)


def _targets(
    inode: Inode, policy: PathPolicy, present: Sequence[BlockHolder], safe: list[WorkerRow], live: list[WorkerRow]
) -> list[WorkerRow]:
    """Who may get a copy, best first: who has a part of it already, then who has room, then far from the other copies
    (so that one rack does not take all of them), then by the file's own placement."""
    parts = {each.worker_id: each.cached_bytes for each in present}
    has_whole = {row.worker_id for row in safe}
    candidates = [row for row in takes_new(live) if row.worker_id not in has_whole]
    ordered = in_order(
        candidates,
        policy.placement if policy.placement in ("HASH", "CAPACITY") else "MOST_AVAILABLE",
        host_key="",
        locality=[],
        key=inode.version.to_bytes(8, "little"),
        turn=0,
    )

    def rank(row: WorkerRow) -> tuple[bool, int, int]:
        missing_bytes = inode.length - parts.get(row.worker_id, 0)
        nearest = min((distance(row.locality, other.locality) for other in safe), default=0)
        return free_bytes(row) < missing_bytes, -parts.get(row.worker_id, 0), -nearest

    return sorted(ordered, key=rank)


def _surplus(
    present: Sequence[BlockHolder], safe: Sequence[WorkerId], limit: int, least: int, rows: dict[WorkerId, WorkerRow]
) -> list[WorkerId]:
    """Who gives its copy up: partial ones first, then those of workers with the least room left. Nobody, where fewer
    than `least` whole copies would stay."""
    if len(present) <= limit or len(safe) < least:
        return []

    def worth(holder: BlockHolder) -> tuple[bool, int, int]:
        return holder.worker_id not in safe, -holder.cached_bytes, -free_bytes(rows[holder.worker_id])

    return [holder.worker_id for holder in sorted(present, key=worth)[limit:]]
