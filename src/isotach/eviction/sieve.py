"""SIEVE: one queue, one bit, and a hand that passes over what was used (Zhang et al., NSDI 2024).

Owns: the queue, cut in two where the hand stands. Never: moves a version on a hit, or remembers what has left.
"""

from collections.abc import Iterator
from typing import Final

from isotach.base.types import Version
from isotach.eviction.queues import ByteQueue


class _Mark:
    """Whether a version was used since the hand last passed it."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = False


class Sieve:
    """The hand goes from the oldest to the newest: it clears marks and takes the first that has none."""

    def __init__(self, capacity_bytes: int) -> None:
        self._passed = ByteQueue()  # older than the hand
        self._ahead = ByteQueue()  # from the hand on; what is new comes to the back
        self._marks: Final[dict[Version, _Mark]] = {}

    def added(self, version: Version, size_bytes: int) -> None:
        if version in self._marks:
            self._queue_of(version).resize(version, size_bytes)
            return
        self._marks[version] = _Mark()
        self._ahead.push(version, size_bytes)

    def touched(self, version: Version) -> None:
        mark = self._marks.get(version)
        if mark is not None:
            mark.used = True

    def removed(self, version: Version) -> None:
        if self._marks.pop(version, None) is not None:
            self._queue_of(version).pop(version)
            self._wrap()

    evicted = removed

    def candidates(self) -> Iterator[Version]:
        """Moves the hand as it goes; it passes over what may not leave."""
        offered: set[Version] = set()
        while len(offered) < len(self._marks) and (version := self._next(offered)) is not None:
            offered.add(version)
            yield version
            if version in self._ahead:
                self._pass(version)
        for version in [*self._passed, *self._ahead]:
            if version not in offered:
                yield version

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True

    def _next(self, offered: set[Version]) -> Version | None:
        """The first unmarked from the hand on; None when the hand comes to what was offered already."""
        while self._marks:
            version = self._ahead.front()
            if version is None or version in offered:
                return None
            if not self._marks[version].used:
                return version
            self._marks[version].used = False
            self._pass(version)
        return None

    def _pass(self, version: Version) -> None:
        self._passed.push(version, self._ahead.pop(version))
        self._wrap()

    def _wrap(self) -> None:
        """From the newest the hand goes on to the oldest, at once: what comes in now is behind it."""
        if not self._ahead:
            self._ahead, self._passed = self._passed, self._ahead

    def _queue_of(self, version: Version) -> ByteQueue:
        return self._ahead if version in self._ahead else self._passed
