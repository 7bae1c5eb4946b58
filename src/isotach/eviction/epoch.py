"""EPOCH: for readers that go through all of a set once before they begin again, in whatever order.

Owns: the order by last use, read from its far end, and the estimate after which time a version counts as abandoned.
Never: remembers what has left.

The idea: in a loop, or in shuffled epochs over a set larger than the cache, what was read last is needed last. Who
evicts it, and keeps what this epoch has not come to yet, hits as often as the cache is large, which no policy without
knowledge of the order can better; LRU hits nothing in a loop. The price: what nobody reads any more would stay for
ever. So a version that has been left alone for much longer than versions usually are goes first.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Final

from isotach.base.types import Version
from isotach.eviction.queues import ByteQueue, in_batches

_WINDOW_SHARE: Final = 0.01  # what came in last is being read: it stays for a moment
_ABANDONED_GAPS: Final = 2.5  # a shuffled epoch leaves none alone for more than twice the mean gap
_ABANDONED_WITHOUT_REUSE: Final = 16  # times the number of versions, while no gap is known
_GAP_WEIGHT: Final = 1 / 64


class _LastUse:
    """When, in uses and arrivals."""

    __slots__ = ("tick",)

    def __init__(self, tick: int) -> None:
        self.tick = tick


class KeepForNextEpoch:
    """The abandoned leave first, the longest abandoned at the front; then the most recently used."""

    def __init__(self, capacity_bytes: int) -> None:
        self._window_limit: Final = int(capacity_bytes * _WINDOW_SHARE)
        self._window: Final = ByteQueue()
        self._main: Final[OrderedDict[Version, None]] = OrderedDict()  # by last use
        self._uses: Final[dict[Version, _LastUse]] = {}
        self._ticks: Final = count()
        self._now = 0
        self._mean_gap = 0.0  # in ticks, between two uses of one version; 0: none seen

    def added(self, version: Version, size_bytes: int) -> None:
        if version in self._uses:
            if version in self._window:
                self._window.resize(version, size_bytes)
            return
        self._now = next(self._ticks)
        self._uses[version] = _LastUse(self._now)
        window = self._window
        window.push(version, size_bytes)
        while window.size_bytes > self._window_limit:
            oldest = next(iter(window))
            window.pop(oldest)
            self._main[oldest] = None

    def touched(self, version: Version) -> None:
        use = self._uses.get(version)
        if use is None:
            return
        now = self._now = next(self._ticks)
        gap, use.tick = now - use.tick, now
        self._mean_gap += (gap - self._mean_gap) * _GAP_WEIGHT if self._mean_gap else gap
        try:
            self._main.move_to_end(version)
        except KeyError:
            pass  # it stands in the window, or left at this moment

    def removed(self, version: Version) -> None:
        if self._uses.pop(version, None) is None:
            return
        if version in self._window:
            self._window.pop(version)
        else:
            del self._main[version]

    evicted = removed

    def candidates(self) -> Iterator[Version]:
        offered: set[Version] = set()
        for version in in_batches(self._main):
            use = self._uses.get(version)
            if use is None:
                continue
            if self._now - use.tick <= self._abandoned_after():
                break
            offered.add(version)
            yield version
        for version in in_batches(self._main, backwards=True):
            if version not in offered:
                offered.add(version)
                yield version
        for version in list(self._uses):  # the window
            if version not in offered:
                yield version

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True

    def _abandoned_after(self) -> float:
        if not self._mean_gap:
            return _ABANDONED_WITHOUT_REUSE * len(self._uses)
        return max(_ABANDONED_GAPS * self._mean_gap, len(self._uses))
