"""Opens for writing, and what is asked of files that are being written.

Owns: how live files are begun, shared by nodes, published at close, and ended with the last handle. Never: holds their
bytes (`writing`), or decides who may share a node (`places.py`).
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from isotach.base.paths import id_path
from isotach.base.types import FileId, Inode
from isotach.client.operations import Operation, Where
from isotach.fuse.contract import Reply, Request
from isotach.fuse.files.handles import APPENDS, ONLY_WRITES, WRITES
from isotach.fuse.files.lives import Lives, SharedLive
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.places import Places
from isotach.fuse.files.table import OpenNode, file_id_of
from isotach.fuse.protocol.constants import OPEN_KILL_SUIDGID
from isotach.fuse.protocol.layouts import OPEN_IN
from isotach.wire.messages import SET_ATTR, CreateReply, SetAttrRequest

_ACCESS: Final = os.O_WRONLY | os.O_RDWR
_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID


def handle_flags(flags: int) -> int:
    """What a handle remembers of open(2)'s flags."""
    if not flags & _ACCESS:
        return 0
    only = ONLY_WRITES if flags & _ACCESS == os.O_WRONLY else 0
    return WRITES | only | (APPENDS if flags & os.O_APPEND else 0)


class Changing:
    """The files being written of a mount. Any thread."""

    def __init__(self, parts: Parts, places: Places, lives: Lives) -> None:
        self._parts: Final = parts
        self._tree: Final = parts.tree
        self._places: Final = places
        self._lives: Final = lives
        self._backs: Final = parts.settings.write_passthrough != "off"

    # --- opening ---

    def has_special_bits(self, file_id: FileId) -> bool:
        """Whether a write by an ordinary user changes the file's mode."""
        try:
            inode = self._tree.inode_now(file_id)
        except FileNotFoundError:
            return False
        return inode is None or bool(inode.mode & _SPECIAL)

    def take_special_bits(self, file_id: FileId) -> None:
        """A user who is not allowed to keep setuid and setgid bits writes. May take long."""
        if not self._tree.inode(file_id).mode & _SPECIAL:
            return
        request = SetAttrRequest(id_path(file_id), clear_suid=True)
        timeout_s = self._parts.settings.server_timeout
        self._parts.link.run(Operation(SET_ATTR, request, Where.MASTER, _nothing, timeout_s))
        self._tree.note(self._tree.inode(file_id))

    def open_for_writing(self, request: Request) -> Reply:
        """The reply to an OPEN with write access, or with O_TRUNC; None: it comes later."""
        flags, kills = OPEN_IN.unpack_from(request.body)
        file_id = file_id_of(request.node)
        waits = self._lives.is_ending(file_id) or (flags & os.O_TRUNC and (self._backs or kills & OPEN_KILL_SUIDGID))
        inode = None if waits else self._tree.inode_now(file_id)
        if inode is None:
            self._parts.later.run("write", request, self._open_late)
            return None
        return self._open(request.pid, request.node, inode, None, flags)

    def _open_late(self, request: Request) -> Reply:
        flags, kills = OPEN_IN.unpack_from(request.body)
        file_id = file_id_of(request.node)
        self._lives.wait_for_end(file_id)
        if flags & os.O_TRUNC and kills & OPEN_KILL_SUIDGID:
            self.take_special_bits(file_id)
        return self._open(request.pid, request.node, self._tree.inode(file_id), None, flags)

    def open_created(self, request: Request, node: int, inode: Inode, created: CreateReply | None, flags: int) -> bytes:
        """As `contract.Files.open_created`. May take long."""
        self._lives.wait_for_end(inode.id)
        return self._open(request.pid, node, inode, created, flags)

    def _open(self, thread: int, node: int, inode: Inode, created: CreateReply | None, flags: int) -> bytes:
        truncates = bool(flags & os.O_TRUNC)
        # Whoever cannot share the node is sent away before anything is truncated.
        self._places.check(thread, node, inode.version)
        shared, is_begun = self._lives.take(
            inode.id, lambda: self._parts.writing.begin(self._newest(inode), created, truncates)
        )
        try:
            if truncates and not is_begun:
                shared.live.truncate(0)
            return self._places.share(thread, node, inode, shared, handle_flags(flags))
        finally:
            self.leave(shared)

    # --- ends ---

    def flush(self, shared: SharedLive) -> Inode | None:
        """close(2) of one descriptor of a writer. May take long. Raises what publishing raised."""
        return self._published(shared, shared.live.flush)

    def publish_now(self, shared: SharedLive) -> Inode | None:
        """Before a lock goes to another mount. May take long. Raises what publishing raised."""
        return self._published(shared, shared.live.publish_now)

    def sync(self, shared: SharedLive) -> None:
        """fsync(2). May take long."""
        with self._publishing(shared):
            shared.live.sync()
            with contextlib.suppress(FileNotFoundError):  # it was removed: no version to know
                inode = self._tree.inode_now(shared.file_id)
                if inode is not None:
                    self._places.published(shared, inode)

    def close(self, open_node: OpenNode) -> None:
        """The last handle of the node is gone: the last node publishes what is left. May take long if it is dirty."""
        shared = open_node.shared
        if shared is not None and self._lives.leave(shared):
            inode = self._lives.end(shared)
            version = open_node.version if inode is None else inode.version
            self._places.pages.note(open_node.node, version)
            if inode is not None:
                self._tree.note(inode)

    def is_slow_to_close(self, open_node: OpenNode) -> bool:
        """Whether `close` may take long."""
        shared = open_node.shared
        return shared is not None and (shared.live.is_dirty or shared.live.backing_descriptor >= 0)

    # --- without an open ---

    def truncate(self, inode: Inode, length: int, handle: int | None) -> Inode:
        """As `contract.Files.truncate`."""
        self._lives.wait_for_end(inode.id)
        shared, _ = self._lives.take(inode.id, lambda: self._parts.writing.begin(self._newest(inode), None, not length))
        try:
            self._places.share_with_readers(inode.id, shared)
            shared.live.truncate(length)
            published = self.flush(shared) if handle is None else None
            mtime_ns = shared.live.mtime_ns
        finally:
            self.leave(shared)
        if published is not None:
            return published
        return msgspec.structs.replace(inode, length=length, mtime_ns=mtime_ns, ctime_ns=time.time_ns())

    # --- inside ---

    def _newest(self, inode: Inode) -> Inode:
        """The record as it is now: the last writer may have published since it was read, by a close that is over for
        its program before it is for this daemon."""
        with contextlib.suppress(FileNotFoundError):  # it has no name any more: nobody but this mount changes it
            return self._tree.inode_now(inode.id) or inode
        return inode

    def _published(self, shared: SharedLive, publish: Callable[[], Inode | None]) -> Inode | None:
        with self._publishing(shared):
            inode = publish()
            if inode is not None:
                self._places.published(shared, inode)
                self._tree.note(inode)
        return inode

    def leave(self, shared: SharedLive) -> None:
        if self._lives.leave(shared):
            inode = self._lives.end(shared)
            if inode is not None:
                self._tree.note(inode)

    @contextlib.contextmanager
    def _publishing(self, shared: SharedLive) -> Iterator[None]:
        """Whatever version the file has meanwhile counts as this file's own."""
        self._places.publishing(shared, 1)
        try:
            yield
        finally:
            self._places.publishing(shared, -1)


def _nothing(_reply: object, _payload: object) -> None:
    return None
