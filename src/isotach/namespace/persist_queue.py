"""The durable queue of files that wait to be written to their under storage.

Owns: its rows, one per file, ordered by due time. Never: chooses a worker or a delay (the master's scheduler does).
Items are keyed by file id, so renames do not touch them; removing a file drops its item.
"""

from itertools import islice

import msgspec

from isotach.base.types import FileId, Flag, Version
from isotach.namespace import counters, keys
from isotach.namespace.lookup import entry_at, location_of
from isotach.namespace.records import encode_inode
from isotach.namespace.view import View


class PersistItem(msgspec.Struct, frozen=True):
    """One waiting file. `due_ms` is wall clock, ms since the epoch."""

    file_id: FileId
    attempts: int
    due_ms: int


def enqueue(view: View, file_id: FileId, due_ms: int) -> None:
    """Adds the file with no attempts so far; one that waits already is set anew."""
    _put(view, PersistItem(file_id, 0, due_ms))


def reschedule(view: View, file_id: FileId, attempts: int, due_ms: int) -> None:
    """Moves a waiting file to a later time; no effect when it does not wait any more."""
    if find(view, file_id) is not None:
        _put(view, PersistItem(file_id, attempts, due_ms))


def dequeue(view: View, file_id: FileId) -> None:
    """Removes the file; no effect when it does not wait."""
    item = find(view, file_id)
    if item is not None:
        view.delete(keys.persist_item(file_id))
        view.delete(keys.persist_due(item.due_ms, file_id))
        counters.add(view, keys.PERSIST_LENGTH, -1)


def find(view: View, file_id: FileId) -> PersistItem | None:
    """The file's item, or None."""
    raw = view.get(keys.persist_item(file_id))
    if raw is None:
        return None
    return PersistItem(file_id, int.from_bytes(raw[8:], "big"), int.from_bytes(raw[:8], "big"))


def due(view: View, now_ms: int, limit: int) -> list[PersistItem]:
    """At most `limit` items whose time has come, the longest due first."""
    rows = islice(view.scan(*keys.up_to(b"q", now_ms)), limit)
    return [
        PersistItem(int.from_bytes(key[9:], "big"), int.from_bytes(raw, "big"), int.from_bytes(key[1:9], "big"))
        for key, raw in rows
    ]


def next_due_ms(view: View) -> int | None:
    """When the first item is due; None when nothing waits."""
    key = next((key for key, _ in view.scan(*keys.all_of(b"q"))), None)
    return None if key is None else int.from_bytes(key[1:9], "big")


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
    flags = inode.flags & ~(Flag.TO_PERSIST | Flag.LOST) | Flag.PERSISTED
    after = msgspec.structs.replace(inode, flags=int(flags), fingerprint=fingerprint, ctime_ns=now_ns)
    view.put(keys.entry(directory_id, name), encode_inode(after))
    dequeue(view, file_id)
    return True


def _put(view: View, item: PersistItem) -> None:
    waiting = find(view, item.file_id)
    if waiting is None:
        counters.add(view, keys.PERSIST_LENGTH, 1)
    else:
        view.delete(keys.persist_due(waiting.due_ms, item.file_id))
    attempts = item.attempts.to_bytes(4, "big")
    view.put(keys.persist_due(item.due_ms, item.file_id), attempts)
    view.put(keys.persist_item(item.file_id), keys.number(max(item.due_ms, 0)) + attempts)
