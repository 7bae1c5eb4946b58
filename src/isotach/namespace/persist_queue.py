"""The durable queue of files that wait to be written to their under storage.

Owns: its rows, one per file, ordered by mount and due time, so that what waits for a dead store stands in nobody's way;
and the mark of what has arrived, on the file and on the directories above it. Never: chooses a worker or a delay (the
master's scheduler does). Items are keyed by file id, so renames do not touch them; removing a file drops its item.
"""

from itertools import islice

import msgspec

from isotach.base.types import FileId, Flag, Inode, MountId, Version
from isotach.namespace import counters, keys
from isotach.namespace.lookup import entry_at, first_name, inode_of, location_of
from isotach.namespace.records import encode_inode
from isotach.namespace.view import View


class PersistItem(msgspec.Struct, frozen=True):
    """One waiting file. `due_ms` is wall clock, ms since the epoch."""

    file_id: FileId
    attempts: int
    due_ms: int
    mount_id: MountId = 0


def enqueue(view: View, file_id: FileId, due_ms: int) -> None:
    """Adds the file with no attempts so far; one that waits already is set anew."""
    _put(view, PersistItem(file_id, 0, due_ms, inode_of(view, file_id).mount_id))


def reschedule(view: View, tried: PersistItem, attempts: int, due_ms: int) -> None:
    """Moves a file that was tried in vain to a later time; no effect when it does not wait any more, or was queued anew
    meanwhile."""
    if find(view, tried.file_id) == tried:
        _put(view, PersistItem(tried.file_id, attempts, due_ms, tried.mount_id))


def dequeue(view: View, file_id: FileId) -> None:
    """Removes the file; no effect when it does not wait."""
    item = find(view, file_id)
    if item is not None:
        view.delete(keys.persist_item(file_id))
        view.delete(keys.persist_due(item.mount_id, item.due_ms, file_id))
        counters.add(view, keys.PERSIST_LENGTH, -1)


def find(view: View, file_id: FileId) -> PersistItem | None:
    """The file's item, or None."""
    raw = view.get(keys.persist_item(file_id))
    if raw is None:
        return None
    due_ms, attempts, mount_id = raw[:8], raw[8:12], raw[12:]
    return PersistItem(
        file_id, int.from_bytes(attempts, "big"), int.from_bytes(due_ms, "big"), int.from_bytes(mount_id, "big")
    )


def mounts_waiting(view: View) -> list[MountId]:
    """The mounts that something waits for, by id."""
    found: list[MountId] = []
    start, stop = keys.all_of(b"q")
    while (key := next((key for key, _ in view.scan(start, stop)), None)) is not None:
        found.append(int.from_bytes(key[1:9], "big"))
        start = keys.persist_lane(found[-1])[1]
    return found


def first(view: View, mount_id: MountId, limit: int) -> list[PersistItem]:
    """At most `limit` items that wait for the mount, the longest due first, those of the future included."""
    return [
        PersistItem(
            int.from_bytes(key[17:], "big"), int.from_bytes(raw, "big"), int.from_bytes(key[9:17], "big"), mount_id
        )
        for key, raw in islice(view.scan(*keys.persist_lane(mount_id)), limit)
    ]


def length(view: View) -> int:
    """How many files wait."""
    return counters.read(view, keys.PERSIST_LENGTH)


def mark_persisted(view: View, file_id: FileId, version: Version, fingerprint: str | None, now_ns: int) -> bool:
    """The under storage holds exactly this version: sets the flag and drops the waiting item. False, with nothing
    changed, when the file is gone or has another version by now."""
    try:
        directory_id, name = location_of(view, file_id)
    except FileNotFoundError:
        return False
    inode = entry_at(view, directory_id, name)
    if inode is None or inode.id != file_id or inode.version != version:
        return False
    flags = inode.flags & ~(Flag.TO_PERSIST | Flag.LOST | Flag.UNSTORED) | Flag.PERSISTED
    after = msgspec.structs.replace(inode, flags=int(flags), fingerprint=fingerprint, ctime_ns=now_ns)
    view.put(keys.entry(directory_id, name), encode_inode(after))
    if inode.flags & Flag.LOST:
        view.delete(keys.lost(file_id))
    dequeue(view, file_id)
    mark_directories_stored(view, first_name(view, inode)[0], inode.mount_id)
    return True


def mark_directories_stored(view: View, directory_id: FileId, mount_id: MountId) -> None:
    """The under storage has this directory, hence those above it as well."""
    while directory_id:
        try:
            above_id, name = location_of(view, directory_id)
        except FileNotFoundError:
            return  # it was removed: nobody will look
        inode = entry_at(view, above_id, name)
        if inode is None or inode.flags & Flag.PERSISTED or inode.mount_id != mount_id:
            return
        view.put(keys.entry(above_id, name), encode_inode(_stored(inode)))
        directory_id = above_id


def _stored(inode: Inode) -> Inode:
    return msgspec.structs.replace(inode, flags=int(inode.flags | Flag.PERSISTED))


def _put(view: View, item: PersistItem) -> None:
    waiting = find(view, item.file_id)
    if waiting is None:
        counters.add(view, keys.PERSIST_LENGTH, 1)
    else:
        view.delete(keys.persist_due(waiting.mount_id, waiting.due_ms, item.file_id))
    attempts = item.attempts.to_bytes(4, "big")
    view.put(keys.persist_due(item.mount_id, item.due_ms, item.file_id), attempts)
    due_ms, mount_id = keys.number(max(item.due_ms, 0)), keys.number(item.mount_id)
    view.put(keys.persist_item(item.file_id), due_ms + attempts + mount_id)
