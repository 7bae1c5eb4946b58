"""Which kernel inodes are open, in which mode, and whether one more open may share such an inode.

Owns: the table of open nodes and the rule of joining. Never: does I/O, and never knows the kernel's messages.

The kernel has one mode for an inode from its first open to its last close (fs/fuse/iomode.c): passthrough with one
backing, or cached. What we hold is a superset in time of what the kernel holds: from before the reply to OPEN until
RELEASE came, so a mix that this table forbids cannot happen there either.
"""

import enum
import threading
from collections.abc import Iterator
from typing import Final

from isotach.base.types import FileId, Inode, Version
from isotach.fuse.contract import NODE_SHIFT
from isotach.fuse.files.content import Content
from isotach.fuse.files.lives import SharedLive

_ID_MASK: Final = (1 << NODE_SHIFT) - 1


def file_id_of(node: int) -> FileId:
    """The inode's own id: the node id without its epoch."""
    return node & _ID_MASK


class Verdict(enum.Enum):
    """What an open may do."""

    FIRST = enum.auto()  # nobody has the node open: it decides the mode
    JOIN = enum.auto()  # it fits those that have it open
    RENEW = enum.auto()  # it needs a kernel inode of its own


class OpenNode:
    """A node that is open: its mode is PASSTHROUGH when `backing_id` is above 0, else CACHED.

    `version` is the one whose bytes its readers get; with `shared`, the one that was published last from here (or the
    one below). Guarded by the table's lock, but for `content` and `shared`, which guard themselves."""

    __slots__ = (
        "backing_id",
        "beside",
        "content",
        "file_id",
        "inode",
        "node",
        "opened_s",
        "opens",
        "shared",
        "version",
    )

    def __init__(self, node: int, inode: Inode, backing_id: int, content: Content | None) -> None:
        self.node: Final = node
        self.file_id: Final = node & _ID_MASK
        self.inode: Final = inode  # as it was at the first open
        self.version = inode.version
        self.backing_id = backing_id
        self.content = content
        self.shared: SharedLive | None = None
        self.opens = 0
        self.opened_s = 0.0
        self.beside: OpenNode | None = None  # another node of the same file


def judge(open_node: OpenNode | None, version: Version, writes: bool) -> Verdict:
    """What an open of the file, whose current version is `version`, may do at this node."""
    if open_node is None:
        return Verdict.FIRST
    shared = open_node.shared
    if version != open_node.version and not (shared is not None and shared.publishing):
        return Verdict.RENEW
    if writes and open_node.backing_id and shared is None:
        return Verdict.RENEW
    return Verdict.JOIN


class OpenTable:
    """The open nodes; hold `lock` around every call, briefly."""

    def __init__(self) -> None:
        self.lock: Final = threading.Lock()
        self._files: Final[dict[FileId, OpenNode]] = {}
        self.opens = 0

    def find(self, node: int) -> OpenNode | None:
        """The node if it is open."""
        found = self._files.get(node & _ID_MASK)
        while found is not None and found.node != node:
            found = found.beside
        return found

    def of_file(self, file_id: FileId) -> Iterator[OpenNode]:
        """All open nodes of a file, newest first."""
        found = self._files.get(file_id)
        while found is not None:
            yield found
            found = found.beside

    def add(self, open_node: OpenNode) -> None:
        """Takes in a node that was not open."""
        open_node.beside = self._files.get(open_node.file_id)
        self._files[open_node.file_id] = open_node

    def join(self, open_node: OpenNode) -> None:
        """One more open of it."""
        open_node.opens += 1
        self.opens += 1

    def leave(self, open_node: OpenNode) -> bool:
        """One open less; True: it was the last one, and the node is forgotten."""
        open_node.opens -= 1
        self.opens -= 1
        if open_node.opens:
            return False
        first = self._files.get(open_node.file_id)
        if first is open_node:
            if open_node.beside is None:
                del self._files[open_node.file_id]
            else:
                self._files[open_node.file_id] = open_node.beside
            return True
        while first is not None and first.beside is not open_node:
            first = first.beside
        if first is not None:
            first.beside = open_node.beside
        return True

    def all(self) -> list[OpenNode]:
        """Every open node, for the end of the mount."""
        return [node for file_id in list(self._files) for node in self.of_file(file_id)]
