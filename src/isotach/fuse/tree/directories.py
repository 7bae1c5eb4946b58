"""OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR: listings.

Owns: the open directories and how their entries are given out. Never: keeps more of a directory than one page of it.
"""

import itertools
import threading
from bisect import bisect_right
from typing import Final

from isotach.base.limits import DIRECTORY_PAGE_ENTRIES
from isotach.base.types import FileId, Inode
from isotach.client.direct.entries import Page
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import layouts, replies, requests
from isotach.fuse.protocol.constants import Fopen, Opcode
from isotach.fuse.tree.attributes import type_bits
from isotach.fuse.tree.core import TreeCore
from isotach.fuse.tree.places import AFTER_DOT, AFTER_DOT_DOT, Places

_DIRECTORY_TYPE: Final = 4  # DT_DIR
_TYPE_SHIFT: Final = 12
_ENTRY_BYTES: Final = layouts.DIRENT.size + 8
_PLUS_BYTES: Final = _ENTRY_BYTES + layouts.ENTRY_OUT.size + layouts.ATTR.size
_NEVER_MS: Final = -1


class _OpenDirectory:
    """A handle: the places given out, and the rest of a page that was asked for."""

    __slots__ = ("_ahead", "_names", "lock", "places")

    def __init__(self) -> None:
        self.lock: Final = threading.Lock()
        self.places: Final = Places()
        self._ahead: Page | None = None
        self._names: list[bytes] = []

    def keep(self, page: Page, limit: int) -> Page:
        """The first `limit` entries; the page is kept for those who go straight on."""
        if len(page.entries) <= limit:
            self._ahead = None
            return page
        self._ahead, self._names = page, [name for name, _ in page.entries]
        return Page(page.entries[:limit], True, page.interval_ms)

    def take(self, start_after: bytes, limit: int) -> Page | None:
        """Entries of the page that was kept, with names above `start_after`."""
        ahead, names = self._ahead, self._names
        if ahead is None or not names[0] <= start_after < names[-1]:
            self._ahead = None
            return None
        first = bisect_right(names, start_after)
        rest = ahead.entries[first : first + limit]
        return Page(rest, ahead.more or first + limit < len(names), ahead.interval_ms)


class Directories:
    """For many threads."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core
        self._numbers: Final = itertools.count(1)
        self._open: Final[dict[int, _OpenDirectory]] = {}

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        return {
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: lambda request: self._readdir(request, plus=False),
            Opcode.READDIRPLUS: lambda request: self._readdir(request, plus=True),
            Opcode.RELEASEDIR: self.releasedir,
            Opcode.FSYNCDIR: lambda _request: b"",  # every change is durable when it is answered
        }

    def __len__(self) -> int:
        return len(self._open)

    def opendir(self, request: Request) -> Reply:
        """OPENDIR. The kernel keeps the listing where the feed tells of every change in it."""
        core = self._core
        core.owners.age()
        sight = core.records.inode_now(core.nodes.file_id(request.node))
        flags = 0
        if sight is not None and sight.inode is not None and sight.is_certain and core.lasting.is_live():
            flags = Fopen.CACHE_DIR | Fopen.KEEP_CACHE
        handle = next(self._numbers)
        self._open[handle] = _OpenDirectory()
        return replies.open_file(handle, flags)

    def releasedir(self, request: Request) -> Reply:
        """RELEASEDIR."""
        self._open.pop(requests.decode_release(request.body).handle, None)
        return b""

    def _readdir(self, request: Request, *, plus: bool) -> Reply:
        given = self._give(request, plus, may_ask=False)
        if given is not None:
            return given
        self._core.later.run("tree", request, lambda copied: self._give(copied, plus, may_ask=True))
        return None

    def _give(self, request: Request, plus: bool, *, may_ask: bool) -> bytes | None:
        """A part of the listing; None: the master must be asked first."""
        read = requests.decode_read(request.body)
        # A handle of before the daemon was restarted: it counts from the start.
        handle = self._open.get(read.handle) or self._open.setdefault(read.handle, _OpenDirectory())
        directory_id = self._core.nodes.file_id(request.node)
        packed = replies.Directory(read.size)
        offset = read.offset
        with handle.lock:
            if offset < AFTER_DOT and self._add_plain(packed, plus, directory_id, AFTER_DOT, b"."):
                offset = AFTER_DOT
            if offset == AFTER_DOT:
                parent_id = self._core.records.parent_now(directory_id)
                if self._add_plain(packed, plus, parent_id, AFTER_DOT_DOT, b".."):
                    offset = AFTER_DOT_DOT
            if offset < AFTER_DOT_DOT:
                return packed.encoded()
            is_done = self._add_entries(packed, handle, directory_id, offset, read.size, plus, may_ask)
        given = packed.encoded()
        return given if given or is_done else None

    @staticmethod
    def _add_plain(packed: replies.Directory, plus: bool, ino: int, offset: int, name: bytes) -> bool:
        if plus:
            return packed.add_plus(replies.NO_ENTRY, ino, offset, _DIRECTORY_TYPE, name)
        return packed.add(ino, offset, _DIRECTORY_TYPE, name)

    def _add_entries(
        self,
        packed: replies.Directory,
        handle: _OpenDirectory,
        directory_id: FileId,
        offset: int,
        size: int,
        plus: bool,
        may_ask: bool,
    ) -> bool:
        """Whether what was added is all that there is room for, or all that follows; False: the master knows more."""
        name, skip = handle.places.resume(offset)
        limit = min(DIRECTORY_PAGE_ENTRIES, size // (_PLUS_BYTES if plus else _ENTRY_BYTES)) + 1
        while True:
            page = self._page(handle, directory_id, name, limit + skip, may_ask)
            if page is None:
                return False
            for name, inode in page.entries:
                if skip:
                    skip -= 1
                    continue
                offset += 1
                if not self._add(packed, inode, offset, name, plus, page.interval_ms):
                    return True
                handle.places.note(offset, name)
            if not page.more:
                return True

    def _add(
        self, packed: replies.Directory, inode: Inode, offset: int, name: bytes, plus: bool, interval_ms: int
    ) -> bool:
        kind = type_bits(inode.kind) >> _TYPE_SHIFT
        if not plus:
            return packed.add(inode.id, offset, kind, name)
        core = self._core
        if packed.add_plus(core.entry(inode, interval_ms), inode.id, offset, kind, name):
            return True
        core.forget(core.nodes.node_of(inode.id), 1)  # the reference was not given
        return False

    def _page(
        self, handle: _OpenDirectory, directory_id: FileId, start_after: bytes, limit: int, may_ask: bool
    ) -> Page | None:
        """Entries with names above `start_after`, at least one unless there are none."""
        kept = handle.take(start_after, limit)
        if kept is not None:
            return kept
        records = self._core.records
        page = records.page_now(directory_id, start_after, limit)
        if page is not None or not may_ask:
            return page
        return handle.keep(records.page_asked(directory_id, start_after), limit)
