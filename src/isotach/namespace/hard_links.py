"""Giving a file one more name.

Owns: link(2) and who may do it. Never: keeps the rows of names (`link_names` does), or touches an under storage.
"""

import errno
import os

import msgspec

from isotach.base.limits import HARD_LINKS_MAX
from isotach.base.types import Inode
from isotach.namespace import entries, link_names, policies
from isotach.namespace.actor import Actor
from isotach.namespace.counters import IdAllocator
from isotach.namespace.directories import already_there, check_new, check_writable
from isotach.namespace.lookup import Resolved, child_path, not_found, resolve, try_resolve
from isotach.namespace.view import View


def link(view: View, src: bytes, dst: bytes, actor: Actor, now_ns: int, ids: IdAllocator) -> Inode:
    """Makes `dst` a further name of the file `src`. Raises FileNotFoundError, FileExistsError,
    NotADirectoryError, PermissionError (EPERM for a directory), OSError with EXDEV (another mount, or ordinary data
    below memory-only), EMLINK, EROFS."""
    source = resolve(view, src, actor)
    if source.inode.is_dir:
        text = "a directory has one name only: make a symbolic link"
        raise PermissionError(errno.EPERM, text, os.fsdecode(src))
    target = try_resolve(view, dst, actor)
    if isinstance(target, Resolved):
        raise already_there(target)
    if len(target.remaining) > 1:
        raise not_found(child_path(target.parent.path, target.remaining[0]))
    check_new(target, actor)
    check_writable(source.mount, src)
    into = target.parent.inode
    if into.mount_id != source.inode.mount_id:
        text = f"{os.fsdecode(src)} and the new name are in different mounts: make a symbolic link"
        raise OSError(errno.EXDEV, text, os.fsdecode(dst))
    policies.check_move(source.inode, into, dst)
    if source.inode.links >= HARD_LINKS_MAX:
        text = f"the file has {HARD_LINKS_MAX} names, which is the limit: copy it"
        raise OSError(errno.EMLINK, text, os.fsdecode(src))
    after = msgspec.structs.replace(source.inode, links=source.inode.links + 1, ctime_ns=now_ns)
    link_names.add(view, after, (into.id, target.remaining[0]), ids.allocate())
    entries.touch(view, target.parent, now_ns)
    return after
