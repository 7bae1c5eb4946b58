"""LOOKUP, GETATTR, READLINK, FORGET: what is there, and what is it.

Owns: these handlers. Never: changes anything. They answer from the master's store at once where they can, else through
the pool of calls.
"""

import errno
from typing import Final

from isotach.base.errors import os_error
from isotach.base.limits import NAME_BYTES_MAX
from isotach.base.types import FileId
from isotach.client.direct.entries import Sight
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import requests
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.protocol.replies import negative_entry
from isotach.fuse.tree.core import TreeCore, gone


class Lookups:
    """For many threads."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.GETATTR: self.getattr,
            Opcode.READLINK: self.readlink,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
        }

    def lookup(self, request: Request) -> Reply:
        """LOOKUP."""
        core = self._core
        directory_id, name = core.nodes.file_id(request.node), requests.decode_name(request.body)
        if len(name) > NAME_BYTES_MAX:  # the kernel passes on up to 1,024
            raise OSError(errno.ENAMETOOLONG, f"names have {NAME_BYTES_MAX} bytes at most")
        sight = core.records.entry_now(directory_id, name)
        if sight is None:
            core.later.run("tree", request, self._lookup_asked)
            return None
        return self._seen(sight, directory_id, name)

    def _lookup_asked(self, request: Request) -> Reply:
        core = self._core
        directory_id, name = core.nodes.file_id(request.node), requests.decode_name(request.body)
        return self._seen(core.records.entry_asked(directory_id, name), directory_id, name)

    def _seen(self, sight: Sight, directory_id: FileId, name: bytes) -> bytes:
        inode = sight.inode
        if inode is not None:
            if inode.is_dir:
                self._core.places.note(inode, (directory_id, name))
            return self._core.entry(inode, sight.interval_ms)
        lasts = self._core.lasting.negative(sight.interval_ms)
        if lasts == (0, 0):
            raise FileNotFoundError(errno.ENOENT, "there is no entry of that name")
        return negative_entry(lasts)

    def getattr(self, request: Request) -> Reply:
        """GETATTR."""
        core = self._core
        file_id = core.nodes.file_id(request.node)
        nameless = core.nameless(file_id)
        if nameless is not None:
            return core.attr(nameless)
        sight = core.records.inode_now(file_id)
        if sight is None:
            core.later.run("tree", request, self._getattr_asked)
            return None
        return self._attr(sight, file_id, request.node)

    def _getattr_asked(self, request: Request) -> Reply:
        file_id = self._core.nodes.file_id(request.node)
        return self._attr(self._core.records.inode_asked(file_id), file_id, request.node)

    def _attr(self, sight: Sight, file_id: int, node: int) -> bytes:
        inode = sight.inode or self._core.nameless(file_id)  # it may have lost its name just now
        inode = self._core.files.as_opened(node, inode)
        if inode is None:
            raise gone(file_id)
        return self._core.attr(inode, sight.interval_ms)

    def readlink(self, request: Request) -> Reply:
        """READLINK."""
        core = self._core
        sight = core.records.inode_now(core.nodes.file_id(request.node))
        if sight is None:
            core.later.run("tree", request, self._readlink_asked)
            return None
        return _target(sight, request.node)

    def _readlink_asked(self, request: Request) -> Reply:
        return _target(self._core.records.inode_asked(self._core.nodes.file_id(request.node)), request.node)

    def forget(self, request: Request) -> Reply:
        """FORGET: has no reply."""
        self._core.forget(*requests.decode_forget(request.node, request.body))
        return None

    def batch_forget(self, request: Request) -> Reply:
        """BATCH_FORGET: has no reply."""
        for node, count in requests.decode_batch_forget(request.body):
            self._core.forget(node, count)
        return None


def _target(sight: Sight, node: int) -> bytes:
    if sight.inode is None:
        raise gone(node)
    if sight.inode.target is None:
        raise os_error(errno.EINVAL, "the entry is no symbolic link")
    return sight.inode.target
