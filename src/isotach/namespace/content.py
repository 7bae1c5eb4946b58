"""New content for a file that is known by its id: whoever writes it holds the file, not its name.

Owns: where such a file stands now, and the swap of its content when that is complete. Never: makes a file or a name,
or takes anything from the grant but the content: owner, mode, pin, rules and names are the file's as they are by then.
"""

import errno
import os
from typing import Final

import msgspec

from isotach.base.errors import StaleVersionError
from isotach.base.paths import parse_id_path
from isotach.base.types import FileId, Flag, Inode
from isotach.namespace import completed, entries, permissions, persist_queue, policies
from isotach.namespace.actor import Actor
from isotach.namespace.completed import check_not_overtaken
from isotach.namespace.directories import check_writable
from isotach.namespace.files import Completed, GrantFields
from isotach.namespace.lookup import Resolved, entry_at, inode_of, location_of, not_found, path_of, resolve, resolved
from isotach.namespace.view import View

_STORED: Final = Flag.PERSISTED | Flag.TO_PERSIST | Flag.LOST


def file_to_write(view: View, path: bytes, actor: Actor) -> Resolved:
    """The file at `path` (an id path, or any other), which exists and which the actor may write. Raises OSError(EINVAL)
    for what has no content, OSError(EROFS), FileNotFoundError, IsADirectoryError, InvalidPathError, PermissionError."""
    by_id = parse_id_path(path)
    if by_id is not None:
        path = path_of(view, _named(view, *by_id))
    found = resolve(view, path, actor, permissions.WRITE)
    check_has_content(found.inode, found.path)
    check_writable(found.mount, found.path)
    return found


def check_has_content(inode: Inode, path: bytes) -> None:
    """Raises IsADirectoryError, or OSError(EINVAL) for a link, FIFO, socket or device."""
    if inode.is_dir:
        raise IsADirectoryError(errno.EISDIR, "the path is a directory: name a file inside it", os.fsdecode(path))
    if not inode.is_file:
        raise OSError(errno.EINVAL, "only a regular file has content: name one", os.fsdecode(path))


def _named(view: View, inode_id: FileId, name: bytes) -> FileId:
    if not name:
        return inode_id
    entry = entry_at(view, inode_id, name)
    if entry is None:
        raise not_found(name)
    return entry.id


def standing(view: View, file_id: FileId) -> Resolved:
    """The file of that id where it stands now. Raises StaleVersionError (with ENOENT) when it was removed, be it with a
    directory above it that is not reclaimed yet."""
    try:
        inode, path = inode_of(view, file_id), path_of(view, file_id)
    except FileNotFoundError as gone:
        text = "the file was removed while it was written: this content is dropped"
        raise StaleVersionError(errno.ENOENT, text) from gone
    return resolved(view, path, inode, *location_of(view, file_id))


def replace_content(
    view: View,
    grant: GrantFields,
    length: int,
    fingerprint: str | None,
    mtime_ns: int,
    persisted: bool,
    to_persist: bool,
    now_ns: int,
) -> Completed:
    """Makes the written version the content of the grant's file, wherever that is. Sending it again changes nothing.
    Raises StaleVersionError when the file is gone, was written by a later write, or may not be on disks any more;
    OSError(EROFS). `mtime_ns` 0 means now."""
    found = standing(view, grant.file_id)
    before = found.inode
    if before.version == grant.version:
        return Completed(before, None)
    check_has_content(before, found.path)
    check_not_overtaken(view, before.version, grant.version, found.path)
    check_writable(found.mount, found.path)
    if policies.is_memory_only(before) and not (grant.policy is not None and grant.policy.memory_only):
        text = "the file became memory-only while it was written, and its bytes may lie on disks: write it again"
        raise StaleVersionError(errno.ESTALE, text, os.fsdecode(found.path))
    flags = int(before.flags & ~_STORED)
    flags |= int(Flag.PERSISTED if persisted else Flag.TO_PERSIST if to_persist else 0)
    flags &= ~int(Flag.UNSTORED) if persisted else -1
    after = msgspec.structs.replace(
        before,
        length=length,
        mtime_ns=mtime_ns or now_ns,
        ctime_ns=now_ns,
        version=grant.version,
        block_size=grant.block_size or before.block_size,
        flags=flags,
        fingerprint=fingerprint if persisted else None,
    )
    completed.note(view, grant.version)
    entries.store(view, found.parent_id, found.name, before, after)
    if persisted or policies.is_memory_only(after):
        persist_queue.dequeue(view, after.id)
    return Completed(after, before)


def note_on_its_way(view: View, file_id: FileId) -> None:
    """The under storage is about to be given the file's content: from now on something may be there."""
    try:
        directory_id, name = location_of(view, file_id)
    except FileNotFoundError:
        return  # a new file: it has no record before its write is complete
    before = entry_at(view, directory_id, name)
    if before is not None and before.flags & Flag.UNSTORED:
        after = msgspec.structs.replace(before, flags=before.flags & ~int(Flag.UNSTORED))
        entries.store(view, directory_id, name, before, after)
