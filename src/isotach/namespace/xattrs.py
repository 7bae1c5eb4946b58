"""Extended attributes: who may set which, their limits, and the access control lists among them.

Owns: these rules. Never: stores them, or knows the format of a list (`acl` does). Names that begin with `user.`,
`trusted.`, `security.` or with nothing known are stored as they are given; the two lists are checked, and change the
mode bits.
"""

import errno
import os
from typing import Final, Protocol

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import XATTR_BYTES_MAX, XATTR_COUNT_MAX
from isotach.base.types import Inode
from isotach.namespace import acl, permissions
from isotach.namespace.actor import Actor
from isotach.namespace.first_attributes import SETGID

_LISTS: Final = frozenset({acl.ACCESS, acl.DEFAULT})
_BITS: Final = 0o777
_RULES: Final = ("", "create", "replace")


class XattrFields(Protocol):
    """What a change asks for (see `wire.messages.SetAttrRequest`)."""

    @property
    def path(self) -> bytes: ...
    @property
    def mode(self) -> int | None: ...
    @property
    def set_xattrs(self) -> dict[str, bytes] | None: ...
    @property
    def remove_xattrs(self) -> list[str] | None: ...
    @property
    def xattr_rule(self) -> str: ...


def changed_xattrs(inode: Inode, request: XattrFields, actor: Actor, mode: int) -> tuple[int, dict[str, bytes] | None]:
    """(mode, extended attributes) after the request; `mode` is what a chmod in it made of the bits. Raises
    PermissionError, FileExistsError and OSError(ENODATA) by the request's rule, OSError(ENOSPC) over the limits,
    InvalidArgumentError for a list that is none."""
    after = dict(inode.xattrs or {})
    if request.mode is not None and acl.ACCESS in after:
        after[acl.ACCESS] = acl.encode(acl.with_mode(acl.parse(after[acl.ACCESS]), mode))
    given, gone = request.set_xattrs or {}, request.remove_xattrs or []
    if not given and not gone:
        return mode, after or None
    for name in (*given, *gone):
        _check_allowed(inode, name, actor, request.path)
        _check_rule(request.xattr_rule, name, after, request.path)
    for name, value in given.items():
        if name in _LISTS:
            mode = _set_list(inode, name, value, after, actor, mode)
        else:
            after[name] = value
    for name in gone:
        after.pop(name, None)
    _check_limits(after, request.path)
    return mode, after or None


def _check_allowed(inode: Inode, name: str, actor: Actor, path: bytes) -> None:
    if not name or "\0" in name:
        raise InvalidArgumentError(f"{name!r} is no name of an extended attribute: give one such as user.origin")
    if name in _LISTS:
        permissions.check_owner(inode, actor, "access control list", path)
    elif name.startswith(("trusted.", "security.")):
        if not actor.superuser:
            text = f"only a superuser may change the extended attribute {name!r}"
            raise PermissionError(errno.EPERM, text, os.fsdecode(path))
    elif name.startswith("user.") and not (inode.is_dir or inode.is_file):
        text = "only files and directories have extended attributes of users"
        raise PermissionError(errno.EPERM, text, os.fsdecode(path))
    elif inode.is_dir and inode.mode & permissions.STICKY:
        permissions.check_owner(inode, actor, "extended attributes of a sticky directory", path)
    else:
        permissions.check(inode, actor, permissions.WRITE, path)


def _check_rule(rule: str, name: str, there: dict[str, bytes], path: bytes) -> None:
    if rule not in _RULES:
        raise InvalidArgumentError(f"there is no rule {rule!r}: give create, replace, or none")
    if rule == "create" and name in there:
        raise FileExistsError(errno.EEXIST, f"the extended attribute {name!r} exists", os.fsdecode(path))
    if rule == "replace" and name not in there:
        raise OSError(errno.ENODATA, f"there is no extended attribute {name!r}", os.fsdecode(path))


def _set_list(inode: Inode, name: str, raw: bytes, after: dict[str, bytes], actor: Actor, mode: int) -> int:
    """Stores a list that says more than the mode bits; returns the mode that follows from it."""
    entries = acl.parse(raw)
    if name == acl.DEFAULT and not inode.is_dir:
        if entries:
            raise PermissionError(errno.EACCES, "only directories have default access control lists")
        return mode
    if not entries:
        after.pop(name, None)
        return mode
    if name == acl.DEFAULT:
        after[name] = raw
        return mode
    bits, says_all = acl.mode_of(entries)
    if says_all:
        after.pop(name, None)
    else:
        after[name] = raw
    if not actor.superuser and inode.group not in actor.groups:
        mode &= ~SETGID
    return mode & ~_BITS | bits


def _check_limits(after: dict[str, bytes], path: bytes) -> None:
    size = sum(len(os.fsencode(name)) + len(value) for name, value in after.items())
    if len(after) > XATTR_COUNT_MAX or size > XATTR_BYTES_MAX:
        text = (
            f"{len(after)} extended attributes of {size} bytes are over the limit of {XATTR_COUNT_MAX}, or of "
            f"{XATTR_BYTES_MAX} bytes: remove some"
        )
        raise OSError(errno.ENOSPC, text, os.fsdecode(path))
