"""Contents that go from mount to mount with locks: published before a lock is given up, taken in once it is held.

Owns: that for files which are open for writing here. Never: knows locks. Who has a file open for reading only goes on
to see the version that it opened.
"""

from typing import Final

from isotach.base.types import FileId, Version
from isotach.fuse.contract import Notifier, Tree
from isotach.fuse.files.changing import Changing
from isotach.fuse.files.lives import Lives
from isotach.fuse.files.places import Places


class LockedContents:
    """Implements `contract.LockedFiles`. Any thread that may wait."""

    def __init__(self, tree: Tree, notifier: Notifier, places: Places, lives: Lives, changing: Changing) -> None:
        self._tree: Final = tree
        self._notifier: Final = notifier
        self._places: Final = places
        self._lives: Final = lives
        self._changing: Final = changing

    def publish_locked(self, file_id: FileId) -> None:
        self._lives.wait_for_end(file_id)
        shared = self._lives.hold(file_id)
        if shared is None:
            return
        try:
            self._changing.publish_now(shared)
        finally:
            self._changing.leave(shared)

    def refresh_locked(self, file_id: FileId, version: Version) -> None:
        shared = self._lives.hold(file_id)
        if shared is None:
            return
        try:
            with self._places.table.lock:
                nodes = [each.node for each in self._places.table.of_file(file_id) if each.version != version]
            if not nodes:
                return
            inode = self._tree.granted(file_id).inode
            if shared.live.rebase(inode):
                self._places.published(shared, inode)
                for node in nodes:
                    self._notifier.inval_inode(node)
        finally:
            self._changing.leave(shared)

    def is_written(self, file_id: FileId) -> bool:
        return self._lives.find(file_id) is not None
