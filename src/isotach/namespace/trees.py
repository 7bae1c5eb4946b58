"""Renaming and removing entries with all below them.

Owns: rename as POSIX has it, detaching a tree in one step and reclaiming it in slices. Never: touches an under storage.

Permission for a recursive removal is checked at the top only, as Alluxio does: POSIX's `rm -r` needs write permission
on every directory below, which would make the detach take as long as the tree is large.
"""

import errno
import os

import msgspec

from isotach.base.errors import PathTooLongError
from isotach.base.limits import PATH_BYTES_MAX
from isotach.base.paths import check_name, is_within, split
from isotach.base.types import HARD_LINKS_ID, FileId, Flag, Inode, Version
from isotach.namespace import counters, entries, keys, permissions, policies
from isotach.namespace.actor import Actor
from isotach.namespace.directories import check_writable
from isotach.namespace.lookup import Resolved, children, entry_at, is_empty, not_a_directory, resolve
from isotach.namespace.mounts import refuse_mounts
from isotach.namespace.records import decode_inode, encode_inode
from isotach.namespace.view import View


class Renamed(msgspec.Struct, frozen=True):
    """The inode under its new path, and what it replaced."""

    inode: Inode
    replaced: Inode | None
    freed: Version = 0  # whose cached bytes may go


class Detached(msgspec.Struct, frozen=True):
    """What was removed. `waits` tells that its children wait for reclaim; else it is gone, and the caller frees the
    version `freed` (0: none, as for a file that has other names)."""

    inode: Inode
    path: bytes
    waits: bool = False
    freed: Version = 0
    at_ns: int = 0  # the time that its directory has got


class Reclaimed(msgspec.Struct, frozen=True):
    """One slice: versions whose cached bytes may go, rows removed, and whether nothing is left to reclaim."""

    versions: list[Version]
    entries: int
    finished: bool


def rename(view: View, src: bytes, dst: bytes, replace: bool, actor: Actor, now_ns: int) -> Renamed:
    """Moves `src` to `dst`, replacing a file, or an empty directory by a directory. Raises FileNotFoundError,
    FileExistsError (without `replace`), IsADirectoryError, NotADirectoryError, PermissionError, OSError with EINVAL
    (into itself), ENOTEMPTY, EXDEV (across mounts, or ordinary data below memory-only), EBUSY (mount points), EROFS."""
    source = resolve(view, src, actor)
    if src == dst:
        return Renamed(source.inode, None)
    refuse_mounts(view, source)
    if source.inode.is_dir and is_within(dst, src):
        text = f"cannot move {os.fsdecode(src)} into itself: choose another target"
        raise OSError(errno.EINVAL, text, os.fsdecode(dst))
    from_directory = resolve(view, split(src)[0], actor)
    parent_path, name = split(dst)
    to_directory = resolve(view, parent_path, actor) if name else None
    if to_directory is None:
        raise OSError(errno.EBUSY, "the root cannot be replaced", "/")
    _check_move(source, from_directory, to_directory, dst, actor)
    replaced = entry_at(view, to_directory.inode.id, name)
    freed = 0
    gone_flags = 0
    if replaced is not None:
        if replaced.id == source.inode.id and replace:
            return Renamed(source.inode, None)  # two names of one file: both stay, as POSIX has it
        target = Resolved(dst, replaced, to_directory.inode.id, name, to_directory.mount, b"")
        _check_replaceable(view, source.inode, target, to_directory, replace, actor)
        freed = entries.erase(view, to_directory.inode.id, name, replaced)
        if not replaced.flags & Flag.UNSTORED:
            gone_flags = int(Flag.UNSTORED)  # the store may have what was replaced under the name
    moved = msgspec.structs.replace(source.inode, ctime_ns=now_ns, flags=source.inode.flags & ~gone_flags)
    entries.move(view, (source.parent_id, source.name), (to_directory.inode.id, name), moved)
    entries.touch_id(view, from_directory.inode.id, now_ns)
    entries.touch_id(view, to_directory.inode.id, now_ns)
    return Renamed(moved, replaced, freed)


def exchange(view: View, first: bytes, second: bytes, actor: Actor, now_ns: int) -> tuple[Inode, Inode]:
    """Two entries of one mount, of any kinds, change places at once; returns them, that of `first` as it is now first.
    Raises what `rename` does, for both."""
    one, other = resolve(view, first, actor), resolve(view, second, actor)
    if one.inode.id == other.inode.id:
        return one.inode, other.inode
    if is_within(first, second) or is_within(second, first):
        text = "one of them lies inside of the other: they cannot change places"
        raise OSError(errno.EINVAL, text, os.fsdecode(first))
    for each, target in ((one, other), (other, one)):
        refuse_mounts(view, each)
        origin, into = (resolve(view, split(path)[0], actor) for path in (each.path, target.path))
        _check_move(each, origin, into, target.path, actor)
    aside = (HARD_LINKS_ID, b"")  # where no entry ever stands
    here, there = (one.parent_id, one.name), (other.parent_id, other.name)
    kept = ~int(Flag.UNSTORED)  # the store may have each under the other's name
    moved = [
        msgspec.structs.replace(each.inode, ctime_ns=now_ns, flags=each.inode.flags & kept) for each in (one, other)
    ]
    entries.move(view, here, aside, moved[0])
    entries.move(view, there, here, moved[1])
    entries.move(view, aside, there, moved[0])
    for directory_id in {one.parent_id, other.parent_id}:
        entries.touch_id(view, directory_id, now_ns)
    return moved[1], moved[0]


def _check_move(source: Resolved, origin: Resolved, target: Resolved, dst: bytes, actor: Actor) -> None:
    check_name(split(dst)[1])
    if len(dst) > PATH_BYTES_MAX:
        text = f"the path is {len(dst)} bytes long, over the limit of {PATH_BYTES_MAX}"
        raise PathTooLongError(errno.ENAMETOOLONG, text)
    if not target.inode.is_dir:
        raise not_a_directory(target.path)
    if source.inode.mount_id != target.inode.mount_id:
        text = f"{os.fsdecode(source.path)} and the target are in different mounts; copy it instead: isotach fs cp -r"
        raise OSError(errno.EXDEV, text, os.fsdecode(dst))
    policies.check_move(source.inode, target.inode, dst)
    check_writable(source.mount, source.path)
    permissions.check_entry_removal(origin.inode, source.inode, actor, source.path)
    permissions.check(target.inode, actor, permissions.WRITE | permissions.EXECUTE, target.path)
    if source.inode.is_dir and origin.inode.id != target.inode.id:
        permissions.check(source.inode, actor, permissions.WRITE, source.path)


def _check_replaceable(
    view: View, moving: Inode, target: Resolved, directory: Resolved, replace: bool, actor: Actor
) -> None:
    path = os.fsdecode(target.path)
    if not replace:
        raise FileExistsError(errno.EEXIST, "the target exists: choose another name, or allow replacing", path)
    refuse_mounts(view, target)
    permissions.check_entry_removal(directory.inode, target.inode, actor, target.path)
    if target.inode.is_dir and not moving.is_dir:
        raise IsADirectoryError(errno.EISDIR, "the target is a directory: name the file inside it", path)
    if moving.is_dir and not target.inode.is_dir:
        raise NotADirectoryError(errno.ENOTDIR, "the target is a file: a directory cannot replace it", path)
    if target.inode.is_dir and not is_empty(view, target.inode.id):
        raise OSError(errno.ENOTEMPTY, "the target directory is not empty: remove it first", path)


def detach(view: View, path: bytes, recursive: bool, actor: Actor, now_ns: int, kind: str = "") -> Detached:
    """Removes the entry at once, however much lies below. Raises FileNotFoundError, PermissionError, OSError with
    ENOTEMPTY (without `recursive`), EBUSY (mount points), EROFS; and, with a `kind` of `wire.messages.RemoveRequest`,
    NotADirectoryError and IsADirectoryError."""
    found = resolve(view, path, actor)
    _check_kind(found, kind)
    if not found.name:
        raise OSError(errno.EBUSY, "the root cannot be removed", "/")
    refuse_mounts(view, found)
    check_writable(found.mount, path)
    directory = resolve(view, split(path)[0], actor)
    permissions.check_entry_removal(directory.inode, found.inode, actor, path)
    full = found.inode.is_dir and not is_empty(view, found.inode.id)
    if full and not recursive:
        raise OSError(errno.ENOTEMPTY, "the directory is not empty: remove it recursively", os.fsdecode(path))
    freed = 0
    if full:
        detach_entry(view, found.parent_id, found.name, found.inode)
    else:
        freed = entries.erase(view, found.parent_id, found.name, found.inode)
    entries.touch_id(view, directory.inode.id, now_ns)
    return Detached(found.inode, path, full, freed, now_ns)


def _check_kind(found: Resolved, kind: str) -> None:
    path = os.fsdecode(found.path)
    if kind == "directory" and not found.inode.is_dir:
        raise NotADirectoryError(errno.ENOTDIR, "this is no directory: remove it as a file", path)
    if kind == "other" and found.inode.is_dir:
        raise IsADirectoryError(errno.EISDIR, "this is a directory: remove it as one", path)


def detach_entry(view: View, directory_id: FileId, name: bytes, inode: Inode) -> None:
    """Moves a directory's record from its entry to the detached trees. Unchecked."""
    view.delete(keys.entry(directory_id, name))
    view.delete(keys.location(inode.id))
    view.put(keys.detached(inode.id), encode_inode(inode))
    counters.add(view, keys.DETACHED, 1)


def reclaim_slice(view: View, limit: int) -> Reclaimed:
    """Removes at most about `limit` entries of detached trees. A directory inside becomes a detached tree of its own,
    so that memory stays flat however deep the tree is."""
    versions: list[Version] = []
    removed = 0
    for _, raw in view.scan(*keys.all_of(b"t")):
        top = decode_inode(raw)
        below = list(children(view, top.id, b"", limit - removed))
        for name, child in below:
            if child.is_dir:
                detach_entry(view, top.id, name, child)
            else:
                versions.append(entries.erase(view, top.id, name, child))
        removed += len(below)
        if removed >= limit:
            return Reclaimed(versions, removed, finished=False)
        view.delete(keys.detached(top.id))
        counters.add(view, keys.DETACHED, -1)
        entries.forget(view, top)
        removed += 1
    return Reclaimed(versions, removed, finished=detached_count(view) == 0)


def detached_count(view: View) -> int:
    """How many directories wait for reclaim (those inside them not counted)."""
    return counters.read(view, keys.DETACHED)
