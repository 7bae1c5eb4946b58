"""A queue of versions with their bytes counted: what the policies build their segments of.

Owns: order and byte count of one segment. Never: decides who leaves.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from isotach.base.types import Version


class ByteQueue:
    """Versions from oldest to newest. `move_to_back` alone may be called without the lock: it is one atomic step."""

    __slots__ = ("_sizes", "size_bytes")

    def __init__(self) -> None:
        self._sizes: OrderedDict[Version, int] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, version: Version) -> bool:
        return version in self._sizes

    def __iter__(self) -> Iterator[Version]:
        return iter(self._sizes)

    def __reversed__(self) -> Iterator[Version]:
        return reversed(self._sizes)

    def size_of(self, version: Version) -> int:
        """Its bytes. Raises KeyError when it is not here."""
        return self._sizes[version]

    def front(self) -> Version | None:
        """The oldest; None when the queue is empty."""
        return next(iter(self._sizes), None)

    def push(self, version: Version, size_bytes: int) -> None:
        """Puts a version that is not here at the back."""
        self._sizes[version] = size_bytes
        self.size_bytes += size_bytes

    def resize(self, version: Version, size_bytes: int) -> None:
        """Notes another size; the place stays. Raises KeyError when it is not here."""
        self.size_bytes += size_bytes - self._sizes[version]
        self._sizes[version] = size_bytes

    def pop(self, version: Version) -> int:
        """Takes it out and gives its bytes. Raises KeyError when it is not here."""
        size_bytes = self._sizes.pop(version)
        self.size_bytes -= size_bytes
        return size_bytes

    def move_to_back(self, version: Version) -> bool:
        """Makes it the newest; False when it is not here."""
        try:
            self._sizes.move_to_end(version)
        except KeyError:
            return False
        return True


class Ghosts:
    """Versions that were evicted, without their bytes: as many as stand for `limit_bytes`, at most `limit_count`."""

    __slots__ = ("_limit_bytes", "_limit_count", "_queue")

    def __init__(self, limit_bytes: int, limit_count: int) -> None:
        self._queue = ByteQueue()
        self._limit_bytes = limit_bytes
        self._limit_count = limit_count

    def add(self, version: Version, size_bytes: int) -> None:
        """Remembers it; the oldest are forgotten."""
        self.forget(version)
        self._queue.push(version, size_bytes)
        while self._queue.size_bytes > self._limit_bytes or len(self._queue) > self._limit_count:
            self._queue.pop(next(iter(self._queue)))

    def forget(self, version: Version) -> bool:
        """Whether it was remembered; it is not any more."""
        if version not in self._queue:
            return False
        self._queue.pop(version)
        return True


_FIRST_BATCH: Final = 64
_GROWTH: Final = 16


def in_batches(order: "OrderedDict[Version, None]", backwards: bool = False) -> Iterator[Version]:
    """The keys of an ordered dict, each once, from the front or the back, looked up in growing batches as far as the
    caller goes.

    Copying a batch runs no bytecode and therefore cannot be torn by a thread that touches; what moved between two
    batches is met at most once.
    """
    seen: set[Version] = set()
    wanted = _FIRST_BATCH
    while True:
        batch = list(islice(reversed(order) if backwards else order, wanted))
        for version in batch:
            if version not in seen:
                seen.add(version)
                yield version
        if len(batch) < wanted:
            return
        wanted *= _GROWTH
