"""Whether to read around a tier that is slower than the under storage: a pure decision from measured times.

Owns: the estimates, the hysteresis, and when the next measurement is due. Pure: no clock, no lock, no I/O; whoever
calls it does so from one thread at a time. Never: measures, or serves a byte.

A cache on a disk that is worn out, shared or simply slow can be slower than the store behind it, and then costs its
readers time at every hit. Each estimate is an exponentially weighted mean of seconds per byte, large samples weighing
more. A tier is read around when it takes DETOUR_ENTER times as long as the store, and is really slow, too; it is used
again once it is nearly as quick (DETOUR_LEAVE), so that two equals never alternate.
"""

from collections.abc import Hashable
from typing import Final

from isotach.base.limits import (
    DETOUR_ENTER,
    DETOUR_LEAVE,
    DETOUR_PROBE_S,
    DETOUR_RETRY_S,
    DETOUR_SAMPLE_BYTES_MIN,
    DETOUR_SAMPLES_MIN,
    DETOUR_SLOW_BYTES_PER_S,
    MIB,
)

_WEIGHT: Final = 0.2
_MOUNTS_MAX: Final = 1024


class Speed:
    """The mean of seconds per byte."""

    __slots__ = ("samples", "seconds_per_byte")

    def __init__(self) -> None:
        self.samples = 0
        self.seconds_per_byte = 0.0

    def note(self, size: int, seconds: float) -> None:
        """One read of `size` bytes took so long. Reads too small to tell anything of a rate are left out."""
        if size < DETOUR_SAMPLE_BYTES_MIN:
            return
        weight = _WEIGHT * min(1.0, size / MIB) if self.samples >= DETOUR_SAMPLES_MIN else 1 / (self.samples + 1)
        self.samples += 1
        self.seconds_per_byte += weight * (seconds / size - self.seconds_per_byte)

    @property
    def is_known(self) -> bool:
        """Whether there were enough samples."""
        return self.samples >= DETOUR_SAMPLES_MIN


class Detour:
    """All tiers of one worker against all mounts."""

    def __init__(self) -> None:
        self._tiers: dict[str, Speed] = {}
        self._stores: dict[Hashable, Speed] = {}
        self._around: set[tuple[str, Hashable]] = set()
        self._probed_s: dict[str, float] = {}
        self._store_probed_s: dict[Hashable, float] = {}

    def note_tier(self, alias: str, size: int, seconds: float) -> None:
        """A read of a tier."""
        self._tiers.setdefault(alias, Speed()).note(size, seconds)
        for key in [key for key in self._around if key[0] == alias]:
            self._judge(*key)

    def note_store(self, mount: Hashable, size: int, seconds: float) -> None:
        """A read of an under storage."""
        if len(self._stores) > _MOUNTS_MAX:
            self._stores.clear()
        self._stores.setdefault(mount, Speed()).note(size, seconds)

    def goes_around(self, alias: str, mount: Hashable) -> bool:
        """Whether what stands in this tier is to be read from this mount's store."""
        return self._judge(alias, mount)

    def around(self) -> set[str]:
        """The tiers that are read around for some mount."""
        return {alias for alias, _ in self._around}

    def has_slow_tier(self) -> bool:
        """Whether any tier is so slow that it may have to be read around: mostly not."""
        return any(self._is_slow(alias) for alias in self._tiers)

    def tier_is_due(self, alias: str, now_s: float) -> bool:
        """Whether this read of the tier is to be timed; says so once for each interval, more seldom while the tier is
        read around."""
        interval_s = DETOUR_RETRY_S if alias in self.around() else DETOUR_PROBE_S
        if now_s < self._probed_s.get(alias, float("-inf")) + interval_s:
            return False
        self._probed_s[alias] = now_s
        return True

    def store_is_due(self, alias: str, mount: Hashable, now_s: float) -> bool:
        """Whether the store must be measured to judge this tier: it is slow, and nobody has read the store of late."""
        if not self._is_slow(alias) or now_s < self._store_probed_s.get(mount, float("-inf")) + DETOUR_RETRY_S:
            return False
        store = self._stores.get(mount)
        if store is not None and store.is_known and (alias, mount) not in self._around:
            return False
        self._store_probed_s[mount] = now_s
        return True

    def _is_slow(self, alias: str) -> bool:
        tier = self._tiers.get(alias)
        return tier is not None and tier.is_known and tier.seconds_per_byte > 1 / DETOUR_SLOW_BYTES_PER_S

    def _judge(self, alias: str, mount: Hashable) -> bool:
        tier, store = self._tiers.get(alias), self._stores.get(mount)
        if tier is None or store is None or not tier.is_known or not store.is_known:
            return False
        key = (alias, mount)
        factor = DETOUR_LEAVE if key in self._around else DETOUR_ENTER
        is_around = self._is_slow(alias) and tier.seconds_per_byte > factor * store.seconds_per_byte
        if is_around:
            self._around.add(key)
        else:
            self._around.discard(key)
        return is_around
