"""The duel: who decides, how much it remembers, and that uses are counted without a lock."""

from isotach.base.limits import EVICTION_SHADOW_VERSIONS, EVICTION_TOUCHES_MAX
from isotach.eviction.adaptive import Duel
from isotach.eviction.epoch import KeepForNextEpoch
from isotach.eviction.lru import LeastRecentlyUsed

LRU, EPOCH = 0, 1


def duel(capacity):
    return Duel(capacity, (LeastRecentlyUsed, KeepForNextEpoch))


def read(policy, here, capacity, versions):
    """Through a cache of `capacity` files of one byte; the number of hits."""
    hits = 0
    for version in versions:
        if version in here:
            policy.touched(version)
            hits += 1
            continue
        if len(here) == capacity:
            victim = next(policy.candidates())
            policy.evicted(victim)
            here.remove(victim)
        policy.added(version, 1)
        here.add(version)
    return hits


def test_a_loop_makes_the_epoch_policy_decide_and_a_moving_front_the_other():
    policy, here = duel(100), set()
    assert policy.active == LRU
    for _ in range(6):
        hits = read(policy, here, 100, range(150))
    assert policy.active == EPOCH
    assert hits > 80
    for start in range(1000, 4000, 10):  # each is read again soon, and then never
        read(policy, here, 100, [*range(start, start + 10), *range(start - 30, start - 20)])
    assert policy.active == LRU


def test_shadows_stay_small_however_many_versions_there_are():
    policy, count = duel(40_000), 40_000
    for version in range(count):
        policy.added(version, 1)
    assert all(len(shadow.sizes) <= 2 * EVICTION_SHADOW_VERSIONS for shadow in policy._shadows)
    for version in range(count):
        policy.evicted(version)
        policy.added(10**9 + version % 10, 4_000)  # few and large now: the sample grows again
        policy.touched(10**9 + version % 10)
        policy.removed(10**9 + version % 10 - 1)
    assert list(policy.candidates())


def test_uses_that_nobody_settles_are_forgotten_not_piled_up():
    policy = duel(10)
    policy.added(1, 1)
    for _ in range(3 * EVICTION_TOUCHES_MAX):
        policy.touched(1)
    assert len(policy._touches) <= EVICTION_TOUCHES_MAX
