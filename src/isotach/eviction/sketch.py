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
        counters, mask, mixed = self._counters, self._mask, spread(version)
        first, second, third = mixed >> 40 & mask, mixed >> 24 & mask, mixed >> 8 & mask
        least = min(counters[first], counters[second], counters[third])
        if least < _COUNT_MAX:
            if counters[first] == least:
                counters[first] = least + 1
            if counters[second] == least:
                counters[second] = least + 1
            if counters[third] == least:
                counters[third] = least + 1
        self._until_halving -= 1
        if self._until_halving <= 0:
            self._counters = counters.translate(_HALVES)
            self._until_halving = max(versions_here, 64) * _SAMPLES_PER_VERSION

    def estimate(self, version: Version) -> int:
        """Uses lately, up to 15."""
        counters, mask, mixed = self._counters, self._mask, spread(version)
        return min(counters[mixed >> 40 & mask], counters[mixed >> 24 & mask], counters[mixed >> 8 & mask])


def spread(version: Version) -> int:
    """64 bits of a version, the higher ones well mixed; versions themselves are consecutive numbers (Fibonacci)."""
    return version * 0x9E3779B97F4A7C15 & _MASK_64
