"""ADAPTIVE: several policies keep their order over the same cache, and the one that would hit most lately decides.

Owns: the duel. Each policy runs a small shadow cache of its own, without bytes, over a hashed sample of the versions;
the bytes that each shadow hits are compared over a fading window. Never: has an order of its own.

After the mini-simulations of Caffeine and SHARDS' spatial sampling (Waldspurger et al., FAST 2015, ATC 2017). The cost:
every call goes to each policy, and a use of a sampled version is replayed in each shadow, later, under the lock.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from isotach.base.limits import EVICTION_SHADOW_VERSIONS, EVICTION_TOUCHES_MAX
from isotach.base.types import Version
from isotach.eviction.interface import EvictionPolicy
from isotach.eviction.sketch import spread

Builder = Callable[[int], EvictionPolicy]

_HASH_BITS: Final = 20
_SAMPLE_ALL: Final = 1 << _HASH_BITS
_SAMPLE_LEAST: Final = 1 << 4
_MEMORY: Final = 4.0  # the window, in uses of sampled versions, per version that a shadow holds
_MEMORY_LEAST: Final = 256
_LEAD: Final = 0.01  # of the bytes read: by how much another policy must hit more to take over


class Duel:
    """The first policy decides until another one proves better."""

    def __init__(self, capacity_bytes: int, builders: Sequence[Builder]) -> None:
        self._capacity_bytes: Final = capacity_bytes
        self._builders: Final = tuple(builders)
        self._policies: Final = [build(capacity_bytes) for build in builders]
        self._sizes: Final[dict[Version, int]] = {}
        self._sample = _SAMPLE_ALL
        self._shadows = [_Shadow(build(capacity_bytes), capacity_bytes) for build in builders]
        self._hit_bytes = [0.0] * len(self._policies)  # of each shadow, fading
        self._read_bytes = 0.0
        self._active = 0
        self._touches: Final[deque[Version]] = deque(maxlen=EVICTION_TOUCHES_MAX)
        self._touch_each: Final = tuple(policy.touched for policy in self._policies)

    def added(self, version: Version, size_bytes: int) -> None:
        is_new = version not in self._sizes
        self._sizes[version] = size_bytes
        for policy in self._policies:
            policy.added(version, size_bytes)
        if self._touches:
            self._settle()
        if is_new and self._is_sampled(version):
            self._shadow_read(version, size_bytes)
            self._adjust_sample()

    def touched(self, version: Version) -> None:
        for touch in self._touch_each:
            touch(version)
        self._touches.append(version)

    def removed(self, version: Version) -> None:
        if self._sizes.pop(version, None) is None:
            return
        for policy in self._policies:
            policy.removed(version)
        for shadow in self._shadows:
            shadow.remove(version)

    def evicted(self, version: Version) -> None:
        if self._sizes.pop(version, None) is None:
            return
        for policy in self._policies:
            policy.evicted(version)

    def candidates(self) -> Iterator[Version]:
        self._settle()
        return self._policies[self._active].candidates()

    def admits(self, version: Version, size_bytes: int) -> bool:
        return self._policies[self._active].admits(version, size_bytes)

    @property
    def active(self) -> int:
        """The number of the policy that decides, in the order they were given."""
        return self._active

    def _settle(self) -> None:
        """Replays in the shadows what was used since."""
        touches, sizes = self._touches, self._sizes
        for _ in range(len(touches)):
            version = touches.popleft()
            size_bytes = sizes.get(version)
            if size_bytes is not None and self._is_sampled(version):
                self._shadow_read(version, size_bytes)

    def _is_sampled(self, version: Version) -> bool:
        return self._sample == _SAMPLE_ALL or spread(version) >> (64 - _HASH_BITS) < self._sample

    def _shadow_read(self, version: Version, size_bytes: int) -> None:
        window = max(_MEMORY * len(self._shadows[self._active].sizes), _MEMORY_LEAST)
        keep = 1.0 - 1.0 / window
        self._read_bytes = self._read_bytes * keep + size_bytes
        hits = self._hit_bytes
        for number, shadow in enumerate(self._shadows):
            hits[number] *= keep
            if shadow.read(version, size_bytes):
                hits[number] += size_bytes
        best = max(range(len(hits)), key=hits.__getitem__)
        if hits[best] > hits[self._active] + _LEAD * self._read_bytes:
            self._active = best

    def _adjust_sample(self) -> None:
        """Keeps the shadows at about the same number of versions, however many the cache holds."""
        shadow = self._shadows[self._active]
        held = len(shadow.sizes)
        if held > 2 * EVICTION_SHADOW_VERSIONS and self._sample > _SAMPLE_LEAST:
            self._resample(self._sample // 2)
        elif held < EVICTION_SHADOW_VERSIONS // 4 and self._sample < _SAMPLE_ALL and shadow.is_half_full:
            self._resample(self._sample * 2)

    def _resample(self, sample: int) -> None:
        self._sample = sample
        for shadow in self._shadows:
            for version in [version for version in shadow.sizes if not self._is_sampled(version)]:
                shadow.remove(version)
            shadow.resize(self._capacity_bytes * sample // _SAMPLE_ALL)


class _Shadow:
    """A cache without bytes that one policy governs alone."""

    __slots__ = ("_capacity_bytes", "_policy", "_used_bytes", "sizes")

    def __init__(self, policy: EvictionPolicy, capacity_bytes: int) -> None:
        self._policy = policy
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self.sizes: dict[Version, int] = {}

    @property
    def is_half_full(self) -> bool:
        return 2 * self._used_bytes >= self._capacity_bytes

    def read(self, version: Version, size_bytes: int) -> bool:
        """Whether it was here; it is afterwards, if it fits at all."""
        if version in self.sizes:
            self._policy.touched(version)
            return True
        if size_bytes <= self._capacity_bytes and self._policy.admits(version, size_bytes):
            self._make_room(size_bytes)
            self._policy.added(version, size_bytes)
            self.sizes[version] = size_bytes
            self._used_bytes += size_bytes
        return False

    def remove(self, version: Version) -> None:
        size_bytes = self.sizes.pop(version, None)
        self._policy.removed(version)
        self._used_bytes -= size_bytes or 0

    def resize(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._make_room(0)

    def _make_room(self, size_bytes: int) -> None:
        while self._used_bytes + size_bytes > self._capacity_bytes:
            victim = next(self._policy.candidates())
            self._policy.evicted(victim)
            self._used_bytes -= self.sizes.pop(victim)
