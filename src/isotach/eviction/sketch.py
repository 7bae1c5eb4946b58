"""How often a version was seen lately, in a few bytes for each: a count-min sketch that forgets by halving.

Owns: the counters. Never: knows what is cached. After TinyLFU (Einziger, Friedman, Manes, 2017).
"""

from typing import Final

from isotach.base.limits import EVICTION_SKETCH_BYTES_MAX, EVICTION_SKETCH_BYTES_MIN
from isotach.base.types import Version

_COUNT_MAX: Final = 15
_BYTES_PER_VERSION: Final = 8
_SAMPLES_PER_VERSION: Final = 10  # halve when this many times as many uses as there are versions were counted
_MASK_64: Final = (1 << 64) - 1
_HALVES: Final = bytes(value >> 1 for value in range(256))


class FrequencySketch:
    """Estimates are never too low (but for halving), seldom too high; it grows with the number of versions."""

    __slots__ = ("_counters", "_mask", "_until_halving", "_versions")

    def __init__(self) -> None:
        self._counters = bytearray(EVICTION_SKETCH_BYTES_MIN)
        self._mask = EVICTION_SKETCH_BYTES_MIN - 1
        self._versions = EVICTION_SKETCH_BYTES_MIN // _BYTES_PER_VERSION
        self._until_halving = self._versions * _SAMPLES_PER_VERSION

    def expect(self, versions: int) -> None:
        """Makes room for so many cached versions; what was counted stays."""
        while versions > self._versions and len(self._counters) < EVICTION_SKETCH_BYTES_MAX:
            self._counters = self._counters * 2  # a place is the hash modulo the size: each count is now in both halves
            self._mask = len(self._counters) - 1
            self._versions *= 2

    def count(self, version: Version, versions_here: int) -> None:
        """Counts one use, while so many versions are cached."""
        counters = self._counters
        places = self._places(version)
        least = min(counters[place] for place in places)
        if least < _COUNT_MAX:
            for place in places:
                if counters[place] == least:
                    counters[place] = least + 1
        self._until_halving -= 1
        if self._until_halving <= 0:
            self._counters = counters.translate(_HALVES)
            self._until_halving = max(versions_here, 64) * _SAMPLES_PER_VERSION

    def estimate(self, version: Version) -> int:
        """Uses lately, up to 15."""
        counters = self._counters
        return min(counters[place] for place in self._places(version))

    def _places(self, version: Version) -> tuple[int, int, int, int]:
        mixed = spread(version)
        mask = self._mask
        return mixed & mask, (mixed >> 16) & mask, (mixed >> 32) & mask, ((mixed >> 40) ^ mixed) & mask


def spread(version: Version) -> int:
    """64 well mixed bits of a version; versions themselves are consecutive numbers (splitmix64)."""
    mixed = (version * 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return mixed ^ (mixed >> 31)
