"""Where a reader of a directory goes on: from offsets that programs hold to names.

Owns: the places of one open directory, bounded. Never: does I/O.

An offset counts the entries that were given out; a directory changes under its reader, so that a count alone would skip
or repeat names. The name that stood last is what the next part goes on after. Recent places are kept one by one, older
ones ever more sparsely: who seeks back far counts entries from the nearest one.
"""

from collections import OrderedDict
from typing import Final

from isotach.base.limits import DIRECTORY_PLACES_MAX

#: Offsets of `.` and `..`; the entries follow.
AFTER_DOT: Final = 1
AFTER_DOT_DOT: Final = 2


class Places:
    """For one thread at a time."""

    def __init__(self, places_max: int = DIRECTORY_PLACES_MAX) -> None:
        self._half: Final = max(2, places_max // 2)
        self._recent: Final[OrderedDict[int, bytes]] = OrderedDict()
        self._sparse: dict[int, bytes] = {}
        self._stride = 8

    def note(self, offset: int, name: bytes) -> None:
        """The entry of that name was given out, and the next one goes by this offset."""
        self._recent[offset] = name
        self._recent.move_to_end(offset)
        if len(self._recent) <= self._half:
            return
        old, old_name = self._recent.popitem(last=False)
        if old % self._stride == 0:
            self._sparse[old] = old_name
        while len(self._sparse) > self._half:
            self._stride *= 2
            self._sparse = {place: known for place, known in self._sparse.items() if place % self._stride == 0}

    def resume(self, offset: int) -> tuple[bytes, int]:
        """(name after which to go on, how many entries to pass over there)."""
        if offset <= AFTER_DOT_DOT:
            return b"", 0
        name = self._recent.get(offset)
        if name is not None:
            return name, 0
        before = [place for place in (*self._sparse, *self._recent) if place <= offset]
        if not before:
            return b"", offset - AFTER_DOT_DOT
        nearest = max(before)
        return self._recent.get(nearest) or self._sparse[nearest], offset - nearest

    def __len__(self) -> int:
        return len(self._recent) + len(self._sparse)
