"""Which changes that the feed brings are no news, because this mount made them.

Owns: the latest records made here, the names removed here, when names made or removed here changed their directories'
times, and which inodes others changed a moment ago. Never: does I/O. Bounded: what was forgotten is told to the kernel
once more, which costs it a question and nothing else.
"""

import threading
import time
from collections import OrderedDict, deque
from typing import Final

from isotach.base.limits import (
    DEAF_TIMEOUT_S,
    FRESH_CHANGES_MAX,
    OWN_CHANGES_MAX,
    OWN_DIRECTORIES_MAX,
    OWN_TOUCHES_MAX,
)
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
        self._touches: Final[OrderedDict[FileId, deque[int]]] = OrderedDict()
        self._directories: Final[OrderedDict[FileId, tuple[_Name, Inode]]] = OrderedDict()
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

    def note_touch(self, directory_id: FileId, at_ns: int) -> None:
        """Takes in that a name was made or removed in the directory here, which set its times to this one."""
        with self._lock:
            times = self._touches.get(directory_id)
            if times is None:
                times = self._touches[directory_id] = deque(maxlen=OWN_TOUCHES_MAX)
                if len(self._touches) > OWN_DIRECTORIES_MAX:
                    self._touches.popitem(last=False)
            times.append(at_ns)

    def is_own_touch(self, place: _Name, inode: Inode) -> bool:
        """Whether nothing but the times of a directory changed since it was last heard of, by a change of ours: of that
        the kernel has noted that it does not know the times any more. To be asked about each change of a directory, in
        order, by the feed's thread."""
        known = self._directories.get(inode.id)
        self._directories[inode.id] = place, inode
        if known is None:
            if len(self._directories) > OWN_DIRECTORIES_MAX:
                self._directories.popitem(last=False)
            return False
        times = self._touches.get(inode.id)
        if times is None or inode.mtime_ns != inode.ctime_ns or inode.mtime_ns not in times or known[0] != place:
            return False
        before = known[1]
        return (before.mode, before.owner, before.group, before.links, before.xattrs, before.atime_ns) == (
            inode.mode, inode.owner, inode.group, inode.links, inode.xattrs, inode.atime_ns
        )  # fmt: skip

    def missed(self) -> None:
        """Changes were missed: what directories were last is not known. By the feed's thread."""
        self._directories.clear()

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
