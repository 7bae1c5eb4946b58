"""The few primitives that change entries; every other module of the namespace changes them through these.

Owns: keeping an entry, its location row, the rows of the indexes (expiry, replication, lost files) and the inode count
in step. Never: checks permissions.
"""

import msgspec

from isotach.base.types import FileId, Flag, Inode, Version
from isotach.namespace import counters, keys, link_names, persist_queue
from isotach.namespace.lookup import NO_DIRECTORY, Resolved, entry_at, location_of
from isotach.namespace.records import encode_inode
from isotach.namespace.view import View


def insert(view: View, directory_id: FileId, name: bytes, inode: Inode) -> None:
    """Adds an inode that did not exist."""
    view.put(keys.entry(directory_id, name), encode_inode(inode))
    view.put(keys.location(inode.id), keys.number(directory_id) + name)
    if inode.expires_ms >= 0:
        view.put(keys.expiry(inode.expires_ms, inode.id), b"")
    if has_copies_rule(inode):
        view.put(keys.replicated(inode.id), b"")
    counters.add(view, keys.INODES, 1)


def store(view: View, directory_id: FileId, name: bytes, before: Inode, after: Inode) -> None:
    """Replaces the record of an inode in place."""
    assert (before.id, before.links) == (after.id, after.links)
    view.put(keys.entry(*link_names.place_of(directory_id, name, after)), encode_inode(after))
    if before.expires_ms != after.expires_ms:
        if before.expires_ms >= 0:
            view.delete(keys.expiry(before.expires_ms, before.id))
        if after.expires_ms >= 0:
            view.put(keys.expiry(after.expires_ms, after.id), b"")
    if has_copies_rule(after):
        view.put(keys.replicated(after.id), b"")  # put at every change: whoever keeps the copies listens for it
    elif has_copies_rule(before):
        view.delete(keys.replicated(before.id))
    if before.flags & Flag.LOST and not after.flags & Flag.LOST:
        view.delete(keys.lost(before.id))


def has_copies_rule(inode: Inode) -> bool:
    """Whether the policy of a file bounds the number of workers that hold it."""
    policy = inode.policy
    return policy is not None and not inode.is_dir and (policy.replication_min > 0 or policy.replication_max >= 0)


def move(view: View, source: tuple[FileId, bytes], target: tuple[FileId, bytes], inode: Inode) -> None:
    """Takes an inode to another directory or name, which must be free."""
    if inode.links > 1:
        link_names.move(view, source, target, inode)
        return
    view.delete(keys.entry(*source))
    view.put(keys.entry(*target), encode_inode(inode))
    view.put(keys.location(inode.id), keys.number(target[0]) + target[1])


def erase(view: View, directory_id: FileId, name: bytes, inode: Inode) -> Version:
    """Removes a file, or a directory that has no children (any more); of a file with several names this one. Returns
    the version that nobody needs any more; 0 for none."""
    if inode.links > 1:
        current = entry_at(view, directory_id, name)  # other names may have gone in this very handler
        assert current is not None, "who erases an entry has seen it"
        if current.links > 1:
            link_names.remove(view, directory_id, name, inode.id)
            return 0
        inode = current
    view.delete(keys.entry(directory_id, name))
    forget(view, inode)
    return inode.version


def forget(view: View, inode: Inode) -> None:
    """Removes all that belongs to an inode but its entry."""
    view.delete(keys.location(inode.id))
    if inode.expires_ms >= 0:
        view.delete(keys.expiry(inode.expires_ms, inode.id))
    if has_copies_rule(inode):
        view.delete(keys.replicated(inode.id))
    if inode.flags & Flag.LOST:
        view.delete(keys.lost(inode.id))
    persist_queue.dequeue(view, inode.id)
    counters.add(view, keys.INODES, -1)


def touch(view: View, directory: Resolved, now_ns: int) -> None:
    """The directory's children changed now."""
    touch_at(view, directory.parent_id, directory.name, now_ns)


def touch_id(view: View, directory_id: FileId, now_ns: int) -> None:
    """The same, for a directory known by id."""
    touch_at(view, *location_of(view, directory_id), now_ns)


def touch_at(view: View, parent_id: FileId, name: bytes, now_ns: int) -> None:
    """The same, by where its record stands. Reads the record anew: it may have changed in this very handler."""
    current = entry_at(view, parent_id, name)
    assert current is not None, "a directory whose child changed must exist"
    if now_ns > current.mtime_ns:
        touched = msgspec.structs.replace(current, mtime_ns=now_ns, ctime_ns=now_ns)
        view.put(keys.entry(parent_id, name), encode_inode(touched))


ROOT_PLACE = (NO_DIRECTORY, b"")
