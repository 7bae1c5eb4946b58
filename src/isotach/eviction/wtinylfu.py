"""W-TinyLFU: what leaves a small window stays only if it was used more often than what would have to go for it.

Owns: the window (1 % of the bytes), the segmented main part (a fifth on probation, the rest protected) and the sketch
(Einziger, Friedman, Manes, 2017; the policy of Caffeine). Never: works on a hit: uses are noted and counted later.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from isotach.base.limits import EVICTION_TOUCHES_MAX
from isotach.base.types import Version
from isotach.eviction.queues import ByteQueue
from isotach.eviction.sketch import FrequencySketch

_WINDOW_SHARE: Final = 0.01
_PROTECTED_SHARE: Final = 0.8  # of the main part


class WindowTinyLfu:
    """Each part is an LRU queue; the main part defends itself by frequency."""

    def __init__(self, capacity_bytes: int) -> None:
        self._window_limit: Final = int(capacity_bytes * _WINDOW_SHARE)
        self._main_limit: Final = capacity_bytes - self._window_limit
        self._protected_limit: Final = int(self._main_limit * _PROTECTED_SHARE)
        self._window: Final = ByteQueue()
        self._probation: Final = ByteQueue()
        self._protected: Final = ByteQueue()
        self._sketch: Final = FrequencySketch()
        self._touches: Final[deque[Version]] = deque(maxlen=EVICTION_TOUCHES_MAX)

    def added(self, version: Version, size_bytes: int) -> None:
        if self._touches:
            self._settle()
        queue = self._queue_of(version)
        if queue is not None:
            queue.resize(version, size_bytes)
            return
        window = self._window
        window.push(version, size_bytes)
        versions = self._count()
        self._sketch.expect(versions)
        self._sketch.count(version, versions)
        while window.size_bytes > self._window_limit:
            oldest = next(iter(window))
            if not self._fits_in_main(oldest):
                break
            self._probation.push(oldest, window.pop(oldest))

    def touched(self, version: Version) -> None:
        self._touches.append(version)

    def removed(self, version: Version) -> None:
        queue = self._queue_of(version)
        if queue is not None:
            queue.pop(version)

    evicted = removed

    def candidates(self) -> Iterator[Version]:
        """Moves what fits from the window to the main part as it goes. It is called when a newcomer has no room: if the
        main part is not over its share, the window is, or will be."""
        self._settle()
        offered: set[Version] = set()
        while (version := self._next(offered)) is not None:
            offered.add(version)
            yield version
            queue = self._queue_of(version)
            if queue is not None:
                queue.move_to_back(version)
        for version in [*self._probation, *self._window, *self._protected]:
            if version not in offered:
                yield version

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True

    def _next(self, offered: set[Version]) -> Version | None:
        """The loser between the front of the window and that of the main part; None when they were offered before."""
        while True:
            newest, main = self._window.front(), self._probation.front()
            if main is None or main in offered:
                main = self._protected.front()
            if main in offered:
                main = None
            if newest is None or newest in offered or (main is not None and self._main_bytes() > self._main_limit):
                return main
            if self._fits_in_main(newest):
                self._probation.push(newest, self._window.pop(newest))
            elif main is not None and self._sketch.estimate(newest) > self._sketch.estimate(main):
                return main
            else:
                return newest

    def _settle(self) -> None:
        """Counts the uses that were noted since, and moves what they concern."""
        touches = self._touches
        for _ in range(len(touches)):
            version = touches.popleft()
            if version in self._protected:
                self._protected.move_to_back(version)
            elif version in self._probation:
                self._protect(version)
            elif not self._window.move_to_back(version):
                continue
            self._sketch.count(version, self._count())

    def _protect(self, version: Version) -> None:
        self._protected.push(version, self._probation.pop(version))
        while self._protected.size_bytes > self._protected_limit and (oldest := self._protected.front()) is not None:
            self._probation.push(oldest, self._protected.pop(oldest))

    def _fits_in_main(self, version: Version) -> bool:
        return self._main_bytes() + self._window.size_of(version) <= self._main_limit

    def _main_bytes(self) -> int:
        return self._probation.size_bytes + self._protected.size_bytes

    def _count(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    def _queue_of(self, version: Version) -> ByteQueue | None:
        if version in self._probation:
            return self._probation
        if version in self._protected:
            return self._protected
        return self._window if version in self._window else None
