"""POSIX permissions.

Owns: owner, group and other bits, access lists, the sticky bit, who may change what. Never: looks anything up.
"""

import errno
import os
from typing import Final

from isotach.base.types import Inode
from isotach.namespace import acl
from isotach.namespace.actor import Actor

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1
STICKY: Final = 0o1000
MODE_MASK: Final = 0o7777


def allowed(inode: Inode, actor: Actor, access: int) -> bool:
    """Whether the actor holds every bit of `access` (4 read, 2 write, 1 execute or search)."""
    if actor.superuser:
        return True
    if inode.xattrs is not None and acl.ACCESS in inode.xattrs:
        owns, in_group = inode.owner == actor.user, inode.group in actor.groups
        listed = acl.parse(inode.xattrs[acl.ACCESS])
        return acl.allows(listed, actor, is_owner=owns, in_group=in_group, access=access)
    if inode.owner == actor.user:
        held = inode.mode >> 6
    elif inode.group in actor.groups:
        held = inode.mode >> 3
    else:
        held = inode.mode
    return held & access == access


def check(inode: Inode, actor: Actor, access: int, path: bytes) -> None:
    """Raises PermissionError (EACCES) that says what is missing and where."""
    if not allowed(inode, actor, access):
        wanted = "".join(letter for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if access & bit)
        raise PermissionError(
            errno.EACCES,
            f"user {actor.user!r} needs {wanted!r} here, which has mode {inode.mode:04o} and belongs to "
            f"{inode.owner!r}:{inode.group!r}: ask the owner for access",
            os.fsdecode(path),
        )


def check_entry_removal(directory: Inode, child: Inode, actor: Actor, path: bytes) -> None:
    """Removing or moving `child` out of `directory`: write and search on it, and the sticky bit's rule."""
    check(directory, actor, WRITE | EXECUTE, path)
    if directory.mode & STICKY and not actor.superuser and actor.user not in (child.owner, directory.owner):
        raise PermissionError(
            errno.EPERM,
            f"the directory is sticky and the entry belongs to {child.owner!r}: only its owner may move or remove it",
            os.fsdecode(path),
        )


def check_owner(inode: Inode, actor: Actor, what: str, path: bytes) -> None:
    """Only the owner and a superuser may change `what`."""
    if not actor.superuser and inode.owner != actor.user:
        text = f"only the owner {inode.owner!r} or a superuser may change the {what}, not {actor.user!r}"
        raise PermissionError(errno.EPERM, text, os.fsdecode(path))


def check_chown(inode: Inode, actor: Actor, owner: str | None, group: str | None, path: bytes) -> None:
    """The owner is given away by a superuser only; the group by the owner, to a group that the owner is in."""
    if actor.superuser:
        return
    if owner is not None and owner != inode.owner:
        text = f"only a superuser may give the owner {owner!r}, not {actor.user!r}"
        raise PermissionError(errno.EPERM, text, os.fsdecode(path))
    if group is not None and group != inode.group:
        check_owner(inode, actor, "group", path)
        if group not in actor.groups:
            text = f"user {actor.user!r} is not in group {group!r}: only a superuser may give it"
            raise PermissionError(errno.EPERM, text, os.fsdecode(path))
