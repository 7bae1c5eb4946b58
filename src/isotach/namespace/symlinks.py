"""Symbolic links in paths: found, and replaced by what they lead to.

Owns: the walk that follows them, its bound, and the error that says that a path has one. Never: is on the way of paths
without links: those who resolve a path meet a link as something that is no directory, or as the entry itself, and only
then is the path followed (`master.named_paths`, `master.reader`).
"""

import errno
import os
from collections import deque

from isotach.base.limits import SYMLINKS_FOLLOWED_MAX
from isotach.base.paths import components
from isotach.base.types import Inode, Kind
from isotach.namespace import permissions
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import NO_DIRECTORY, entry_at, not_a_directory, not_found
from isotach.namespace.view import View


class SymlinkMetError(OSError):
    """The path itself is a symbolic link, where one that is not followed makes no sense (ELOOP, as O_NOFOLLOW has it).
    Who serves paths follows it and asks again."""


def refuse_symlink(inode: Inode, path: bytes) -> None:
    """Raises SymlinkMetError for a link."""
    if inode.kind == Kind.SYMLINK:
        text = "this is a symbolic link: name what it leads to"
        raise SymlinkMetError(errno.ELOOP, text, os.fsdecode(path))


def followed(view: View, path: bytes, actor: Actor, follow_last: bool) -> bytes:
    """The canonical path without links that `path` leads to: links in the middle are followed, the last component only
    if asked for. What does not exist stays as it is. Targets that begin with `/` begin at the namespace's root. Raises
    OSError (ELOOP), PermissionError (search on the way), NotADirectoryError, FileNotFoundError (`..` of nothing)."""
    root = entry_at(view, NO_DIRECTORY, b"")
    if root is None:
        raise not_found(b"/")
    waiting = deque(components(path))
    done: list[tuple[bytes, Inode | None]] = []
    links = 0
    while waiting:
        part = waiting.popleft()
        if part in (b"", b"."):
            continue
        directory = done[-1][1] if done else root
        if part == b"..":
            if directory is None:
                raise not_found(path)
            del done[-1:]
            continue
        child = None if directory is None else _child(view, directory, part, done, actor)
        if child is None or child.kind != Kind.SYMLINK or not (waiting or follow_last):
            done.append((part, child))
            continue
        links += 1
        if links > SYMLINKS_FOLLOWED_MAX:
            text = f"more than {SYMLINKS_FOLLOWED_MAX} symbolic links lead to one another: see where they point"
            raise OSError(errno.ELOOP, text, os.fsdecode(path))
        target = child.target or b""
        if target.startswith(b"/"):
            done.clear()
        waiting.extendleft(reversed(target.split(b"/")))
    return _path(done) if links else path


def _child(
    view: View, directory: Inode, name: bytes, above: list[tuple[bytes, Inode | None]], actor: Actor
) -> Inode | None:
    if not directory.is_dir:
        raise not_a_directory(_path(above))
    permissions.check(directory, actor, permissions.EXECUTE, _path(above))
    return entry_at(view, directory.id, name)


def _path(names: list[tuple[bytes, Inode | None]]) -> bytes:
    return b"/" + b"/".join(name for name, _ in names)
