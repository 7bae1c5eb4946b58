"""A place in the table for each open: joining a node, being its first open, or being sent away to another node.

Owns: the decision, the reply to OPEN, and whose pages the kernel may keep. Never: opens containers or live files: it is
given them.
"""

import errno
import platform
import time
from typing import Final

from isotach.base.errors import os_error
from isotach.base.types import FileId, Inode, Version
from isotach.fuse.contract import Locks, Notifier, Tree
from isotach.fuse.files.content import Content
from isotach.fuse.files.counters import FileCounters
from isotach.fuse.files.handles import ONLY_WRITES, Handles
from isotach.fuse.files.kept_pages import KeptPages
from isotach.fuse.files.lives import Lives, SharedLive
from isotach.fuse.files.passthrough import Passthrough
from isotach.fuse.files.retries import RetryNotes
from isotach.fuse.files.table import OpenNode, OpenTable, Verdict, file_id_of, judge
from isotach.fuse.kernel.support import version_of
from isotach.fuse.protocol.constants import Fopen
from isotach.fuse.protocol.layouts import OPEN_OUT

#: Linux 6.18 drops cached pages of what was written directly also afterwards (fuse_direct_io): a reader of the same
#: file that was quick enough to cache the old bytes while they were written does not keep them.
_DROPS_PAGES: Final = version_of(platform.release()) >= (6, 18)
_PASSED: Final = Fopen.PASSTHROUGH | Fopen.NOFLUSH


class Places:
    """The opens of a mount. Any thread."""

    def __init__(
        self,
        tree: Tree,
        notifier: Notifier,
        locks: Locks,
        lives: Lives,
        passthrough: Passthrough,
        counters: FileCounters,
    ) -> None:
        self._tree: Final = tree
        self._locks: Final = locks
        self._notifier: Final = notifier
        self._lives: Final = lives
        self._passthrough: Final = passthrough
        self._counters: Final = counters
        self._retries: Final = RetryNotes()
        self.handles: Final = Handles()
        self.pages: Final = KeptPages()
        self.table: Final = OpenTable()

    # --- opens for reading ---

    def join(self, thread: int, node: int, version: Version) -> bytes | None:
        """The reply to an open for reading if others have the node open; None: it is the first. Raises OSError(ESTALE)
        when it must come again to another node."""
        came_back = self._retries.came_back(thread, node)
        table = self.table
        outdated = not came_back and self._tree.current_node(file_id_of(node)) != node
        with table.lock:
            open_node = table.find(node)
            verdict = Verdict.RENEW if outdated else judge(open_node, version, False)
            # An open that cannot look the name up again gets what the descriptor has that it came by.
            if open_node is not None and (verdict is Verdict.JOIN or came_back):
                table.join(open_node)
                return self._reply(open_node, 0)
        if verdict is Verdict.RENEW:
            raise self._sent_away(thread, node, open_node)
        return None

    def join_nameless(self, node: int) -> bytes | None:
        """As `join`, for a file whose last name is gone."""
        with self.table.lock:
            open_node = self.table.find(node)
            if open_node is None:
                return None
            self.table.join(open_node)
            return self._reply(open_node, 0)

    def begin(self, thread: int, node: int, inode: Inode, backing_id: int, content: Content | None) -> bytes:
        """The first open of the node, in this mode; joins if another one was quicker. Raises OSError(ESTALE)."""
        fresh = OpenNode(node, inode, backing_id, content)
        table = self.table
        with table.lock:
            open_node = table.find(node)
            if open_node is None:
                self._note_fresh(fresh, inode)
                table.add(fresh)
                table.join(fresh)
                return self._reply(fresh, 0)
            fits = judge(open_node, inode.version, False) is Verdict.JOIN
            if fits:
                table.join(open_node)
                reply = self._reply(open_node, 0)
        if backing_id:
            self._passthrough.drop(backing_id)
        if content is not None:
            content.close()
        if not fits:
            raise self._sent_away(thread, node, open_node)
        return reply

    def seen(self, inode: Inode) -> bool:
        """As `contract.Files.seen`: who has an older version open keeps the old node, and the names get a new one."""
        open_node = self.table.find(self._tree.current_node(inode.id))
        if open_node is None or open_node.shared is not None or open_node.version == inode.version:
            return False
        self._tree.renew(inode.id)
        self._counters.renewals += 1
        return True

    # --- opens of files being written ---

    def check(self, thread: int, node: int, version: Version) -> None:
        """Raises OSError(ESTALE) if an open for writing cannot have a place at this node."""
        self._retries.came_back(thread, node)
        table = self.table
        outdated = self._tree.current_node(file_id_of(node)) != node
        with table.lock:
            open_node = table.find(node)
            verdict = Verdict.RENEW if outdated else judge(open_node, version, True)
        if verdict is Verdict.RENEW:
            raise self._sent_away(thread, node, open_node)

    def check_length(self, node: int) -> None:
        """Raises OSError(ESTALE) if the length of this node cannot be set by name: the kernel reads its bytes itself,
        or the name leads to another node by now. (truncate(2) looks the name up again then.)"""
        open_node = self.table.find(node)
        is_fixed = open_node is not None and open_node.backing_id > 0 and open_node.shared is None
        if is_fixed or self._tree.current_node(file_id_of(node)) != node:
            raise self._sent_away(0, node, open_node)

    def share(self, thread: int, node: int, inode: Inode, shared: SharedLive, flags: int) -> bytes:
        """The reply to an open of a file that is being written; `flags` of the handle. Raises OSError(ESTALE)."""
        table = self.table
        fresh: OpenNode | None = None
        begun = False  # by this open, in the mode that suits it
        if table.find(node) is None:
            fresh = OpenNode(node, inode, self._write_backing(shared), None)
        with table.lock:
            open_node = table.find(node)
            if open_node is None and fresh is not None:
                self._note_fresh(fresh, inode)
                table.add(fresh)
                open_node, fresh, begun = fresh, None, True
            if open_node is not None and (begun or judge(open_node, inode.version, bool(flags)) is not Verdict.RENEW):
                if (open_node.shared is None and not open_node.backing_id) or open_node.opens == 0:
                    open_node.shared = self._lives.hold_more(shared)
                table.join(open_node)
                reply = self._reply(open_node, flags)
            else:
                reply = b""
        if fresh is not None and fresh.backing_id:
            self._passthrough.drop(fresh.backing_id)
        if not reply:
            raise self._sent_away(thread, node, open_node)
        return reply

    def share_with_readers(self, file_id: FileId, shared: SharedLive) -> None:
        """Whoever reads the file through the daemon sees what is written to it from now on."""
        table = self.table
        with table.lock:
            for open_node in table.of_file(file_id):
                if open_node.shared is None and not open_node.backing_id:
                    open_node.shared = self._lives.hold_more(shared)

    def published(self, shared: SharedLive, inode: Inode) -> None:
        """Its nodes are of this version now, and so are the pages that the kernel has of them."""
        with self.table.lock:
            for open_node in self.table.of_file(shared.file_id):
                if open_node.shared is shared:
                    open_node.version = inode.version
                    self.pages.note(open_node.node, inode.version)

    def publishing(self, shared: SharedLive, change: int) -> None:
        """One call more (or less) publishes it."""
        with self.table.lock:
            shared.publishing += change

    # --- inside ---

    def _write_backing(self, shared: SharedLive) -> int:
        descriptor = shared.live.backing_descriptor
        if descriptor < 0 or not self._passthrough.is_on:
            return 0
        return self._passthrough.register(descriptor)

    def _reply(self, open_node: OpenNode, flags: int) -> bytes:
        """The `fuse_open_out` of one more open. Under the table's lock."""
        handle = self.handles.make(flags)
        counters = self._counters
        tells_close = flags or self._locks.any_held(open_node.file_id)
        if open_node.backing_id:
            counters.passthrough_opens += 1
            return OPEN_OUT.pack(handle, Fopen.PASSTHROUGH if tells_close else _PASSED, open_node.backing_id)
        counters.cached_opens += 1
        kernel_flags = 0 if tells_close else Fopen.NOFLUSH
        if flags & ONLY_WRITES and _DROPS_PAGES:
            kernel_flags |= Fopen.DIRECT_IO  # one copy less than by way of the page cache, of which it reads nothing
        if open_node.opens > 1 or self.pages.are_of(open_node.node, open_node.version):
            kernel_flags |= Fopen.KEEP_CACHE
        self.pages.note(open_node.node, open_node.version)
        return OPEN_OUT.pack(handle, kernel_flags, 0)

    def _note_fresh(self, fresh: OpenNode, inode: Inode) -> None:
        """The kernel's attributes may be older than this version if the feed has not told of it yet."""
        fresh.opened_s = time.monotonic()
        age_ns = time.time_ns() - inode.ctime_ns
        if age_ns < 2_000_000_000 and not self.pages.are_of(fresh.node, inode.version):
            self._notifier.inval_inode(fresh.node, -1)

    def _sent_away(self, thread: int, node: int, open_node: OpenNode | None) -> OSError:
        """The error upon which the kernel looks the name up again, and meets another node."""
        file_id = file_id_of(node)
        if self._tree.current_node(file_id) == node:
            self._tree.renew(file_id)
            self._counters.renewals += 1
        self._retries.tell(thread, node)
        what = "has another node now" if open_node is None else f"is open in version {open_node.version:#x}"
        return os_error(errno.ESTALE, f"the file {what}, which this open cannot share: open it by its name")
