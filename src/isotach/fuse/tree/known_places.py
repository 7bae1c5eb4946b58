"""Under which name the kernel knows a directory.

Owns: that table, bounded. Never: is relied upon: a directory that is not in it is looked up once more.

The feed tells that a directory's record changed, not why. Mostly a name was made in it; only when it was moved is the
name under which the kernel knows it in question.
"""

import threading
from collections import OrderedDict
from typing import Final

from isotach.base.limits import KNOWN_PLACES_MAX
from isotach.base.types import FileId, Inode

_Place = tuple[FileId, bytes]


class KnownPlaces:
    """For many threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._places: Final[OrderedDict[FileId, _Place]] = OrderedDict()

    def note(self, inode: Inode, place: _Place) -> None:
        """The kernel was told that the directory stands there."""
        if self._places.get(inode.id) == place:
            return
        with self._lock:
            self._places[inode.id] = place
            self._places.move_to_end(inode.id)
            if len(self._places) > KNOWN_PLACES_MAX:
                self._places.popitem(last=False)

    def is_at(self, inode: Inode, place: _Place) -> bool:
        """Whether the kernel knows the directory under this very name."""
        return inode.is_dir and self._places.get(inode.id) == place

    def forget(self, file_id: FileId) -> None:
        """It is gone from where it was."""
        with self._lock:
            self._places.pop(file_id, None)

    def clear(self) -> None:
        """Nothing is known."""
        with self._lock:
            self._places.clear()
