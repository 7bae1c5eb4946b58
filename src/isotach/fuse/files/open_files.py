"""The open files of a mount as one object: the handlers of their requests, and what the tree asks of them.

Owns: the composition of this folder's parts, RELEASE, and what the feed and removals mean for open files. Never: does
what the parts do.
"""

import errno
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.types import FileId, Inode
from isotach.fuse.contract import Handler, LiveFile, Reply, Request
from isotach.fuse.files.changing import Changing
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.lives import Lives
from isotach.fuse.files.locked import LockedContents
from isotach.fuse.files.opening import Opening
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.passthrough import Passthrough
from isotach.fuse.files.places import Places
from isotach.fuse.files.reading import Reading
from isotach.fuse.files.table import OpenNode
from isotach.fuse.files.unopened import UnopenedReads
from isotach.fuse.files.writes import Writes
from isotach.fuse.protocol.constants import RELEASE_FLOCK_UNLOCK, Opcode
from isotach.fuse.protocol.layouts import OPEN_IN, RELEASE_IN
from isotach.obs.log import get_logger
from isotach.wire.messages import CreateReply

log = get_logger("fuse.files")

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


class OpenFiles:
    """Implements `contract.Files`, and the handlers of OPEN and of all that is asked of open files."""

    def __init__(self, parts: Parts) -> None:
        self._parts: Final = parts
        self.counters: Final = FileCounters()
        self._lives: Final = Lives()
        self._passthrough: Final = Passthrough(parts.backings, parts.settings.passthrough != "off")
        self._places: Final = Places(
            parts.tree, parts.notifier, parts.locks, self._lives, self._passthrough, self.counters
        )
        self._opening: Final = Opening(parts, self._places, self._lives, self._passthrough)
        self._changing: Final = Changing(parts, self._places, self._lives)
        #: For the locks: contents go from mount to mount with them.
        self.locked: Final = LockedContents(parts.tree, parts.notifier, self._places, self._lives, self._changing)
        self._unopened: Final = UnopenedReads(self._opening.content_of, self._opening.container_now)
        self._reading: Final = Reading(parts.later, self._places.table, self._unopened, self.counters)
        self._writes: Final = Writes(parts, self._places, self._changing, self.counters)

    def handlers(self) -> Mapping[int, Handler]:
        """By opcode."""
        writes = self._writes
        if self._parts.settings.training:
            return {Opcode.OPEN: _not_needed, Opcode.FLUSH: _not_needed, Opcode.READ: self._reading.read}
        return {
            Opcode.OPEN: self._open,
            Opcode.READ: self._reading.read,
            Opcode.WRITE: writes.write,
            Opcode.FLUSH: writes.flush,
            Opcode.FSYNC: writes.fsync,
            Opcode.FALLOCATE: writes.fallocate,
            Opcode.LSEEK: writes.lseek,
            Opcode.COPY_FILE_RANGE: writes.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: writes.copy_file_range,
            Opcode.RELEASE: self._release,
        }

    @property
    def reason_no_passthrough(self) -> str:
        """Why the kernel reads nothing itself; empty: it does."""
        return self._passthrough.reason_off

    @property
    def opens(self) -> int:
        """How many handles there are."""
        return self._places.table.opens

    # --- contract.Files ---

    def live(self, file_id: FileId) -> LiveFile | None:
        shared = self._lives.find(file_id)
        return self._parts.writing.unpublished(file_id) if shared is None else shared.live

    def as_opened(self, node: int, inode: Inode | None) -> Inode | None:
        open_node = self._places.table.find(node)
        if open_node is None or open_node.shared is not None:
            return inode
        opened = open_node.inode
        if inode is None:
            return msgspec.structs.replace(opened, links=0)
        if inode.version == open_node.version:
            return inode
        return msgspec.structs.replace(inode, length=opened.length, mtime_ns=opened.mtime_ns)

    def open_created(self, request: Request, node: int, inode: Inode, created: CreateReply | None, flags: int) -> bytes:
        return self._changing.open_created(request, node, inode, created, flags)

    def truncate(self, inode: Inode, length: int, handle: int | None, node: int = 0) -> Inode:
        if handle is None and node:
            self._places.check_length(node)
        return self._changing.truncate(inode, length, handle)

    def before_removal(self, inode: Inode) -> None:
        shared = self._lives.hold(inode.id)
        if shared is not None:
            try:
                shared.live.before_removal()
            finally:
                self._changing.leave(shared)
        for open_node in self._nodes_of(inode.id):
            if open_node.content is not None and open_node.shared is None:
                try:
                    open_node.content.secure()
                except (OSError, IsotachError) as problem:  # removing goes before reading
                    log.warning("removed_file_not_secured", file_id=inode.id, error=str(problem))

    def removed(self, file_id: FileId) -> None:
        live = self.live(file_id)
        if live is not None:
            live.removed()

    def seen(self, inode: Inode) -> bool:
        return self._places.seen(inode)

    def changed(self, file_id: FileId, inode: Inode | None) -> bool:
        self._unopened.forget(file_id)
        if self._parts.settings.training:  # no open will compare versions: the pages go now
            self._parts.notifier.inval_inode(self._parts.tree.current_node(file_id))
        return inode is not None and self._places.seen(inode)

    def close(self) -> None:
        """The mount ends: publishes what is still open for writing, and lets everything go."""
        for open_node in self._places.table.all():
            self._opening.give_back(open_node)
            self._changing.close(open_node)
        self._unopened.close()
        self._passthrough.close()

    # --- handlers ---

    def _open(self, request: Request) -> Reply:
        flags, _ = OPEN_IN.unpack_from(request.body)
        if flags & _WRITING:
            return self._changing.open_for_writing(request)
        return self._opening.open_for_reading(request)

    def _release(self, request: Request) -> Reply:
        handle, _, release_flags, owner = RELEASE_IN.unpack_from(request.body)
        places = self._places
        if not places.handles.is_ours(handle):
            return b""
        table = places.table
        with table.lock:
            open_node = table.find(request.node)
            is_last = open_node is not None and table.leave(open_node)
        if open_node is None:
            return b""
        self._parts.locks.released(open_node.file_id, handle, owner, bool(release_flags & RELEASE_FLOCK_UNLOCK))
        if not is_last:
            return b""
        if open_node.shared is None:
            self._opening.give_back(open_node)
            return b""

        def end(_: Request) -> Reply:
            self._changing.close(open_node)
            self._opening.give_back(open_node)
            return b""

        if not self._changing.is_slow_to_close(open_node):
            return end(request)
        self._parts.later.run("write", request, end)
        return None

    def _nodes_of(self, file_id: FileId) -> list[OpenNode]:
        with self._places.table.lock:
            return list(self._places.table.of_file(file_id))


def _not_needed(_: Request) -> Reply:
    """Training: the kernel asks this once, and never again (FUSE_NO_OPEN_SUPPORT; `fc->no_flush`)."""
    raise OSError(errno.ENOSYS, "a training mount has no opens")
