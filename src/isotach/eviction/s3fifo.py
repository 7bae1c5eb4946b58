"""S3-FIFO: a small queue filters what is read once from what is worth keeping (Yang et al., SOSP 2023).

Owns: the small queue (10 % of the bytes), the main queue with its second chances, and the ghosts (as many bytes as the
main queue may hold). Never: reorders anything on a hit: a use is one bounded counter.
"""

from collections.abc import Iterator
from typing import Final

from isotach.base.limits import EVICTION_GHOSTS_MAX
from isotach.base.types import Version
from isotach.eviction.queues import ByteQueue, Ghosts

_SMALL_SHARE: Final = 0.1
_USES_MAX: Final = 3  # two bits, as in the paper
_USES_TO_STAY: Final = 2  # uses in the small queue that earn a place in the main one


class _Uses:
    """How often a version was used since it last passed the front of a queue; a lost update costs one count."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class SmallAndMainQueues:
    """What is new waits in the small queue; who is used there, or comes back soon after leaving it, goes to main."""

    def __init__(self, capacity_bytes: int) -> None:
        self._small_limit: Final = int(capacity_bytes * _SMALL_SHARE)
        self._main_limit: Final = capacity_bytes - self._small_limit
        self._small: Final = ByteQueue()
        self._main: Final = ByteQueue()
        self._ghosts: Final = Ghosts(self._main_limit, EVICTION_GHOSTS_MAX)
        self._uses: Final[dict[Version, _Uses]] = {}
        self._has_evicted = False

    def added(self, version: Version, size_bytes: int) -> None:
        if version in self._uses:
            self._queue_of(version).resize(version, size_bytes)
            return
        self._uses[version] = _Uses()
        came_back = self._ghosts.forget(version)
        # While the cache fills for the first time nothing needs filtering: the main queue takes its share at once.
        fills = not self._has_evicted and self._small.size_bytes >= self._small_limit
        (self._main if came_back or fills else self._small).push(version, size_bytes)

    def touched(self, version: Version) -> None:
        uses = self._uses.get(version)
        if uses is not None and uses.count < _USES_MAX:
            uses.count += 1

    def removed(self, version: Version) -> None:
        self._ghosts.forget(version)
        if self._uses.pop(version, None) is not None:
            self._queue_of(version).pop(version)

    def evicted(self, version: Version) -> None:
        if self._uses.pop(version, None) is None:
            return
        self._has_evicted = True
        queue = self._queue_of(version)
        size_bytes = queue.pop(version)
        if queue is self._small:
            self._ghosts.add(version, size_bytes)

    def candidates(self) -> Iterator[Version]:
        """Advances the queues as it goes: what earned its stay moves to main, what may not leave goes to the back."""
        offered: set[Version] = set()
        while (version := self._next(offered)) is not None:
            offered.add(version)
            yield version
            if version in self._uses:
                self._queue_of(version).move_to_back(version)
        for version in [*self._small, *self._main]:
            if version not in offered:
                yield version

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True

    def _next(self, offered: set[Version]) -> Version | None:
        """Whose turn it is; None when a queue is through and the other holds nothing new at its front."""
        while True:
            first, second = self._small, self._main
            if self._main.size_bytes > self._main_limit or not self._small:
                first, second = second, first
            version = first.front()
            if version is None or version in offered:
                first, version = second, second.front()
            if version is None or version in offered:
                return None
            if not self._earned_its_stay(first, version):
                return version

    def _earned_its_stay(self, queue: ByteQueue, version: Version) -> bool:
        uses = self._uses[version]
        if queue is self._main:
            if not uses.count:
                return False
            uses.count -= 1
            queue.move_to_back(version)
            return True
        if uses.count < _USES_TO_STAY:
            return False
        uses.count = 0
        self._main.push(version, queue.pop(version))
        return True

    def _queue_of(self, version: Version) -> ByteQueue:
        return self._small if version in self._small else self._main
