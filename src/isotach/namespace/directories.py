"""Making directories.

Owns: mkdir with its parents, and the missing parents that files and mounts need. Never: touches an under storage.
"""

import errno
import os

import msgspec

from isotach.base.errors import PathTooLongError
from isotach.base.limits import PATH_BYTES_MAX, PATH_DEPTH_MAX
from isotach.base.paths import check_name, components
from isotach.base.types import FileId, Flag, Inode, Kind, Mount
from isotach.namespace import entries, permissions, policies
from isotach.namespace.actor import Actor
from isotach.namespace.counters import IdAllocator
from isotach.namespace.first_attributes import PARENTS, First, FirstFields, first_attributes
from isotach.namespace.lookup import Missing, Resolved, child_path, not_found, resolved, try_resolve
from isotach.namespace.view import View


class Made(msgspec.Struct, frozen=True):
    """The directory, and the paths that were made for it, outermost first (none when it was there)."""

    inode: Inode
    created_paths: list[bytes]


def check_writable(mount: Mount | None, path: bytes) -> None:
    """Raises OSError (EROFS) below a read-only mount."""
    if mount is not None and mount.read_only:
        text = f"the mount at {os.fsdecode(mount.path)} is read-only: mount it again without that option"
        raise OSError(errno.EROFS, text, os.fsdecode(path))


def check_new(missing: Missing, actor: Actor) -> None:
    """Whether `missing` may be made: legal names and length, a writable mount, permission on the deepest ancestor."""
    for name in missing.remaining:
        check_name(name)
    if len(missing.path) > PATH_BYTES_MAX:
        text = f"the path is {len(missing.path)} bytes long, over the limit of {PATH_BYTES_MAX}"
        raise PathTooLongError(errno.ENAMETOOLONG, text)
    if len(components(missing.path)) > PATH_DEPTH_MAX:
        raise PathTooLongError(errno.ENAMETOOLONG, f"the path is deeper than the limit of {PATH_DEPTH_MAX} directories")
    check_writable(missing.parent.mount, missing.path)
    permissions.check(missing.parent.inode, actor, permissions.WRITE | permissions.EXECUTE, missing.parent.path)


def new_directory(inode_id: FileId, like: Inode, first: First, now_ns: int, persisted: bool) -> Inode:
    """A directory's first record; `like` is its parent, whose mount, policy and pin it takes."""
    return Inode(
        id=inode_id,
        kind=Kind.DIRECTORY,
        mode=first.mode,
        owner=first.owner,
        group=first.group,
        length=0,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        atime_ns=now_ns,
        version=0,
        block_size=0,
        flags=(int(Flag.PERSISTED) if persisted else 0) | policies.inherited_flags(like),
        mount_id=like.mount_id,
        xattrs=first.xattrs,
        policy=policies.for_directory(like),
    )


def already_there(found: Resolved) -> FileExistsError:
    kind = "directory" if found.inode.is_dir else "file"
    text = f"a {kind} of that name exists: choose another name"
    return FileExistsError(errno.EEXIST, text, os.fsdecode(found.path))


def make_missing(
    view: View,
    missing: Missing,
    count: int,
    asked: FirstFields,
    actor: Actor,
    now_ns: int,
    ids: IdAllocator,
    persisted: bool,
) -> tuple[Resolved, list[bytes]]:
    """Makes the first `count` of the missing directories, unchecked; the last gets what is asked for, the others the
    default. Returns the innermost and the paths made."""
    place, made = missing.parent, []
    for index, name in enumerate(missing.remaining[:count]):
        wanted = asked if index == len(missing.remaining) - 1 else PARENTS
        first = first_attributes(place.inode, wanted, actor, Kind.DIRECTORY, place.path)
        inode = new_directory(ids.allocate(), place.inode, first, now_ns, persisted)
        path = child_path(place.path, name)
        entries.insert(view, place.inode.id, name, inode)
        if index == 0:
            entries.touch(view, place, now_ns)
        place = resolved(view, path, inode, place.inode.id, name)
        made.append(path)
    return place, made


def make_directory(
    view: View,
    path: bytes,
    asked: FirstFields,
    parents: bool,
    exist_ok: bool,
    actor: Actor,
    now_ns: int,
    ids: IdAllocator,
    persisted: bool,
) -> Made:
    """mkdir. A mode of -1 is 0755. Raises FileExistsError, FileNotFoundError (a parent, without `parents`),
    NotADirectoryError, PermissionError, OSError (EROFS)."""
    found = try_resolve(view, path, actor)
    if isinstance(found, Resolved):
        if exist_ok and found.inode.is_dir:
            return Made(found.inode, [])
        raise already_there(found)
    if len(found.remaining) > 1 and not parents:
        raise not_found(child_path(found.parent.path, found.remaining[0]))
    check_new(found, actor)
    place, made = make_missing(view, found, len(found.remaining), asked, actor, now_ns, ids, persisted)
    return Made(place.inode, made)
