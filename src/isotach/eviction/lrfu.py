"""LRFU: each use counts, and counts for less the longer ago it was (Lee et al., 2001; Alluxio's second policy).

Owns: the combined recency and frequency of every version, in a heap that is put right lazily. Never: remembers what has
left. The clock ticks with each use and each arrival; a use that is t ticks old weighs
(1 / attenuation) ** (step * t), with Alluxio's defaults: attenuation 2, step 0.25.
"""

import heapq
from collections.abc import Iterator
from itertools import count
from math import log2
from typing import Final

from isotach.base.types import Version

_STEP: Final = 0.25
_ATTENUATION: Final = 2.0
_BITS_PER_TICK: Final = _STEP * log2(_ATTENUATION)


class _Score:
    """log2 of the weight of all uses, on a scale on which time stands still: only a use changes it."""

    __slots__ = ("bits",)

    def __init__(self, bits: float) -> None:
        self.bits = bits


class RecencyAndFrequency:
    """Who has the least weight leaves first."""

    def __init__(self, capacity_bytes: int) -> None:
        self._scores: Final[dict[Version, _Score]] = {}
        self._heap: Final[list[tuple[float, Version]]] = []  # each version once; its score may be older than the true
        self._ticks: Final = count()

    def added(self, version: Version, size_bytes: int) -> None:
        if version in self._scores:
            return
        bits = next(self._ticks) * _BITS_PER_TICK
        self._scores[version] = _Score(bits)
        heapq.heappush(self._heap, (bits, version))

    def touched(self, version: Version) -> None:
        score = self._scores.get(version)
        if score is None:
            return
        now = next(self._ticks) * _BITS_PER_TICK
        higher, lower = max(now, score.bits), min(now, score.bits)
        score.bits = higher + log2(1.0 + 2.0 ** (lower - higher))

    def removed(self, version: Version) -> None:
        if self._scores.pop(version, None) is not None and len(self._heap) > 2 * len(self._scores) + 64:
            self._heap[:] = [(score.bits, here) for here, score in self._scores.items()]
            heapq.heapify(self._heap)

    evicted = removed

    def candidates(self) -> Iterator[Version]:
        """Takes from the heap, and puts back what is still here at the end; what another search holds just now comes
        last."""
        offered: set[Version] = set()
        try:
            while self._heap:
                bits, version = self._heap[0]
                score = self._scores.get(version)
                if score is None or version in offered:
                    heapq.heappop(self._heap)
                elif score.bits > bits:
                    heapq.heapreplace(self._heap, (score.bits, version))
                else:
                    heapq.heappop(self._heap)
                    offered.add(version)
                    yield version
            for version in list(self._scores):
                if version not in offered:
                    yield version
        finally:
            for version in offered:
                if (score := self._scores.get(version)) is not None:
                    heapq.heappush(self._heap, (score.bits, version))

    def admits(self, version: Version, size_bytes: int) -> bool:
        return True
