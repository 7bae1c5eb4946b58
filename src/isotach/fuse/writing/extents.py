"""Which bytes of a file being written still are those of the version below it.

Owns: the set of ranges that were neither written nor punched nor cut off yet. Never: holds a byte.

What is not in the set lies in the file's own body, whose gaps read as zeros. Ranges only ever leave the set: so bytes
beyond a shrink never come back from below, however the file grows again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class BaseRanges:
    """Disjoint ranges [start, stop), sorted, that touch nowhere. For one thread at a time."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, length: int = 0) -> None:
        """At first all `length` bytes of the version below."""
        self._starts = [0] if length else []
        self._stops = [length] if length else []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        """How many ranges."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    @property
    def total(self) -> int:
        """Bytes in all ranges."""
        return sum(self._stops) - sum(self._starts)

    def remove(self, start: int, stop: int) -> None:
        """The bytes [start, stop) are the file's own from now on."""
        if start >= stop or not self._starts:
            return
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last:
            return
        new_starts, new_stops = [], []
        if self._starts[first] < start:
            new_starts.append(self._starts[first])
            new_stops.append(start)
        if self._stops[last - 1] > stop:
            new_starts.append(stop)
            new_stops.append(self._stops[last - 1])
        self._starts[first:last] = new_starts
        self._stops[first:last] = new_stops

    def cut(self, length: int) -> None:
        """Nothing from `length` on."""
        if self._stops and self._stops[-1] > length:
            self.remove(length, self._stops[-1])

    def clear(self) -> None:
        """Everything is the file's own."""
        self._starts.clear()
        self._stops.clear()

    def pieces(self, start: int, stop: int) -> list[tuple[int, int, bool]]:
        """[start, stop) in order as (start, stop, whether it is of the version below)."""
        found: list[tuple[int, int, bool]] = []
        index = bisect_right(self._stops, start)
        while start < stop:
            if index == len(self._starts) or self._starts[index] >= stop:
                found.append((start, stop, False))
                break
            if self._starts[index] > start:
                found.append((start, self._starts[index], False))
                start = self._starts[index]
            end = min(stop, self._stops[index])
            found.append((start, end, True))
            start = end
            index += 1
        return found
