"""Making entries that are there at once: empty files, symbolic links, FIFOs, sockets, devices.

Owns: the checks and the first record. Never: makes directories (`directories`), takes in content (`files`), or decides
whether a file is to be stored (its caller does).
"""

import errno
import os
from typing import Final, Protocol

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import BLOCK_BYTES_DEFAULT, EMPTY_PERSIST_DELAY_S, SYMLINK_BYTES_MAX
from isotach.base.types import FileId, Flag, Inode, Kind
from isotach.namespace import entries, permissions, persist_queue, policies
from isotach.namespace.actor import Actor
from isotach.namespace.counters import IdAllocator
from isotach.namespace.directories import already_there, check_new, check_writable
from isotach.namespace.first_attributes import FirstFields, first_attributes
from isotach.namespace.lookup import Missing, Resolved, child_path, not_found, try_resolve
from isotach.namespace.view import View

_DEVICES: Final = frozenset({int(Kind.CHARACTER_DEVICE), int(Kind.BLOCK_DEVICE)})
_MADE: Final = frozenset({int(Kind.FILE), int(Kind.SYMLINK), int(Kind.FIFO), int(Kind.SOCKET), *_DEVICES})


class MakeFields(FirstFields, Protocol):
    """What is asked for (see `wire.messages.MakeRequest`)."""

    @property
    def path(self) -> bytes: ...
    @property
    def kind(self) -> int: ...
    @property
    def exclusive(self) -> bool: ...
    @property
    def target(self) -> bytes | None: ...
    @property
    def rdev(self) -> int: ...
    @property
    def write(self) -> bool: ...


class MakePlan(msgspec.Struct, frozen=True):
    """Where the entry goes: in `missing.parent`, or where `found` is already."""

    found: Resolved | None
    missing: Missing | None


class Made(msgspec.Struct, frozen=True):
    """The entry, and whether it is new."""

    found: Resolved
    made: bool


def check_kind(request: MakeFields, actor: Actor) -> None:
    """What can be said without looking. Raises InvalidArgumentError, PermissionError, OSError (ENAMETOOLONG)."""
    path = os.fsdecode(request.path)
    if request.kind not in _MADE:
        raise InvalidArgumentError(f"an entry of the kind {request.kind} cannot be made so: see the kinds of MAKE")
    if request.kind in _DEVICES and not actor.superuser:
        raise PermissionError(errno.EPERM, "only a superuser may make devices", path)
    if request.kind != Kind.SYMLINK:
        return
    target = request.target or b""
    if not target or b"\0" in target:
        raise FileNotFoundError(errno.ENOENT, "a symbolic link needs a target that is not empty", path)
    if len(target) > SYMLINK_BYTES_MAX:
        text = f"the target of {len(target)} bytes is over the limit of {SYMLINK_BYTES_MAX}"
        raise OSError(errno.ENAMETOOLONG, text, path)


def plan_make(view: View, request: MakeFields, actor: Actor) -> MakePlan:
    """Checks that the entry may be made; changes nothing. Raises FileExistsError (when exclusive, or for anything that
    is not a file), FileNotFoundError (the directory), NotADirectoryError, PermissionError, OSError (EROFS), and
    InvalidPathError."""
    found = try_resolve(view, request.path, actor)
    if isinstance(found, Missing):
        if len(found.remaining) > 1:
            raise not_found(child_path(found.parent.path, found.remaining[0]))
        check_new(found, actor)
        return MakePlan(None, found)
    if request.exclusive or request.kind != Kind.FILE:
        raise already_there(found)
    if found.inode.is_dir:
        text = "the path is a directory: name a file inside it"
        raise IsADirectoryError(errno.EISDIR, text, os.fsdecode(request.path))
    if request.write:
        check_writable(found.mount, request.path)
        permissions.check(found.inode, actor, permissions.WRITE, request.path)
    return MakePlan(found, None)


def make_entry(
    view: View,
    request: MakeFields,
    actor: Actor,
    to_persist: bool,
    now_ns: int,
    ids: IdAllocator,
    plan: MakePlan | None = None,
) -> Made:
    """Makes it, or finds the file that is there. `to_persist`: a file that gets no content for EMPTY_PERSIST_DELAY_S is
    written to the under storage as an empty one; what is no file never goes there. `plan`: as `plan_make` has just said
    of this view. Raises what `plan_make` does."""
    if plan is None:
        plan = plan_make(view, request, actor)
    if plan.missing is None:
        assert plan.found is not None, "a plan is about something that is there, or is not"
        return Made(plan.found, made=False)
    parent, name = plan.missing.parent, plan.missing.remaining[0]
    inode = _new(ids.allocate(), parent.inode, request, actor, now_ns, ids, parent.path)
    is_stored = to_persist and inode.is_file and not policies.is_memory_only(inode)
    if is_stored:
        inode = msgspec.structs.replace(inode, flags=inode.flags | int(Flag.TO_PERSIST))
    entries.insert(view, parent.inode.id, name, inode)
    entries.touch(view, parent, now_ns)
    if is_stored:
        persist_queue.enqueue(view, inode.id, now_ns // 1_000_000 + int(EMPTY_PERSIST_DELAY_S * 1000))
    relative = parent.relative + b"/" + name if parent.relative else name
    return Made(Resolved(request.path, inode, parent.inode.id, name, parent.mount, relative), made=True)


def _new(
    inode_id: FileId,
    parent: Inode,
    request: MakeFields,
    actor: Actor,
    now_ns: int,
    ids: IdAllocator,
    path: bytes,
) -> Inode:
    """The first record. Only files have versions, blocks, policies and times to live."""
    is_file = request.kind == Kind.FILE
    is_device = request.kind in _DEVICES
    first = first_attributes(parent, request, actor, request.kind, path)
    ttl_ms, ttl_action = policies.inherited_ttl(parent)
    return Inode(
        id=inode_id,
        kind=request.kind,
        mode=first.mode,
        owner=first.owner,
        group=first.group,
        length=0,  # also of a link, whose length is that of its target: bytes that workers hold are what is counted
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        atime_ns=now_ns,
        version=ids.allocate() if is_file else 0,
        block_size=BLOCK_BYTES_DEFAULT if is_file else 0,
        flags=int(Flag.UNSTORED) | (policies.inherited_flags(parent) if is_file else 0),
        mount_id=parent.mount_id,
        ttl_ms=ttl_ms if is_file else -1,
        ttl_action=ttl_action,
        expires_ms=policies.expires_ms(ttl_ms, now_ns) if is_file else -1,
        xattrs=first.xattrs,
        policy=policies.for_file(parent) if is_file else None,
        target=request.target if request.kind == Kind.SYMLINK else None,
        rdev=request.rdev if is_device else 0,
    )
