"""The mount table.

Owns: its rows, the mount-point directories and the epoch that tells workers of a change. Never: opens a store or checks
that a URI can be reached.
"""

import errno
import os

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import MOUNTS_MAX
from isotach.base.paths import is_within
from isotach.base.types import ROOT_ID, FileId, Flag, Inode, Kind, Mount, MountId
from isotach.namespace import counters, entries, keys, permissions
from isotach.namespace.actor import Actor
from isotach.namespace.counters import IdAllocator
from isotach.namespace.directories import check_new, make_missing
from isotach.namespace.first_attributes import DIRECTORY_MODE, PARENTS
from isotach.namespace.lookup import NO_DIRECTORY, Resolved, entry_at, is_empty, mount_of, resolve, try_resolve
from isotach.namespace.records import decode_mount, encode_mount
from isotach.namespace.view import View

ROOT_MOUNT_ID: MountId = 1


def mount_table(view: View) -> dict[MountId, Mount]:
    """All mounts. They hold secrets."""
    found = (decode_mount(raw) for _, raw in view.scan(*keys.all_of(b"m")))
    return {mount.mount_id: mount for mount in found}


def mounts_epoch(view: View) -> int:
    """A number that grows with every change of the table."""
    return counters.read(view, keys.MOUNTS_EPOCH)


def mounts_within(view: View, path: bytes) -> list[Mount]:
    """The mounts strictly below `path`."""
    return [mount for mount in mount_table(view).values() if mount.path != path and is_within(mount.path, path)]


def refuse_mounts(view: View, found: Resolved) -> None:
    """Raises OSError (EBUSY) when the entry is a mount point or has mounts inside."""
    inside = [found.path] if found.inode.flags & Flag.MOUNT_POINT else [m.path for m in mounts_within(view, found.path)]
    if inside and found.inode.is_dir:
        text = f"{os.fsdecode(inside[0])} is a mount point: unmount it first"
        raise OSError(errno.EBUSY, text, os.fsdecode(found.path))


def ensure_root(
    view: View,
    ufs_uri: str,
    options: dict[str, str],
    owner: str,
    group: str,
    now_ns: int,
    mode: int = DIRECTORY_MODE,
    sync_ms: int = -1,
) -> Mount:
    """The root directory and its mount: made in a new store; in an old one the options are brought up to date. Raises
    InvalidArgumentError when the store was made for another under storage."""
    before = mount_of(view, ROOT_MOUNT_ID)
    if before is not None and before.ufs_uri != ufs_uri:
        raise InvalidArgumentError(
            f"this master's root is {before.ufs_uri}, not {ufs_uri}: give the former, or start in an empty folder"
        )
    mount = Mount(ROOT_MOUNT_ID, ROOT_ID, b"/", ufs_uri, options, False, sync_ms)
    if mount != before:
        _store(view, mount)
    if entry_at(view, NO_DIRECTORY, b"") is None:
        entries.insert(view, NO_DIRECTORY, b"", _mount_point(ROOT_ID, ROOT_MOUNT_ID, owner, group, mode, now_ns))
    return mount


def add_mount(
    view: View,
    path: bytes,
    ufs_uri: str,
    options: dict[str, str],
    read_only: bool,
    sync_ms: int,
    actor: Actor,
    now_ns: int,
    ids: IdAllocator,
) -> Mount:
    """Mounts at a path that does not exist, or is an empty directory; missing parents are made. Raises FileExistsError
    (over a mount or a file), OSError (ENOTEMPTY), PermissionError."""
    if len(mount_table(view)) >= MOUNTS_MAX:
        raise OSError(errno.ENOSPC, f"there are {MOUNTS_MAX} mounts, which is the limit: unmount one first")
    found = try_resolve(view, path, actor)
    mount_id = ids.allocate()
    if isinstance(found, Resolved):
        _check_target(view, found, actor)
        inode = found.inode
        after = msgspec.structs.replace(
            inode, flags=int(Flag.MOUNT_POINT | Flag.PERSISTED), mount_id=mount_id, mtime_ns=now_ns, ctime_ns=now_ns
        )
        entries.store(view, found.parent_id, found.name, inode, after)
    else:
        check_new(found, actor)
        place, _ = make_missing(view, found, len(found.remaining) - 1, PARENTS, actor, now_ns, ids, persisted=False)
        group = place.inode.group
        after = _mount_point(ids.allocate(), mount_id, actor.user, group, DIRECTORY_MODE, now_ns)
        entries.insert(view, place.inode.id, found.remaining[-1], after)
        entries.touch(view, place, now_ns)
    mount = Mount(mount_id, after.id, path, ufs_uri, options, read_only, sync_ms)
    _store(view, mount)
    return mount


def _check_target(view: View, found: Resolved, actor: Actor) -> None:
    path = os.fsdecode(found.path)
    if found.inode.flags & Flag.MOUNT_POINT:
        raise FileExistsError(errno.EEXIST, "something is mounted here already: unmount it, or take another path", path)
    if not found.inode.is_dir:
        raise FileExistsError(errno.EEXIST, "a file of that name exists: mount at another path", path)
    if not is_empty(view, found.inode.id):
        raise OSError(errno.ENOTEMPTY, "the directory is not empty: mount at another path, or empty it", path)
    permissions.check(found.inode, actor, permissions.WRITE | permissions.EXECUTE, found.path)


def remove_mount(view: View, path: bytes, actor: Actor) -> Mount:
    """Unmounts: the mount point and all below it disappear from the namespace (waiting for reclaim); the store keeps
    its data. Raises InvalidArgumentError (no mount there), OSError (EBUSY: the root, or mounts inside)."""
    from isotach.namespace.trees import detach_entry

    found = resolve(view, path, actor)
    mount = found.mount
    if mount is None or not found.inode.flags & Flag.MOUNT_POINT:
        raise InvalidArgumentError(f"nothing is mounted at {os.fsdecode(path)}: see `isotach fs mounts`")
    if mount.mount_id == ROOT_MOUNT_ID:
        raise OSError(errno.EBUSY, "the root mount cannot be unmounted", "/")
    inside = mounts_within(view, path)
    if inside:
        text = f"{os.fsdecode(inside[0].path)} is mounted inside: unmount it first"
        raise OSError(errno.EBUSY, text, os.fsdecode(path))
    permissions.check_owner(found.inode, actor, "mount", path)
    detach_entry(view, found.parent_id, found.name, found.inode)
    view.delete(keys.mount(mount.mount_id))
    counters.add(view, keys.MOUNTS_EPOCH, 1)
    return mount


def _store(view: View, mount: Mount) -> None:
    view.put(keys.mount(mount.mount_id), encode_mount(mount))
    counters.add(view, keys.MOUNTS_EPOCH, 1)


def _mount_point(inode_id: FileId, mount_id: MountId, owner: str, group: str, mode: int, now_ns: int) -> Inode:
    return Inode(
        id=inode_id,
        kind=Kind.DIRECTORY,
        mode=mode,
        owner=owner,
        group=group,
        length=0,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        atime_ns=now_ns,
        version=0,
        block_size=0,
        flags=int(Flag.MOUNT_POINT | Flag.PERSISTED),
        mount_id=mount_id,
    )
