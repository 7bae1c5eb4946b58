"""Which changes that the feed brings are no news, because this mount made them.

Owns: the latest records made here, the names removed here, and which inodes others changed a moment ago. Never: does
I/O. Bounded: what was forgotten is told to the kernel once more, which costs it a question and nothing else.
"""

import threading
import time
from collections import OrderedDict
from typing import Final

from isotach.base.limits import DEAF_TIMEOUT_S, FRESH_CHANGES_MAX, OWN_CHANGES_MAX
from isotach.base.types import FileId, Inode
from isotach.wire.messages import Change

_Name = tuple[FileId, bytes]


def _shown(inode: Inode) -> tuple[object, ...]:
    """What a program can see of a record: whether it is persisted, for one, is not among it."""
    return (
        inode.mode, inode.owner, inode.group, inode.length, inode.version, inode.links, inode.xattrs,
        inode.mtime_ns, inode.ctime_ns, inode.atime_ns,
    )  # fmt: skip


class OwnChanges:
    """For many threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._records: Final[OrderedDict[FileId, Inode]] = OrderedDict()
        self._removed: Final[OrderedDict[_Name, FileId]] = OrderedDict()
        self._others: dict[FileId, float] = {}

    def note(self, inode: Inode) -> None:
        """Takes in a record made here."""
        with self._lock:
            self._records[inode.id] = inode
            self._records.move_to_end(inode.id)
            if len(self._records) > OWN_CHANGES_MAX:
                self._records.popitem(last=False)

    def note_removed(self, directory_id: FileId, name: bytes, file_id: FileId) -> None:
        """Takes in that a name of that inode was removed here (or given to another one)."""
        with self._lock:
            self._removed[directory_id, name] = file_id
            self._removed.move_to_end((directory_id, name))
            if len(self._removed) > OWN_CHANGES_MAX:
                self._removed.popitem(last=False)

    def is_own(self, change: Change) -> bool:
        """Whether the kernel knows of it already."""
        inode = change.inode
        if inode is not None:
            known = self._records.get(inode.id)
            return known is not None and (known == inode or _shown(known) == _shown(inode))
        return self._removed.get((change.directory_id, change.name)) == change.gone_id

    def note_others(self, file_id: FileId) -> None:
        """Somebody else changed it just now."""
        with self._lock:
            if len(self._others) >= FRESH_CHANGES_MAX:
                oldest = time.monotonic() - DEAF_TIMEOUT_S
                self._others = {known: at for known, at in self._others.items() if at > oldest}
                while len(self._others) >= FRESH_CHANGES_MAX:
                    del self._others[next(iter(self._others))]
            self._others[file_id] = time.monotonic()

    def changed_by_others(self, file_id: FileId) -> bool:
        """Whether somebody else did a moment ago."""
        at = self._others.get(file_id) if self._others else None
        return at is not None and time.monotonic() - at < DEAF_TIMEOUT_S
