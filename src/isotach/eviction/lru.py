"""LRU: the version whose last use is longest ago leaves first.

Owns: the order by last use. Never: remembers what has left.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from isotach.base.types import Version
from isotach.eviction.queues import in_batches


class LeastRecentlyUsed:
    """The plain one: one move in an ordered dict for each use. A scan larger than the cache empties it of all else."""

    def __init__(self, capacity_bytes: int) -> None:
        self._order: Final[OrderedDict[Version, None]] = OrderedDict()

    def added(self, version: Version, size_bytes: int) -> None:
        self._order[version] = None

    def touched(self, version: Version) -> None:
        try:
            self._order.move_to_end(version)
        except KeyError:
            pass

    def removed(self, version: Version) -> None:
        self._order.pop(version, None)

    evicted = removed

    def candidates(self) -> Iterator[Version]:
        return in_batches(self._order)

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True
