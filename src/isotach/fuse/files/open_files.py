"""The open files of a mount as one object: the handlers of their requests, and what the tree asks of them.

Owns: the composition of this folder's parts. Never: does what they do.
"""

import os
from collections.abc import Mapping
from typing import Final

from isotach.base.types import FileId, Inode
from isotach.fuse.contract import Handler, LiveFile, Reply, Request
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.handles import Handles
from isotach.fuse.files.lives import Lives
from isotach.fuse.files.opening import Opening
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.reading import Reading
from isotach.fuse.files.table import OpenTable
from isotach.fuse.files.unopened import UnopenedReads
from isotach.fuse.protocol.constants import RELEASE_FLOCK_UNLOCK, Opcode
from isotach.fuse.protocol.layouts import FLUSH_IN, RELEASE_IN

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


class OpenFiles:
    """Implements `contract.Files`, and the handlers of OPEN and of all that is asked of open files."""

    def __init__(self, parts: Parts) -> None:
        self._parts: Final = parts
        self.counters: Final = FileCounters()
        self._table: Final = OpenTable()
        self._handles: Final = Handles()
        self._lives: Final = Lives()
        self._opening: Final = Opening(parts, self._table, self._handles, self.counters)
        self._unopened: Final = UnopenedReads(self._opening.content_of)
        self._reading: Final = Reading(parts.later, self._table, self._unopened, self.counters)

    def handlers(self) -> Mapping[int, Handler]:
        """By opcode."""
        return {
            Opcode.OPEN: self._open,
            Opcode.READ: self._reading.read,
            Opcode.FLUSH: self._flush,
            Opcode.RELEASE: self._release,
        }

    @property
    def reason_no_passthrough(self) -> str:
        """Why the kernel reads nothing itself; empty: it does."""
        return self._opening.passthrough.reason_off

    def live(self, file_id: FileId) -> LiveFile | None:
        shared = self._lives.find(file_id)
        return None if shared is None else shared.live

    def changed(self, file_id: FileId, inode: Inode | None) -> None:
        self._unopened.forget(file_id)

    def _open(self, request: Request) -> Reply:
        return self._opening.open_for_reading(request)

    def _flush(self, request: Request) -> Reply:
        _, owner = FLUSH_IN.unpack_from(request.body)
        self._parts.locks.flushed(request.node, owner)
        return b""

    def _release(self, request: Request) -> Reply:
        handle, _flags, release_flags, owner = RELEASE_IN.unpack_from(request.body)
        if not self._handles.is_ours(handle):
            return b""
        table = self._table
        with table.lock:
            open_node = table.find(request.node)
            is_last = open_node is not None and table.leave(open_node)
        if open_node is None:
            return b""
        self._parts.locks.released(open_node.file_id, handle, owner, bool(release_flags & RELEASE_FLOCK_UNLOCK))
        if is_last:
            self._opening.give_back(open_node)
        return b""
