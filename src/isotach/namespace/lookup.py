"""Finding entries: by path, by id, by directory.

Owns: the walk from the root with search permission on every step. Never: changes anything, or asks an under storage.
"""

import errno
import os
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from isotach.base.errors import InvalidPathError
from isotach.base.limits import PATH_DEPTH_MAX
from isotach.base.paths import components, join, parse_id_path, relative_to
from isotach.base.types import HARD_LINKS_ID, ROOT_ID, FileId, Inode, Kind, Mount, MountId, Version
from isotach.namespace import keys, permissions
from isotach.namespace.actor import Actor
from isotach.namespace.records import decode_inode, decode_mount
from isotach.namespace.view import Readable, View

#: Where the root's entry stands: the nameless child of no directory.
NO_DIRECTORY: Final = 0
_HARD_LINK: Final = int(Kind.HARD_LINK)


class Resolved(msgspec.Struct, frozen=True):
    """An entry that exists: its record, where the record stands, and its mount."""

    path: bytes
    inode: Inode
    parent_id: FileId
    name: bytes
    mount: Mount | None
    relative: bytes  # to the mount; empty for its root


class Missing(msgspec.Struct, frozen=True):
    """A path that does not exist: the deepest ancestor that does, and the names below it."""

    path: bytes
    parent: Resolved
    remaining: list[bytes]


def not_found(path: bytes) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such file or directory: check the path", os.fsdecode(path))


def not_a_directory(path: bytes) -> NotADirectoryError:
    text = "a component of the path is a file, not a directory: check the path"
    return NotADirectoryError(errno.ENOTDIR, text, os.fsdecode(path))


def mount_of(view: View, mount_id: MountId) -> Mount | None:
    """The row of the mount table, or None."""
    raw = view.get(keys.mount(mount_id))
    return None if raw is None else decode_mount(raw)


def entry_at(view: View, directory_id: FileId, name: bytes) -> Inode | None:
    """The record under that name, or None. Of a file with several names it is the one that they share."""
    raw = view.get(keys.entry(directory_id, name))
    return None if raw is None else decoded(view, raw)


def decoded(view: Readable, raw: bytes) -> Inode:
    """The record that an entry leads to: most hold it themselves."""
    inode = decode_inode(raw)
    if inode.kind != _HARD_LINK:
        return inode
    # Not always the shared place: a scan goes on showing names as they were when the last but one went meanwhile.
    place = view.get(keys.location(inode.id))
    shared = None if place is None else view.get(b"e" + place)
    assert shared is not None, f"the record of the linked file {inode.id} is missing"
    return decode_inode(shared)


def resolved(view: View, path: bytes, inode: Inode, parent_id: FileId, name: bytes) -> Resolved:
    """Completes an entry with its mount."""
    mount = mount_of(view, inode.mount_id)
    relative = b"" if mount is None else relative_to(path, mount.path)
    return Resolved(path, inode, parent_id, name, mount, relative)


def try_resolve(view: View, path: bytes, actor: Actor) -> Resolved | Missing:
    """Walks from the root. Raises NotADirectoryError, and PermissionError where search is not allowed."""
    if path[:1] != b"/":
        raise InvalidPathError(f"the path {os.fsdecode(path)!r} is not absolute: start it with '/'")
    inode = entry_at(view, NO_DIRECTORY, b"")
    if inode is None:
        raise not_found(b"/")
    parent_id, name = NO_DIRECTORY, b""
    names = components(path)
    for depth, part in enumerate(names):
        if not inode.is_dir:
            raise not_a_directory(b"/" + b"/".join(names[:depth]))
        if not actor.superuser:
            permissions.check(inode, actor, permissions.EXECUTE, b"/" + b"/".join(names[:depth]))
        child = entry_at(view, inode.id, part)
        if child is None:
            found = resolved(view, b"/" + b"/".join(names[:depth]), inode, parent_id, name)
            return Missing(path, found, names[depth:])
        parent_id, name, inode = inode.id, part, child
    return resolved(view, path, inode, parent_id, name)


def resolve(view: View, path: bytes, actor: Actor, access: int = 0) -> Resolved:
    """The entry at `path`, with every bit of `access` granted on it. Raises FileNotFoundError, NotADirectoryError,
    PermissionError, each with `filename` set."""
    found = try_resolve(view, path, actor)
    if isinstance(found, Missing):
        raise not_found(path)
    if access:
        permissions.check(found.inode, actor, access, path)
    return found


def list_children(view: View, dir_id: FileId, start_after: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
    """(name, raw entry) of at most `limit` children with names above `start_after`, in byte order."""
    rows = view.scan(*keys.entries_after(dir_id, start_after))
    prefix = keys.ENTRY_PREFIX_BYTES
    return ((key[prefix:], raw) for key, raw in islice(rows, limit))


def children(view: View, dir_id: FileId, start_after: bytes, limit: int) -> Iterator[tuple[bytes, Inode]]:
    """The same with the records that the entries lead to."""
    return ((name, decoded(view, raw)) for name, raw in list_children(view, dir_id, start_after, limit))


def is_empty(view: View, dir_id: FileId) -> bool:
    return next(list_children(view, dir_id, b"", 1), None) is None


def location_of(view: View, inode_id: FileId) -> tuple[FileId, bytes]:
    """(directory id, name) under which the record stands. Raises FileNotFoundError when it does not exist."""
    raw = view.get(keys.location(inode_id))
    if raw is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no file with the id {inode_id}: it was removed")
    return int.from_bytes(raw[:8], "big"), raw[8:]


def inode_of(view: View, inode_id: FileId) -> Inode:
    """The record of an id. Raises FileNotFoundError. It may stand in a tree that was detached: `path_of` tells."""
    inode = entry_at(view, *location_of(view, inode_id))
    if inode is None or inode.id != inode_id:
        raise FileNotFoundError(errno.ENOENT, f"there is no file with the id {inode_id}: it was removed")
    return inode


def is_current(view: View, file_id: FileId, version: Version) -> bool:
    """Whether the file of that id, in a detached tree or not, has that content now."""
    try:
        return inode_of(view, file_id).version == version
    except FileNotFoundError:
        return False


def path_of(view: View, file_id: FileId) -> bytes:
    """The present path of an id; of a file with several names, the first one that can be reached. Raises
    FileNotFoundError when it, or a directory above it, was removed."""
    if file_id == ROOT_ID:
        return b"/"
    directory_id, name = location_of(view, file_id)
    if directory_id != HARD_LINKS_ID:
        return _path_to(view, directory_id, name)
    for _, directory_id, name in names_of(view, file_id):
        try:
            return _path_to(view, directory_id, name)
        except FileNotFoundError:
            continue  # it lies in a tree that waits for reclaim
    raise FileNotFoundError(errno.ENOENT, f"there is no file with the id {file_id}: it was removed")


def _path_to(view: View, directory_id: FileId, name: bytes) -> bytes:
    names = [name]
    while directory_id != ROOT_ID:
        directory_id, above = location_of(view, directory_id)
        names.append(above)
        assert len(names) <= PATH_DEPTH_MAX * 4, f"the directories above {names} form a ring"
    names.reverse()
    return b"/" + b"/".join(names)


def names_of(view: View, file_id: FileId) -> Iterator[tuple[int, FileId, bytes]]:
    """(number, directory id, name) of each name of a file with several, in the order in which they were given."""
    prefix = keys.name_of_link(file_id, 0)[:-8]
    for key, raw in view.scan(prefix, keys.name_of_link(file_id + 1, 0)):
        yield int.from_bytes(key[-8:], "big"), int.from_bytes(raw[:8], "big"), raw[8:]


def first_name(view: View, inode: Inode) -> tuple[FileId, bytes]:
    """(directory id, name) under which the under storage has the file: its only name, or the first of several."""
    if inode.links > 1:
        _, directory_id, name = next(names_of(view, inode.id))
        return directory_id, name
    return location_of(view, inode.id)


def stored_as(view: View, found: Resolved) -> bytes:
    """The path, below the root of the mount, under which the under storage has or gets the content."""
    if found.inode.links == 1 or found.mount is None:
        return found.relative
    return relative_to(path_of(view, found.inode.id), found.mount.path)


def canonical(view: View, path: bytes) -> bytes:
    """The path that an id path stands for at present; any other as it is. Raises FileNotFoundError (the id is gone)
    and InvalidPathError."""
    parsed = parse_id_path(path)
    if parsed is None:
        return path
    directory, name = path_of(view, parsed[0]), parsed[1]
    return join(directory, name) if name else directory


def child_path(directory: bytes, name: bytes) -> bytes:
    return join(directory, name)
