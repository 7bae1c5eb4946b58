"""OPEN and RELEASE of files that are read: the way in, quick for whole files, and the way out.

Owns: the mode of a first open, joining, sending away, and what a last close gives back. Never: reads bytes; files that
are opened for writing begin in `changing.py` and come here for their place in the table.
"""

import errno
import os
import time
from typing import Final

from isotach.base.errors import AuthenticationError, StaleVersionError, os_error
from isotach.base.limits import FUSE_KEPT_VERSIONS_MAX
from isotach.base.types import FileId, Inode, ReadType, Version
from isotach.client.reading.opening import Opened, open_version, wants_spread
from isotach.fuse.contract import Reply, Request
from isotach.fuse.files.content import Content, EmptyContent, StreamedContent, WholeContent
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.handles import Handles
from isotach.fuse.files.kept_pages import KeptPages
from isotach.fuse.files.memory import ReadMemory
from isotach.fuse.files.parts import Parts
from isotach.fuse.files.passthrough import Passthrough
from isotach.fuse.files.retries import RetryNotes
from isotach.fuse.files.streams import Stream, StreamPool
from isotach.fuse.files.table import OpenNode, OpenTable, Verdict, file_id_of, judge
from isotach.fuse.protocol.constants import Fopen
from isotach.fuse.protocol.layouts import OPEN_OUT
from isotach.wire.messages import StatReply

_NOT_HERE: Final = -1
_PASSED: Final = Fopen.PASSTHROUGH | Fopen.NOFLUSH
_KEPT: Final = Fopen.KEEP_CACHE | Fopen.NOFLUSH


class Opening:
    """The opens of a mount. Any thread."""

    def __init__(self, parts: Parts, table: OpenTable, handles: Handles, counters: FileCounters) -> None:
        self._parts: Final = parts
        self._tree: Final = parts.tree
        self._table: Final = table
        self._handles: Final = handles
        self._counters: Final = counters
        self._retries: Final = RetryNotes()
        self._pages: Final = KeptPages()
        self._streams: Final = StreamPool()
        self._memory: Final = ReadMemory(parts.settings.buffer_memory)
        self._renewed: Final[dict[FileId, int]] = {}
        self.passthrough: Final = Passthrough(parts.backings, parts.settings.passthrough != "off")

    # --- opening for reading ---

    def open_for_reading(self, request: Request) -> Reply:
        """The reply to an OPEN without write access; None: it comes later."""
        node = request.node
        inode = self._tree.inode(file_id_of(node))
        reply = self.join(request, inode.version, False)
        if reply is not None:
            return reply
        if not inode.length:
            return self._begin(request, inode.version, 0, EmptyContent())
        descriptor = self._container(inode.version, inode.length)
        if self.passthrough.is_on:
            backing_id = self.passthrough.idle(inode.version) if descriptor == _NOT_HERE else 0
            if descriptor != _NOT_HERE:
                backing_id = self.passthrough.register(descriptor)
                descriptor = _NOT_HERE
            if backing_id:
                return self._begin(request, inode.version, backing_id, None)
        if descriptor != _NOT_HERE:
            return self._begin(request, inode.version, 0, WholeContent(descriptor, inode.length))
        self._parts.later.run("read", request, self._open_slowly)
        return None

    def join(self, request: Request, version: Version, writes: bool) -> bytes | None:
        """The reply if others have the node open and this open fits them; None: it is the first. Raises OSError(ESTALE)
        when it must come again to another node."""
        node = request.node
        came_back = self._retries.came_back(request.pid, node)
        table = self._table
        with table.lock:
            open_node = table.find(node)
            verdict = judge(open_node, version, writes)
            if verdict is not Verdict.RENEW and not came_back and self._is_outdated(node):
                verdict = Verdict.RENEW
            if open_node is not None and (
                verdict is Verdict.JOIN or (came_back and not writes)  # the bytes that the descriptor it came by has
            ):
                table.join(open_node)
                return self._reply(open_node, 0)
        if verdict is Verdict.FIRST or open_node is None:
            return None
        raise self._sent_away(request, open_node)

    def _open_slowly(self, request: Request) -> Reply:
        """With the master and a worker: the bytes are not whole here, or nobody could look."""
        found = self._tree.granted(file_id_of(request.node))
        version, length = found.inode.version, found.inode.length
        reply = self.join(request, version, False)
        if reply is not None:
            return reply
        if not length:
            return self._begin(request, version, 0, EmptyContent())
        found, opened = self._open_at_worker(found)
        version, length = found.inode.version, found.inode.length
        if opened is not None and opened.handle == 0:
            descriptor, opened.fd = opened.fd, -1
            if self.passthrough.is_on:
                backing_id = self.passthrough.register(os.dup(descriptor))
                if backing_id:
                    os.close(descriptor)
                    return self._begin(request, version, backing_id, None)
            return self._begin(request, version, 0, WholeContent(descriptor, length))
        return self._begin(request, version, 0, self._streamed(found, opened))

    def _open_at_worker(self, found: StatReply) -> tuple[StatReply, Opened | None]:
        link = self._parts.link
        if wants_spread(link, found):
            return found, None
        try:
            return found, open_version(link, found, ReadType.CACHE)
        except (StaleVersionError, AuthenticationError):
            # The store's content changed behind the namespace, or the grant was too old: look again, once.
            found = self._tree.granted(found.inode.id)
            return found, open_version(link, found, ReadType.CACHE)

    def content_of(self, file_id: FileId) -> tuple[Inode, Content]:
        """The current version's bytes without a place in the table: for reads that had no open. May take long."""
        inode = self._tree.inode(file_id)
        if not inode.length:
            return inode, EmptyContent()
        descriptor = self._container(inode.version, inode.length)
        if descriptor != _NOT_HERE:
            return inode, WholeContent(descriptor, inode.length)
        found, opened = self._open_at_worker(self._tree.granted(file_id))
        if opened is not None and opened.handle == 0:
            descriptor, opened.fd = opened.fd, -1
            return found.inode, WholeContent(descriptor, found.inode.length)
        return found.inode, self._streamed(found, opened)

    def _streamed(self, found: StatReply, opened: Opened | None) -> Content:
        stream = Stream(self._parts.link, found, opened, self._memory)
        return StreamedContent(self._streams, stream, found.inode.length)

    def _container(self, version: Version, length: int) -> int:
        direct = self._parts.link.direct
        return _NOT_HERE if direct is None else direct.container(version, length)

    def _begin(self, request: Request, version: Version, backing_id: int, content: Content | None) -> bytes:
        """The first open of the node in this mode; joins if another one was quicker."""
        fresh = OpenNode(request.node, version, backing_id, content)
        table = self._table
        with table.lock:
            open_node = table.find(request.node)
            if open_node is None:
                table.add(fresh)
                table.join(fresh)
                fresh.opened_s = time.monotonic()
                return self._reply(fresh, 0)
            fits = judge(open_node, version, False) is Verdict.JOIN
            if fits:
                table.join(open_node)
                reply = self._reply(open_node, 0)
        self.give_back(fresh, lost=True)
        if not fits:
            raise self._sent_away(request, open_node)
        return reply

    # --- what all opens share ---

    def _reply(self, open_node: OpenNode, flags: int) -> bytes:
        """The `fuse_open_out` of one more open, `flags` as in `handles`. Under the table's lock."""
        handle = self._handles.make(flags)
        if open_node.backing_id:
            self._counters.passthrough_opens += 1
            kernel_flags = Fopen.PASSTHROUGH if flags else _PASSED
            return OPEN_OUT.pack(handle, kernel_flags, open_node.backing_id)
        self._counters.cached_opens += 1
        kernel_flags = 0 if flags else Fopen.NOFLUSH
        if open_node.opens > 1 or self._pages.are_of(open_node.node, open_node.version):
            kernel_flags |= Fopen.KEEP_CACHE
        self._pages.note(open_node.node, open_node.version)
        return OPEN_OUT.pack(handle, kernel_flags, 0)

    def _is_outdated(self, node: int) -> bool:
        """Whether the file's names lead to a newer node by now."""
        return bool(self._renewed) and self._renewed.get(file_id_of(node), node) != node

    def _sent_away(self, request: Request, open_node: OpenNode | None) -> OSError:
        """The error upon which the kernel looks the name up again, and meets another node."""
        node, file_id = request.node, file_id_of(request.node)
        if not self._is_outdated(node):
            if len(self._renewed) >= FUSE_KEPT_VERSIONS_MAX:
                self._renewed.clear()
            self._renewed[file_id] = self._tree.renew(file_id)
            self._counters.renewals += 1
        self._retries.tell(request.pid, node)
        what = "is open" if open_node is None else f"is open in version {open_node.version:#x}"
        return os_error(errno.ESTALE, f"the file {what}, which this open cannot share: open it by its name")

    def give_back(self, open_node: OpenNode, lost: bool = False) -> None:
        """What a node that is not open any more (or `lost` a race to be) held for its readers."""
        if open_node.backing_id:
            if lost:
                self.passthrough.drop(open_node.backing_id)
            else:
                self.passthrough.give_back(open_node.version, open_node.backing_id)
        if open_node.content is not None:
            open_node.content.close()
