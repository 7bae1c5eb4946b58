"""SETATTR: chmod, chown, utimens, truncate.

Owns: this handler. Never: cuts bytes itself: lengths are set by `fuse.files`.
"""

import errno
import stat
import time
from typing import Final

import msgspec

from isotach.base.errors import os_error
from isotach.base.paths import id_path
from isotach.base.types import FileId, Inode, Kind
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import requests
from isotach.fuse.protocol.constants import Fattr, Opcode
from isotach.fuse.protocol.records import SetattrIn
from isotach.fuse.tree.core import TreeCore, gone
from isotach.wire import messages
from isotach.wire.messages import SetAttrRequest

_PERMISSIONS: Final = 0o7777
#: What the master is asked to change; a length alone is changed with the content.
_IN_NAMESPACE: Final = Fattr.MODE | Fattr.UID | Fattr.GID | Fattr.ATIME | Fattr.MTIME | Fattr.KILL_SUIDGID


class Setting:
    """For many threads."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {Opcode.SETATTR: self.setattr}

    def setattr(self, request: Request) -> Reply:
        """SETATTR. A new length may mean to publish a file: that is for the pool."""
        if requests.decode_setattr(request.body).valid & Fattr.SIZE:
            self._core.later.run("write", request, self._set)
            return None
        return self._core.turns.run(request, self._set)

    def _set(self, request: Request) -> Reply:
        core = self._core
        asked = requests.decode_setattr(request.body)
        file_id = core.nodes.file_id(request.node)
        nameless = core.nameless(file_id)
        if nameless is not None:
            return core.attr(self._set_nameless(nameless, asked))
        inode = core.sight(file_id).inode
        if inode is None:
            raise gone(file_id)
        if asked.valid & Fattr.SIZE:
            inode = self._truncated(inode, asked, request.node)
        if asked.valid & _IN_NAMESPACE and not self._is_told_by_kill_alone(inode, asked):
            core.calls.run(messages.SET_ATTR, self._wanted(file_id, inode, asked))
            self._tell_live(file_id, asked)
            sight = core.sight(file_id)
            if sight.inode is None:
                raise gone(file_id)
            core.own.note(sight.inode)
            return core.attr(sight.inode, sight.interval_ms)
        return core.attr(inode)

    def _truncated(self, inode: Inode, asked: SetattrIn, node: int) -> Inode:
        if inode.kind == Kind.DIRECTORY:
            raise os_error(errno.EISDIR, "a directory has no length to set")
        handle = asked.handle if asked.valid & Fattr.FH else None
        after = self._core.files.truncate(inode, asked.size, handle, node)
        self._core.own.note(after)
        return after

    @staticmethod
    def _is_told_by_kill_alone(inode: Inode, asked: SetattrIn) -> bool:
        """Whether all that is wanted is to take away bits that are not there."""
        others = asked.valid & _IN_NAMESPACE & ~Fattr.KILL_SUIDGID
        return not others and not inode.mode & (stat.S_ISUID | stat.S_ISGID)

    def _wanted(self, file_id: FileId, inode: Inode, asked: SetattrIn) -> SetAttrRequest:
        owners, valid = self._core.owners, asked.valid
        is_given_away = bool(valid & (Fattr.UID | Fattr.GID)) and inode.kind != Kind.DIRECTORY
        return SetAttrRequest(
            id_path(file_id),
            mode=asked.mode & _PERMISSIONS if valid & Fattr.MODE else None,
            owner=owners.user(asked.uid) if valid & Fattr.UID else None,
            group=owners.group(asked.gid) if valid & Fattr.GID else None,
            atime_ns=asked.atime_ns if valid & Fattr.ATIME and not valid & Fattr.ATIME_NOW else None,
            mtime_ns=asked.mtime_ns if valid & Fattr.MTIME and not valid & Fattr.MTIME_NOW else None,
            atime_now=bool(valid & Fattr.ATIME_NOW),
            mtime_now=bool(valid & Fattr.MTIME_NOW),
            clear_suid=bool(valid & Fattr.KILL_SUIDGID) or is_given_away,
        )

    def _tell_live(self, file_id: FileId, asked: SetattrIn) -> None:
        """A file that is being written here has a time of its own until it is published."""
        live = self._core.files.live(file_id) if asked.valid & Fattr.MTIME else None
        if live is not None:
            live.set_mtime(time.time_ns() if asked.valid & Fattr.MTIME_NOW else asked.mtime_ns)

    def _set_nameless(self, inode: Inode, asked: SetattrIn) -> Inode:
        """A file without a name is changed here alone: nobody else can see it."""
        owners, valid, now_ns = self._core.owners, asked.valid, time.time_ns()
        if valid & Fattr.SIZE:
            inode = self._core.files.truncate(inode, asked.size, asked.handle if valid & Fattr.FH else None)
        changes: dict[str, object] = {"ctime_ns": now_ns, "links": 0}
        if valid & (Fattr.KILL_SUIDGID | Fattr.UID | Fattr.GID) and inode.kind != Kind.DIRECTORY:
            # The setgid bit of a file that no group may execute means something else.
            changes["mode"] = inode.mode & ~(stat.S_ISUID | (stat.S_ISGID if inode.mode & stat.S_IXGRP else 0))
        if valid & Fattr.MODE:
            changes["mode"] = asked.mode & _PERMISSIONS
        if valid & Fattr.UID:
            changes["owner"] = owners.user(asked.uid)
        if valid & Fattr.GID:
            changes["group"] = owners.group(asked.gid)
        if valid & Fattr.ATIME:
            changes["atime_ns"] = now_ns if valid & Fattr.ATIME_NOW else asked.atime_ns
        if valid & Fattr.MTIME:
            changes["mtime_ns"] = now_ns if valid & Fattr.MTIME_NOW else asked.mtime_ns
            self._tell_live(inode.id, asked)
        after = msgspec.structs.replace(inode, **changes)
        self._core.change_nameless(inode.id, after)
        return after
