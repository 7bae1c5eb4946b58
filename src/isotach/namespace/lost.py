"""Files whose last copy is gone and that no under storage ever held: marked, listed, and found again.

Owns: the flag LOST together with its index row, which tells whose copy was the last. Never: decides that a copy is gone
(the master does, from what its workers report). The index row goes with the flag, whoever clears it (`entries`).
"""

from datetime import UTC, datetime
from itertools import islice

import msgspec

from isotach.base.types import FileId, Flag, Inode, Version, WorkerId
from isotach.namespace import entries, keys, persist_queue
from isotach.namespace.lookup import inode_of, location_of
from isotach.namespace.view import View


class LostRecord(msgspec.Struct, array_like=True, frozen=True):
    """Whose copy was the last one: both names are empty when nobody knows (the cluster started without it)."""

    version: Version
    worker_id: WorkerId
    host: str
    since_ms: int  # wall clock, ms since the epoch


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LostRecord)


def can_be_lost(inode: Inode) -> bool:
    """Whether the workers' copies are all there is of it."""
    return not inode.is_dir and inode.length > 0 and not inode.flags & (Flag.PERSISTED | Flag.LOST)


def mark_lost(view: View, file_id: FileId, record: LostRecord) -> bool:
    """Sets the flag, if the file still is at that version and nothing else holds it; whether it did."""
    try:
        inode = inode_of(view, file_id)
    except FileNotFoundError:
        return False
    if inode.version != record.version or not can_be_lost(inode):
        return False
    entries.store(view, *location_of(view, file_id), inode, with_flags(inode, inode.flags | Flag.LOST))
    view.put(keys.lost(file_id), _encoder.encode(record))
    return True


def mark_found(view: View, file_id: FileId, version: Version, now_ms: int) -> bool:
    """Clears the flag; a file that waited to be persisted is due now. False when it was not lost, or was replaced."""
    try:
        inode = inode_of(view, file_id)
    except FileNotFoundError:
        return False
    if inode.version != version or not inode.flags & Flag.LOST:
        return False
    entries.store(view, *location_of(view, file_id), inode, with_flags(inode, inode.flags & ~Flag.LOST))
    if inode.flags & Flag.TO_PERSIST:
        persist_queue.enqueue(view, file_id, now_ms)
    return True


def record_of(view: View, file_id: FileId) -> LostRecord | None:
    """Whose copy was the last one; None for a file that is not lost."""
    raw = view.get(keys.lost(file_id))
    return None if raw is None else _decoder.decode(raw)


def lost_after(view: View, after: FileId, limit: int) -> list[tuple[FileId, LostRecord]]:
    """At most `limit` lost files with ids above `after`, in order of the ids."""
    rows = islice(view.scan(keys.lost(after + 1), keys.all_of(b"l")[1]), limit)
    return [(int.from_bytes(key[1:], "big"), _decoder.decode(raw)) for key, raw in rows]


def loss_text(record: LostRecord | None) -> str:
    """What a reader of the file is told."""
    if record is None or not record.worker_id:
        return "no worker has its content, and it was never persisted; it is found again if a worker with it returns"
    when = datetime.fromtimestamp(record.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = f"{record.worker_id} on {record.host}" if record.host else record.worker_id
    return (
        f"its last copy went away with the worker {where} at {when}, before it was persisted; it is found again if "
        "that worker returns"
    )


def with_flags(inode: Inode, flags: int) -> Inode:
    """The record with other flags."""
    return msgspec.structs.replace(inode, flags=int(flags))
