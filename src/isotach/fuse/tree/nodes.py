"""Which nodes the kernel knows, and which number a file has there.

Owns: the counts of references that LOOKUP and its like gave and FORGET took back, and the epochs of renewed files.
Never: does I/O, or knows what an inode is.

A node id is the inode's id with its epoch above bit `NODE_SHIFT`; the directory that is mounted is node 1. A file keeps
its epoch as long as the kernel knows any of its nodes: a number that was given up must not come back while it still
stands for something there.
"""

import threading
from collections.abc import Iterable
from typing import Final

from isotach.base.types import FileId
from isotach.fuse.contract import NODE_SHIFT, ROOT_NODE

_ID_MASK: Final = (1 << NODE_SHIFT) - 1
#: Epochs are counted below this; then those that the kernel does not know (any more) are taken again.
EPOCHS: Final = 1 << 15
#: How far apart those of a mount's processes begin, one after another.
EPOCHS_PER_PROCESS: Final = 509


class Nodes:
    """For many threads. `restarts`: how many processes have served this mount before. What they gave out is not known
    here, and the kernel may have files of theirs open in one mode; so files get other nodes than then."""

    def __init__(self, root_id: FileId, restarts: int = 0) -> None:
        self.root_id: Final = root_id
        self._first_epoch: Final = restarts * EPOCHS_PER_PROCESS % EPOCHS
        self._lock: Final = threading.Lock()
        self._counts: Final[dict[int, int]] = {}
        #: Of renewed files: the epoch that new lookups get, and the nodes that the kernel knows.
        self._epochs: Final[dict[FileId, int]] = {}
        self._known_of: Final[dict[FileId, set[int]]] = {}

    def file_id(self, node: int) -> FileId:
        """The inode behind a node."""
        return self.root_id if node == ROOT_NODE else node & _ID_MASK

    def node_of(self, file_id: FileId) -> int:
        """The node that the file is looked up as now."""
        if file_id == self.root_id:
            return ROOT_NODE
        epoch = self._epochs.get(file_id) if self._epochs else None
        return file_id if epoch is None else file_id | epoch << NODE_SHIFT

    def node_to_open(self, file_id: FileId) -> int:
        """The node at which a file (no directory) may be opened now, looked up already or not."""
        return file_id | self._epochs.get(file_id, self._first_epoch) << NODE_SHIFT

    def remember(self, file_id: FileId, is_file: bool = True) -> int:
        """The kernel is about to be given a reference: its node. Directories keep theirs over restarts: programs stand
        in them."""
        with self._lock:
            if self._first_epoch and is_file and file_id not in self._epochs:
                self._epochs[file_id] = self._first_epoch
                self._known_of[file_id] = set()
            node = self.node_of(file_id)
            self._counts[node] = self._counts.get(node, 0) + 1
            if self._known_of:
                known = self._known_of.get(file_id)
                if known is not None:
                    known.add(node)
        return node

    def forget(self, node: int, count: int) -> bool:
        """The kernel gives references back; whether it knows nothing of the file any more."""
        with self._lock:
            left = self._counts.get(node, 0) - count
            if left > 0:
                self._counts[node] = left
                return False
            self._counts.pop(node, None)
            file_id = node & _ID_MASK
            known = self._known_of.get(file_id)
            if known is None:
                return True
            known.discard(node)
            if known:
                return False
            del self._known_of[file_id]
            del self._epochs[file_id]
            return True

    def renew(self, file_id: FileId) -> int:
        """From now on the file is another node, one that the kernel does not know."""
        with self._lock:
            known = self._known_of.get(file_id)
            if known is None:
                known = self._known_of[file_id] = {file_id} if file_id in self._counts else set()
            epoch = self._epochs.get(file_id, self._first_epoch)
            for _ in range(EPOCHS):
                epoch = (epoch + 1) % EPOCHS
                if file_id | epoch << NODE_SHIFT not in known:
                    break
            self._epochs[file_id] = epoch
            return file_id | epoch << NODE_SHIFT

    def nodes_of(self, file_id: FileId) -> Iterable[int]:
        """The nodes by which the kernel knows the file."""
        if file_id == self.root_id:
            return (ROOT_NODE,)
        with self._lock:
            known = self._known_of.get(file_id)
            if known is not None:
                return tuple(known)
            return (file_id,) if file_id in self._counts else ()

    def is_known(self, file_id: FileId) -> bool:
        """Whether the kernel knows the file by any node."""
        return bool(self.nodes_of(file_id))

    def all(self) -> list[int]:
        """Every node that the kernel knows, but the root."""
        with self._lock:
            return list(self._counts)

    def __len__(self) -> int:
        return len(self._counts)
