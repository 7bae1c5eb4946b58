"""Attributes of one inode: mode, owner, group, times, pin, time to live, policy, extended attributes.

Owns: who may set what (`xattrs.py`: of extended attributes). Never: recurses by itself; the caller goes through `walk`
in slices.
"""

import os
from typing import Final, Protocol

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import FileId, Flag, Inode, TtlAction
from isotach.namespace import entries, permissions, policies
from isotach.namespace.actor import Actor
from isotach.namespace.directories import check_writable
from isotach.namespace.first_attributes import SETGID, SETUID
from isotach.namespace.lookup import path_of, resolve
from isotach.namespace.mounts import mounts_within
from isotach.namespace.view import View
from isotach.namespace.walk import Walked, WalkSlice, walk
from isotach.namespace.xattrs import XattrFields, changed_xattrs

__all__ = ["AttributeFields", "WalkSlice", "Walked", "set_attributes", "set_attributes_at", "walk"]

_GROUP_EXECUTES: Final = 0o010


class AttributeFields(policies.PolicyChanges, XattrFields, Protocol):
    """What a change asks for; None leaves as it is (see `wire.messages.SetAttrRequest`)."""

    @property
    def owner(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def atime_ns(self) -> int | None: ...
    @property
    def mtime_ns(self) -> int | None: ...
    @property
    def pinned(self) -> bool | None: ...
    @property
    def ttl_ms(self) -> int | None: ...
    @property
    def ttl_action(self) -> str | None: ...
    @property
    def atime_now(self) -> bool: ...
    @property
    def mtime_now(self) -> bool: ...
    @property
    def clear_suid(self) -> bool: ...


def set_attributes(view: View, request: AttributeFields, actor: Actor, now_ns: int) -> Inode:
    """Changes the inode at `request.path`. Raises FileNotFoundError, PermissionError, OSError (EROFS; ENODATA, ENOSPC
    of extended attributes), FileExistsError (an extended attribute) and InvalidArgumentError (an unknown action, no
    valid access control list, a policy that makes no sense)."""
    found = resolve(view, request.path, actor)
    if _changes_store(request):
        check_writable(found.mount, request.path)
    return set_attributes_at(view, found.parent_id, found.name, found.inode, request, actor, now_ns)


def set_attributes_at(
    view: View, parent_id: FileId, name: bytes, inode: Inode, request: AttributeFields, actor: Actor, now_ns: int
) -> Inode:
    """The same for an entry whose place is known (from `walk`); `inode` is its present record."""
    _check(inode, request, actor)
    policy = policies.changed(inode, request, request.path)
    group = inode.group if request.group is None else request.group
    mode, xattrs = changed_xattrs(inode, request, actor, _mode(inode, group, request, actor))
    flags = inode.flags
    if request.pinned is not None:
        flags = flags | Flag.PINNED if request.pinned else flags & ~Flag.PINNED
    ttl_ms, action, expires_ms = _ttl(inode, request, now_ns)
    after = msgspec.structs.replace(
        inode,
        mode=mode,
        owner=inode.owner if request.owner is None else request.owner,
        group=group,
        atime_ns=_time(inode.atime_ns, request.atime_ns, request.atime_now, now_ns),
        mtime_ns=_time(inode.mtime_ns, request.mtime_ns, request.mtime_now, now_ns),
        ctime_ns=now_ns,
        flags=int(flags),
        ttl_ms=ttl_ms,
        ttl_action=action,
        expires_ms=expires_ms,
        xattrs=xattrs,
        policy=policy,
    )
    _check_ttl(view, after, before=inode)
    entries.store(view, parent_id, name, inode, after)
    return after


def _changes_store(request: AttributeFields) -> bool:
    """Whether it changes what an under storage could show; pins and times to live are Isotach's own."""
    changed = (request.mode, request.owner, request.group, request.atime_ns, request.mtime_ns, request.set_xattrs)
    given = any(field is not None for field in changed) or request.remove_xattrs is not None
    return given or request.atime_now or request.mtime_now or request.clear_suid


def _mode(inode: Inode, group: str, request: AttributeFields, actor: Actor) -> int:
    """The bits afterwards. As on Linux, a group that the caller is not in gets no setgid from a chmod, and a chown by
    an ordinary user ends setuid and setgid, as `clear_suid` does."""
    mode = inode.mode if request.mode is None else request.mode & permissions.MODE_MASK
    if request.mode is not None and not actor.superuser and group not in actor.groups:
        mode &= ~SETGID
    gives_away = (request.owner is not None or request.group is not None) and not actor.superuser
    if not inode.is_dir and request.mode is None and (request.clear_suid or gives_away):
        mode &= ~SETUID
        if mode & _GROUP_EXECUTES:
            mode &= ~SETGID
    return mode


def _time(before_ns: int, given_ns: int | None, is_now: bool, now_ns: int) -> int:
    if is_now:
        return now_ns
    return before_ns if given_ns is None else given_ns


def _check(inode: Inode, request: AttributeFields, actor: Actor) -> None:
    path = request.path
    if request.mode is not None:
        permissions.check_owner(inode, actor, "mode", path)
    if request.owner is not None or request.group is not None:
        permissions.check_chown(inode, actor, request.owner, request.group, path)
    if request.atime_ns is not None or request.mtime_ns is not None:
        permissions.check_owner(inode, actor, "times", path)
    if (request.atime_now or request.mtime_now) and inode.owner != actor.user:
        permissions.check(inode, actor, permissions.WRITE, path)
    cache_rules = (request.pinned, request.ttl_ms, request.ttl_action)
    if any(field is not None for field in cache_rules) or policies.has_changes(request):
        permissions.check(inode, actor, permissions.WRITE, path)


def _ttl(inode: Inode, request: AttributeFields, now_ns: int) -> tuple[int, str, int]:
    ttl_ms, given_action = request.ttl_ms, request.ttl_action
    if not inode.is_dir and ttl_ms is None and request.inherited_ttl_ms is not None:
        ttl_ms, given_action = request.inherited_ttl_ms, request.inherited_ttl_action
    action = inode.ttl_action if given_action is None else given_action
    if action not in TtlAction.__members__:
        raise InvalidArgumentError(f"the action {action!r} is unknown: give DELETE or FREE")
    if ttl_ms is None:
        return inode.ttl_ms, action, inode.expires_ms
    if ttl_ms < 0:
        return -1, action, -1
    return ttl_ms, action, policies.expires_ms(ttl_ms, now_ns)


def _check_ttl(view: View, after: Inode, before: Inode) -> None:
    """What no time to live may do: take a mount away, or drop the only copy of what must not be written down."""
    if after.ttl_ms < 0 or (after.ttl_ms, after.ttl_action) == (before.ttl_ms, before.ttl_action):
        return
    if after.ttl_action == TtlAction.FREE and not after.is_dir and policies.is_memory_only(after):
        text = "memory-only data has no other copy, so that freeing it would lose it: give the action DELETE"
        raise InvalidArgumentError(text)
    if after.ttl_action != TtlAction.DELETE or not after.is_dir:
        return
    path = path_of(view, after.id)
    inside = mounts_within(view, path)
    if after.flags & Flag.MOUNT_POINT or inside:
        where = os.fsdecode(path if after.flags & Flag.MOUNT_POINT else inside[0].path)
        raise InvalidArgumentError(
            f"something is mounted at {where}, and a mount is not deleted by a time to live: give the action FREE, or "
            "one that each file inherits (`isotach fs ttl --inherit`)"
        )
