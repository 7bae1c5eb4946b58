"""POSIX access control lists, in the form in which the kernel stores and hands them over.

Owns: that format, what a list grants, how a list and the mode bits follow one another, and what a directory's default
list hands on. Pure. Never: knows names: lists hold numbers, which an `Actor` brings along.

Version 2 of the format (`include/uapi/linux/posix_acl_xattr.h`): the version (4 bytes), then entries of tag (2),
permissions (2) and id (4), little-endian. The rules are those of `fs/posix_acl.c`.
"""

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.namespace.actor import Actor

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"

USER_OBJ: Final = 0x01
USER: Final = 0x02
GROUP_OBJ: Final = 0x04
GROUP: Final = 0x08
MASK: Final = 0x10
OTHER: Final = 0x20
NO_ID: Final = 0xFFFFFFFF

_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_PERMISSIONS: Final = 0o7
#: The order of tags in a valid list.
_RANKS: Final = {tag: rank for rank, tag in enumerate((USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER))}


class Entry(msgspec.Struct, frozen=True):
    """Permissions (4 read, 2 write, 1 execute) of whom the tag names; `id` of a user or group."""

    tag: int
    permissions: int
    id: int = NO_ID


Acl = list[Entry]


def parse(raw: bytes) -> Acl:
    """The entries. Raises InvalidArgumentError for bytes that are no valid list."""
    body = raw[_HEADER.size :]
    if len(raw) < _HEADER.size or _HEADER.unpack_from(raw)[0] != _VERSION or len(body) % _ENTRY.size:
        raise InvalidArgumentError("these bytes are no access control list of version 2: set it with setfacl")
    found = [Entry(*each) for each in _ENTRY.iter_unpack(body)]
    if found and not _is_valid(found):
        raise InvalidArgumentError("the access control list lacks entries, or has them twice or out of order")
    return found


def encode(acl: Acl) -> bytes:
    """As `parse` reads it."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(each.tag, each.permissions, each.id) for each in acl)


def _is_valid(acl: Acl) -> bool:
    tags = [each.tag for each in acl]
    if any(tag not in _RANKS for tag in tags) or any(each.permissions & ~_PERMISSIONS for each in acl):
        return False
    ranks = [_RANKS[tag] for tag in tags]
    once = all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)) and tags.count(MASK) <= 1
    needs_mask = USER in tags or GROUP in tags
    return ranks == sorted(ranks) and once and (MASK in tags or not needs_mask)


def mode_of(acl: Acl) -> tuple[int, bool]:
    """(the nine permission bits that show this list, whether they say all of it)."""
    of = {each.tag: each.permissions for each in acl}
    middle = of.get(MASK, of[GROUP_OBJ])
    return of[USER_OBJ] << 6 | middle << 3 | of[OTHER], not of.keys() & {USER, GROUP, MASK}


def with_mode(acl: Acl, mode: int) -> Acl:
    """The list after a chmod: the group bits are the mask's where there is one."""
    middle = MASK if any(each.tag == MASK for each in acl) else GROUP_OBJ
    bits = {USER_OBJ: mode >> 6 & 7, middle: mode >> 3 & 7, OTHER: mode & 7}
    return [msgspec.structs.replace(each, permissions=bits.get(each.tag, each.permissions)) for each in acl]


def inherited(
    parent: Mapping[str, bytes] | None, mode: int, umask: int, is_dir: bool
) -> tuple[int, dict[str, bytes] | None]:
    """(mode, extended attributes) of what is made in a directory with the extended attributes `parent`: its default
    list limits the mode and becomes the newcomer's, and then no umask counts; without one the umask (-1: none) does."""
    raw = None if parent is None else parent.get(DEFAULT)
    if raw is None:
        return (mode & ~umask if umask >= 0 else mode), None
    # A call that took the umask already has a mode that is only too narrow, never too wide.
    acl = parse(raw)
    of = {each.tag: each.permissions for each in acl}
    middle = MASK if MASK in of else GROUP_OBJ
    bits = {
        USER_OBJ: of[USER_OBJ] & mode >> 6,
        middle: of[middle] & mode >> 3,
        OTHER: of[OTHER] & mode,
    }
    mode = mode & ~0o777 | bits[USER_OBJ] << 6 | bits[middle] << 3 | bits[OTHER]
    access = [msgspec.structs.replace(each, permissions=bits.get(each.tag, each.permissions)) for each in acl]
    xattrs: dict[str, bytes] = {}
    if not mode_of(access)[1]:
        xattrs[ACCESS] = encode(access)
    if is_dir:
        xattrs[DEFAULT] = raw
    return mode, xattrs or None


def allows(acl: Acl, actor: Actor, *, is_owner: bool, in_group: bool, access: int) -> bool:
    """Whether the list grants the actor every bit of `access`."""
    of = {each.tag: each.permissions for each in acl}
    if is_owner:
        return of[USER_OBJ] & access == access
    mask = of.get(MASK, _PERMISSIONS)
    for each in acl:
        if each.tag == USER and each.id == actor.uid:
            return each.permissions & mask & access == access
    groups = [each.permissions for each in acl if each.tag == GROUP and each.id in actor.gids]
    if in_group:
        groups.append(of[GROUP_OBJ])
    if groups:
        return any(permissions & mask & access == access for permissions in groups)
    return of[OTHER] & access == access
