"""LRU: the version whose last use is longest ago leaves first.

Owns: the order by last use, and `in_batches`, the tear-free way to look through an order that other threads change.
Never: remembers what has left.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final

from isotach.base.types import Version


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


_FIRST_BATCH: Final = 64
_GROWTH: Final = 16


def in_batches(order: Collection[Version]) -> Iterator[Version]:
    """The keys of a dict from the front, each once, looked up in growing batches as far as the caller goes.

    Copying a batch runs no bytecode and therefore cannot be torn by a thread that touches; what moved between two
    batches is met at most once.
    """
    seen: set[Version] = set()
    count = _FIRST_BATCH
    while True:
        batch = list(islice(order, count))
        for version in batch:
            if version not in seen:
                seen.add(version)
                yield version
        if len(batch) < count:
            return
        count = count * _GROWTH
