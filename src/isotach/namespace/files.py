"""Writing files: the check before a write starts, and the swap when it is complete.

Owns: who may write what where, and what an overwrite keeps. Never: stores bytes or chooses workers. Requests are any
objects with the named fields, so that this package does not know the wire.
"""

import errno
import os
from typing import Protocol

import msgspec

from isotach.base.errors import StaleVersionError
from isotach.base.types import FileId, Flag, Inode, Kind, Mount, PathPolicy, TtlAction, Version
from isotach.namespace import completed, entries, permissions, persist_queue, policies
from isotach.namespace.actor import Actor
from isotach.namespace.completed import check_not_overtaken
from isotach.namespace.counters import IdAllocator
from isotach.namespace.directories import check_new, check_writable, make_missing
from isotach.namespace.first_attributes import FILE_MODE, PARENTS, Asked, first_attributes
from isotach.namespace.lookup import (
    Resolved,
    child_path,
    entry_at,
    location_of,
    not_found,
    path_of,
    stored_as,
    try_resolve,
)
from isotach.namespace.symlinks import refuse_symlink
from isotach.namespace.view import View


class CreateFields(Protocol):
    """What a create asks for (see `wire.messages.CreateRequest`)."""

    @property
    def path(self) -> bytes: ...
    @property
    def mode(self) -> int: ...
    @property
    def overwrite(self) -> bool: ...
    @property
    def parents(self) -> bool: ...


class GrantFields(Protocol):
    """What a write grant holds (see `wire.messages.WriteGrant`)."""

    @property
    def version(self) -> Version: ...
    @property
    def file_id(self) -> FileId: ...
    @property
    def path(self) -> bytes: ...
    @property
    def user(self) -> str: ...
    @property
    def groups(self) -> list[str]: ...
    @property
    def superuser(self) -> bool: ...
    @property
    def mode(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def overwrite(self) -> bool: ...
    @property
    def ttl_ms(self) -> int: ...
    @property
    def ttl_action(self) -> str: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def policy(self) -> PathPolicy | None: ...


class CreatePlan(msgspec.Struct, frozen=True):
    """Where the file goes. `mode` is the one it will have; `existing` is what it will replace. The others are what it
    has, or what its directory hands on: policy, pin, and (of a new file) time to live."""

    mount: Mount | None
    relative: bytes
    mode: int
    existing: Inode | None
    policy: PathPolicy | None = None
    pinned: bool = False
    ttl_ms: int = -1
    ttl_action: str = TtlAction.DELETE


class Completed(msgspec.Struct, frozen=True):
    """The file as it now stands; `replaced` is the record whose version may be freed."""

    inode: Inode
    replaced: Inode | None
    also_replaced: Inode | None = None  # removed before, and not reclaimed so far


def plan_create(view: View, request: CreateFields, actor: Actor, now_ns: int) -> CreatePlan:  # noqa: ARG001
    """Checks that the write may start; changes nothing. Raises IsADirectoryError, FileExistsError (without
    `overwrite`), FileNotFoundError (a parent, without `parents`), NotADirectoryError, PermissionError, OSError (EROFS),
    and InvalidPathError for names that no directory may hold."""
    found = try_resolve(view, request.path, actor)
    if isinstance(found, Resolved):
        _check_overwrite(found, request.overwrite, actor)
        there = found.inode
        pinned = bool(there.flags & Flag.PINNED)
        return CreatePlan(found.mount, stored_as(view, found), there.mode, there, there.policy, pinned)
    if len(found.remaining) > 1 and not request.parents:
        raise not_found(child_path(found.parent.path, found.remaining[0]))
    check_new(found, actor)
    rest = b"/".join(found.remaining)
    relative = found.parent.relative + b"/" + rest if found.parent.relative else rest
    above = found.parent.inode
    mode = FILE_MODE if request.mode < 0 else request.mode
    pinned, policy = bool(policies.inherited_flags(above)), policies.for_file(above)
    return CreatePlan(found.parent.mount, relative, mode, None, policy, pinned, *policies.inherited_ttl(above))


def _check_overwrite(found: Resolved, overwrite: bool, actor: Actor) -> None:
    path = os.fsdecode(found.path)
    if found.inode.is_dir:
        raise IsADirectoryError(errno.EISDIR, "the path is a directory: name a file inside it", path)
    refuse_symlink(found.inode, found.path)
    if not found.inode.is_file:
        text = "this is a FIFO, a socket or a device, which holds no bytes: choose another name"
        raise OSError(errno.ENXIO, text, path)
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "the file exists: allow overwriting, or choose another name", path)
    check_writable(found.mount, found.path)
    permissions.check(found.inode, actor, permissions.WRITE, found.path)


def complete_file(
    view: View,
    grant: GrantFields,
    length: int,
    fingerprint: str | None,
    mtime_ns: int,
    persisted: bool,
    to_persist: bool,
    now_ns: int,
    ids: IdAllocator,
    actor: Actor | None = None,
) -> Completed:
    """Makes the written version visible under its path. An overwrite keeps owner, mode, extended attributes, and a time
    to live and pin that the grant does not set; and its id, unless somebody else made the path meanwhile. Sending it
    again changes nothing. Raises what `plan_create` does, and StaleVersionError when a later write of the same path was
    completed before; what was found in the store since this one began is no write. `mtime_ns` 0 means now."""
    if actor is None:
        actor = Actor(grant.user, frozenset(grant.groups), grant.superuser)
    found = try_resolve(view, grant.path, actor)
    if isinstance(found, Resolved):
        before = found.inode
        if before.version == grant.version and not before.is_dir:
            return Completed(before, None)
        _check_overwrite(found, grant.overwrite, actor)
        check_not_overtaken(view, before.version, grant.version, grant.path)
        base = before
    else:
        check_new(found, actor)
        former = _take_over_id(view, grant)
        place, _ = make_missing(
            view, found, len(found.remaining) - 1, PARENTS, actor, now_ns, ids, persisted=persisted or to_persist
        )
        base = _blank(grant, place.inode, actor, now_ns, place.path)
    after = _written(base, grant, length, fingerprint, mtime_ns or now_ns, persisted, to_persist, now_ns)
    completed.note(view, grant.version)
    if isinstance(found, Resolved):
        if found.inode.id != grant.file_id:
            return _replace_by_another(view, found, grant, after)
        entries.store(view, found.parent_id, found.name, found.inode, after)
        if persisted or policies.is_memory_only(after):
            persist_queue.dequeue(view, after.id)
        return Completed(after, found.inode)
    entries.insert(view, place.inode.id, found.remaining[-1], after)
    entries.touch(view, place, now_ns)
    return Completed(after, former)


def _replace_by_another(view: View, found: Resolved, grant: GrantFields, after: Inode) -> Completed:
    """Two writers made the same path, or it was removed and made anew since the write began. The worker's bytes, and
    what it reports of them, name the id of the grant: so the file has that one from now on. With the other's id in the
    record, a worker that starts anew would be told that nobody needs the bytes."""
    former = _take_over_id(view, grant)
    renamed = msgspec.structs.replace(after, id=grant.file_id, links=1)
    freed = entries.erase(view, found.parent_id, found.name, found.inode)
    entries.insert(view, found.parent_id, found.name, renamed)
    return Completed(renamed, msgspec.structs.replace(found.inode, version=freed), former)


def _take_over_id(view: View, grant: GrantFields) -> Inode | None:
    """A grant to overwrite names the file's id, as do the bytes at the worker. When the file was removed with a
    directory meanwhile, and is not reclaimed yet, its record goes now: two of one id would be reclaimed together. When
    it was moved it needs its id itself: raises StaleVersionError."""
    try:
        directory_id, name = location_of(view, grant.file_id)
    except FileNotFoundError:
        return None
    try:
        path_of(view, grant.file_id)
    except FileNotFoundError:
        former = entry_at(view, directory_id, name)
        if former is not None and former.links == 1:
            entries.erase(view, directory_id, name, former)
        return former
    text = "the file was renamed while it was being overwritten under its old name: write it again"
    raise StaleVersionError(errno.ESTALE, text, os.fsdecode(grant.path))


def _blank(grant: GrantFields, parent: Inode, actor: Actor, now_ns: int, path: bytes) -> Inode:
    """What a new file starts from."""
    first = first_attributes(parent, Asked(grant.mode), actor, Kind.FILE, path)
    return Inode(
        id=grant.file_id,
        kind=Kind.FILE,
        mode=first.mode,
        owner=first.owner,
        group=first.group,
        length=0,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        atime_ns=now_ns,
        version=0,
        block_size=grant.block_size,
        flags=0,
        mount_id=parent.mount_id,
        xattrs=first.xattrs,
        policy=grant.policy,
    )


def _written(
    base: Inode,
    grant: GrantFields,
    length: int,
    fingerprint: str | None,
    mtime_ns: int,
    persisted: bool,
    to_persist: bool,
    now_ns: int,
) -> Inode:
    """`base` with the grant's content."""
    assert length >= 0
    flags = base.flags & ~(Flag.PERSISTED | Flag.TO_PERSIST | Flag.LOST | Flag.UNSTORED)
    flags |= Flag.PERSISTED if persisted else Flag.TO_PERSIST if to_persist else 0
    flags |= Flag.PINNED if grant.pinned else 0
    with_ttl = grant.ttl_ms >= 0
    policy = base.policy if grant.policy is None else grant.policy
    return msgspec.structs.replace(
        base,
        length=length,
        mtime_ns=mtime_ns,
        ctime_ns=now_ns,
        version=grant.version,
        block_size=grant.block_size or base.block_size,
        flags=int(flags),
        fingerprint=fingerprint if persisted else None,
        ttl_ms=grant.ttl_ms if with_ttl else base.ttl_ms,
        ttl_action=grant.ttl_action if with_ttl else base.ttl_action,
        expires_ms=policies.expires_ms(grant.ttl_ms, now_ns) if with_ttl else base.expires_ms,
        policy=policy,
    )
