"""The rows of the soft store, and how a change of one worker's share changes them. Pure: a snapshot in, a batch out.

Owns: their keys and records. Never: writes them (`locations.py`).

    version (8)                        -> CacheState: what all workers hold of it, as it is sent to clients
    w + worker id + NUL + version (8)  -> Share: the same for one worker, by which a lost worker's rows are found
    s + worker id                      -> Told: up to which report the rows of that worker are
    b                                  -> the boot id of the kernel under which the store was written
    c                                  -> empty: every worker that has anything had its time to tell it since the store
                                          was wiped
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from isotach.base.types import BlockHolder, CacheState, FileId, Version, WorkerId
from isotach.kv.interface import Batch, Snapshot
from isotach.master.cache_states import covers, summarize
from isotach.wire.messages import ReportedVersion

VERSION_END: Final[Version] = (1 << 64) - 1
BOOT_KEY: Final = b"b"
COMPLETE_KEY: Final = b"c"


class Share(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one worker holds of a version, and what of its file must be known when it goes."""

    length: int
    block_size: int
    file_id: FileId = 0
    dirty: bool = False
    memory_bytes: int = 0
    cached_bytes: int = 0
    blocks: bytes = b""

    def holder(self, worker_id: WorkerId) -> BlockHolder:
        """The same as clients hear it."""
        return BlockHolder(worker_id, self.memory_bytes, self.cached_bytes, self.blocks)


class Told(msgspec.Struct, array_like=True, frozen=True):
    """Up to which report of which process of a worker its rows are; `complete` after a report of everything."""

    incarnation: str
    sequence: int
    complete: bool


class Change(msgspec.Struct, gc=False):
    """One version's share at one worker: new, or gone when `share` is None."""

    version: Version
    worker_id: WorkerId
    share: Share | None


class Loss(msgspec.Struct, frozen=True):
    """What became of files because workers hold less of what no store had yet: `orphans` are nowhere whole any more;
    of the `exposed` there is enough left, but perhaps in copies that may be evicted."""

    orphans: list["Orphan"] = []
    exposed: list[FileId] = []

    def __bool__(self) -> bool:
        return bool(self.orphans or self.exposed)


class Orphan(msgspec.Struct, frozen=True):
    """A version of which no store had anything yet, and workers no longer have everything."""

    version: Version
    file_id: FileId


encode: Final = msgspec.msgpack.Encoder().encode
decode_state: Final = msgspec.msgpack.Decoder(CacheState).decode
decode_share: Final = msgspec.msgpack.Decoder(Share).decode
decode_told: Final = msgspec.msgpack.Decoder(Told).decode


def share_of(row: ReportedVersion) -> Share:
    """A reported row as it is kept."""
    return Share(row.length, row.block_size, row.file_id, row.dirty, row.memory_bytes, row.cached_bytes, row.blocks)


def reported_of(version: Version, share: Share) -> ReportedVersion:
    """The same back again."""
    return ReportedVersion(
        version,
        share.file_id,
        share.length,
        share.block_size,
        share.memory_bytes,
        share.cached_bytes,
        share.blocks,
        share.dirty,
    )


def version_key(version: Version) -> bytes:
    return version.to_bytes(8, "big")


def worker_prefix(worker_id: WorkerId) -> bytes:
    return b"w" + worker_id.encode() + b"\0"


def told_key(worker_id: WorkerId) -> bytes:
    return b"s" + worker_id.encode()


def state_in(snapshot: Snapshot, version: Version) -> CacheState | None:
    """Where the version is cached."""
    raw = snapshot.get(version_key(version))
    return None if raw is None else decode_state(raw)


def told_in(snapshot: Snapshot, worker_id: WorkerId) -> Told | None:
    """Up to which report the worker's rows are."""
    raw = snapshot.get(told_key(worker_id))
    return None if raw is None else decode_told(raw)


def workers_in(snapshot: Snapshot) -> list[WorkerId]:
    """Every worker that has told something."""
    return [key[1:].decode() for key, _ in snapshot.scan(b"s", b"t")]


def shares_in(
    snapshot: Snapshot, worker_id: WorkerId, start: Version = 0, stop: Version = VERSION_END, limit: int = 0
) -> list[tuple[Version, bytes]]:
    """(version, encoded share) of a worker's versions in [start, stop), at most `limit` of them if it is given."""
    prefix = worker_prefix(worker_id)
    at = len(prefix)
    found: list[tuple[Version, bytes]] = []
    for key, raw in snapshot.scan(prefix + version_key(start), prefix + version_key(stop)):
        found.append((int.from_bytes(key[at:], "big"), raw))
        if len(found) == limit:
            break
    return found


def dirty_holders(snapshot: Snapshot, version: Version, worker_ids: Iterable[WorkerId]) -> set[WorkerId]:
    """Which of them keep their copy from being evicted because no store has it."""
    key = version_key(version)
    raws = ((worker_id, snapshot.get(worker_prefix(worker_id) + key)) for worker_id in worker_ids)
    return {worker_id for worker_id, raw in raws if raw is not None and decode_share(raw).dirty}


def batch_of(snapshot: Snapshot, changes: Sequence[Change]) -> tuple[Batch, Loss]:
    """The rows after these changes, and what is lost or in danger because of them."""
    states: dict[Version, CacheState | None] = {}
    rows: dict[bytes, bytes | None] = {}
    loss = Loss([], [])
    for change in changes:
        version, share = change.version, change.share
        key = worker_prefix(change.worker_id) + version_key(version)
        raw = rows[key] if key in rows else snapshot.get(key)
        before = states[version] if version in states else state_in(snapshot, version)
        rows[key] = None if share is None else encode(share)
        if before is None:  # the ordinary case: nobody else holds it
            holders = []
        else:
            holders = [row for row in before.holders if row.worker_id != change.worker_id]
        former = None if raw is None else decode_share(raw)
        if share is not None:
            holders.append(share.holder(change.worker_id))
        known = share or former
        if holders and known is not None:
            states[version] = summarize(holders, known.length, known.block_size)
        elif holders and before is not None and len(holders) < len(before.holders):
            states[version] = CacheState(before.memory_bytes, before.cached_bytes, holders)
        else:
            states[version] = before if holders else None
        if former is not None and former.dirty and _shrank(former, share):
            if covers(holders, former.length, former.block_size):
                loss.exposed.append(former.file_id)
            else:
                loss.orphans.append(Orphan(version, former.file_id))
    batch: Batch = list(rows.items())
    batch += [(version_key(version), None if state is None else encode(state)) for version, state in states.items()]
    return batch, loss


def _shrank(before: Share, after: Share | None) -> bool:
    """Whether a worker holds less than it did."""
    if after is None:
        return True
    if before.blocks == after.blocks:
        return False
    return bool(int.from_bytes(before.blocks, "little") & ~int.from_bytes(after.blocks, "little"))
