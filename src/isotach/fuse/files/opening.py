"""OPEN of files that are read: quick for whole files, with the master and a worker for others.

Owns: where the bytes of a first open come from. Never: decides who shares a node (`places.py`), or reads bytes.
"""

import os
import time
from typing import Final

from isotach.base.errors import AuthenticationError, StaleVersionError
from isotach.base.limits import FUSE_LONG_OPEN_S
from isotach.base.types import FileId, Inode, ReadType, Version
from isotach.client.reading.opening import Opened, open_version, wants_spread
from isotach.fuse.contract import Reply, Request
from isotach.fuse.files.content import Content, EmptyContent, StreamedContent, WholeContent
from isotach.fuse.files.lives import Lives
from isotach.fuse.files.memory import ReadMemory
from isotach.fuse.files.partial import PartialContent
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.passthrough import Passthrough
from isotach.fuse.files.places import Places
from isotach.fuse.files.streams import Stream, StreamPool
from isotach.fuse.files.table import OpenNode, file_id_of
from isotach.wire.messages import StatReply

_NOT_HERE: Final = -1


class Opening:
    """The opens for reading of a mount. Any thread."""

    def __init__(self, parts: Parts, places: Places, lives: Lives, passthrough: Passthrough) -> None:
        self._parts: Final = parts
        self._tree: Final = parts.tree
        self._places: Final = places
        self._lives: Final = lives
        self._passthrough: Final = passthrough
        self._streams: Final = StreamPool()
        self._memory: Final = ReadMemory(parts.settings.buffer_memory)

    def open_for_reading(self, request: Request) -> Reply:
        """The reply to an OPEN without write access; None: it comes later."""
        node = request.node
        file_id = file_id_of(node)
        if not self._lives.is_ending(file_id):
            try:
                inode = self._tree.inode_now(file_id)
            except FileNotFoundError:
                reply = self._places.join_nameless(node)
                if reply is None:
                    raise
                return reply
            if inode is not None:
                reply = self._places.join(request.pid, node, inode.version) or self._open_live(request, inode)
                reply = reply or self._open_here(request, inode)
                if reply is not None:
                    return reply
        self._parts.later.run("read", request, self._open_slowly)
        return None

    def _open_live(self, request: Request, inode: Inode) -> bytes | None:
        """The reply if the file is written by somebody who has no node open, or was written and is not published."""
        file_id = inode.id
        shared = self._lives.hold(file_id)
        if shared is None:
            writing = self._parts.writing
            if writing.unpublished(file_id) is None:
                return None
            shared, _ = self._lives.take(file_id, lambda: writing.begin(inode, None, False))
        try:
            return self._places.share(request.pid, request.node, inode, shared, 0)
        finally:
            if self._lives.leave(shared):
                self._lives.end(shared)

    def _open_here(self, request: Request, inode: Inode) -> bytes | None:
        """The reply if the bytes are whole in a tier of this host that can be looked into; else None."""
        version, length = inode.version, inode.length
        begin = self._places.begin
        if not length:
            return begin(request.pid, request.node, inode, 0, EmptyContent())
        passes = self._passthrough.is_on
        backing_id = self._passthrough.idle(version) if passes else 0
        if not backing_id:
            descriptor = self._container(version, length)
            if descriptor == _NOT_HERE:
                return None
            backing_id = self._passthrough.register(descriptor) if passes else 0
            if not backing_id:
                return begin(request.pid, request.node, inode, 0, WholeContent(descriptor, length))
            os.close(descriptor)
        return begin(request.pid, request.node, inode, backing_id, None)

    def _open_slowly(self, request: Request) -> Reply:
        """With the master and a worker: the bytes are not whole here, or nobody could look."""
        file_id = file_id_of(request.node)
        self._lives.wait_for_end(file_id)
        found = self._tree.granted(file_id)
        reply = self._places.join(request.pid, request.node, found.inode.version)
        reply = reply or self._open_live(request, found.inode)
        if reply is not None:
            return reply
        inode, content, descriptor = self._content(found)
        backing_id = self._passthrough.register(descriptor) if descriptor >= 0 and self._passthrough.is_on else 0
        if backing_id:
            content.close()
            return self._places.begin(request.pid, request.node, inode, backing_id, None)
        return self._places.begin(request.pid, request.node, inode, 0, content)

    def container_now(self, file_id: FileId) -> tuple[Inode, int] | None:
        """The record, and a descriptor of the whole container; None: somebody must be asked."""
        inode = self._tree.inode_now(file_id)
        if inode is None or not inode.length:
            return None
        descriptor = self._container(inode.version, inode.length)
        return None if descriptor == _NOT_HERE else (inode, descriptor)

    def content_of(self, file_id: FileId) -> tuple[Inode, Content]:
        """The current version's bytes without a place in the table: for reads that had no open. May take long."""
        inode = self._tree.inode(file_id)
        descriptor = self._container(inode.version, inode.length) if inode.length else _NOT_HERE
        if descriptor != _NOT_HERE:
            return inode, WholeContent(descriptor, inode.length)
        inode, content, _ = self._content(self._tree.granted(file_id))
        return inode, content

    def _content(self, found: StatReply) -> tuple[Inode, Content, int]:
        """The record, its bytes, and the descriptor of the whole container that the content owns (-1: there is none).
        Asks a worker."""
        if not found.inode.length:
            return found.inode, EmptyContent(), _NOT_HERE
        link = self._parts.link
        opened: Opened | None = None
        if not wants_spread(link, found):
            try:
                opened = open_version(link, found, ReadType.CACHE)
            except (StaleVersionError, AuthenticationError):
                # The store's content changed behind the namespace, or the grant was too old: look again, once.
                found = self._tree.granted(found.inode.id)
                opened = open_version(link, found, ReadType.CACHE)
        length = found.inode.length
        if opened is not None and opened.handle == 0:
            descriptor, opened.fd = opened.fd, -1
            return found.inode, WholeContent(descriptor, length), descriptor
        if opened is not None and opened.fd >= 0:
            otherwise = StreamedContent(self._streams, Stream(link, found, None, self._memory), length)
            return found.inode, PartialContent(link, found, opened, self._streams, otherwise), _NOT_HERE
        stream = Stream(link, found, opened, self._memory)
        return found.inode, StreamedContent(self._streams, stream, length), _NOT_HERE

    def _container(self, version: Version, length: int) -> int:
        direct = self._parts.link.direct
        return _NOT_HERE if direct is None else direct.container(version, length)

    def give_back(self, open_node: OpenNode) -> None:
        """What a node that is not open any more held for its readers."""
        if open_node.backing_id:
            if open_node.shared is None:
                if time.monotonic() - open_node.opened_s > FUSE_LONG_OPEN_S:
                    self._tell_use(open_node)
                self._passthrough.give_back(open_node.version, open_node.backing_id)
            else:
                self._passthrough.drop(open_node.backing_id)
        if open_node.content is not None:
            open_node.content.close()

    def _tell_use(self, open_node: OpenNode) -> None:
        """Whoever had the file open for long may have read it just now: the evictor was told of the open only."""
        descriptor = self._container(open_node.version, open_node.inode.length)
        if descriptor != _NOT_HERE:
            os.close(descriptor)
