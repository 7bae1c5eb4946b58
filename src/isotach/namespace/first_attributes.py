"""What a new entry begins with: owner, group, mode and access control lists, from its maker and its directory.

Owns: these rules (setgid directories, umask or default ACL, making for somebody else). Never: makes the entry, or
checks that it may be made there.
"""

import errno
import os
from typing import Final, Protocol

import msgspec

from isotach.base.types import Inode, Kind
from isotach.namespace import acl
from isotach.namespace.actor import Actor
from isotach.namespace.permissions import MODE_MASK

DIRECTORY_MODE: Final = 0o755
FILE_MODE: Final = 0o644
SETUID: Final = 0o4000
SETGID: Final = 0o2000


class FirstFields(Protocol):
    """What is asked for (see `wire.messages.MkdirRequest`). A mode of -1 is the default one, a umask of -1 was taken
    from the mode already, an empty owner or group is the caller's."""

    @property
    def mode(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def umask(self) -> int: ...


class Asked(msgspec.Struct, frozen=True):
    """The least that can be asked for."""

    mode: int = -1
    owner: str = ""
    group: str = ""
    umask: int = -1


#: For directories that are made because something shall be in them.
PARENTS: Final = Asked()


class First(msgspec.Struct, frozen=True):
    """What the record begins with."""

    mode: int
    owner: str
    group: str
    xattrs: dict[str, bytes] | None = None


def first_attributes(parent: Inode, asked: FirstFields, actor: Actor, kind: int, path: bytes) -> First:
    """Of an entry of `kind` that is made in `parent`. Raises PermissionError for an owner or group that is not the
    caller's own, unless from a superuser."""
    is_dir = kind == Kind.DIRECTORY
    _check_given(asked, actor, path)
    mode = (DIRECTORY_MODE if is_dir else FILE_MODE) if asked.mode < 0 else asked.mode & MODE_MASK
    if kind == Kind.SYMLINK:
        mode, xattrs = 0o777, None
    else:
        mode, xattrs = acl.inherited(parent.xattrs, mode, asked.umask, is_dir)
    group = asked.group or primary_group(actor, parent)
    if parent.mode & SETGID:
        group = parent.group
        mode |= SETGID if is_dir else 0
    if not is_dir and mode & SETGID and not actor.superuser and group not in actor.groups:
        mode &= ~SETGID
    return First(mode, asked.owner or actor.user, group, xattrs)


def primary_group(actor: Actor, parent: Inode) -> str:
    """The group of what the actor makes: the one of the user's own name if there is one, else the directory's if the
    actor is in it, else the user's first by name, else the directory's."""
    if actor.user in actor.groups:
        return actor.user
    if parent.group in actor.groups or not actor.groups:
        return parent.group
    return min(actor.groups)


def _check_given(asked: FirstFields, actor: Actor, path: bytes) -> None:
    if actor.superuser:
        return
    if asked.owner not in ("", actor.user) or (asked.group and asked.group not in actor.groups):
        text = f"only a superuser may make an entry for {asked.owner or actor.user!r}:{asked.group!r}"
        raise PermissionError(errno.EPERM, text, os.fsdecode(path))
