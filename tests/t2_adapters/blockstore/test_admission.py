"""What a full cache takes in: the policy is asked for what is read, never for what is written or asked for."""

from collections.abc import Iterator

import pytest

from isotach.base.limits import PAGE_BYTES
from isotach.base.types import Version
from isotach.eviction import registry
from isotach.eviction.lru import LeastRecentlyUsed

from .conftest import fill_all, meta_of, places_of, write_all


class Picky(LeastRecentlyUsed):
    """Admits even versions only, and remembers what it was told."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.asked: list[Version] = []
        self.gone: list[Version] = []

    def admits(self, version: Version, size_bytes: int) -> bool:
        self.asked.append(version)
        return version % 2 == 0

    def evicted(self, version: Version) -> None:
        self.gone.append(version)
        self.removed(version)


@pytest.fixture
def picky() -> Iterator[str]:
    registry.POLICIES["PICKY"] = Picky
    yield "PICKY"
    del registry.POLICIES["PICKY"]


def test_a_full_cache_takes_what_its_policy_admits(open_store, picky):
    store = open_store(eviction=picky, MEM=10)
    policy = store._shelves.tiers[0].policy
    for version in range(101, 110):
        assert fill_all(store, version, PAGE_BYTES)
    assert policy.asked == [], "nothing has to leave below the low watermark"
    assert not fill_all(store, 1, PAGE_BYTES)
    assert store.prepare(meta_of(1, PAGE_BYTES)) is None
    assert fill_all(store, 2, PAGE_BYTES)
    assert fill_all(store, 3, PAGE_BYTES, pinned=True)
    assert policy.gone == [101]
    assert store.prepare(meta_of(5, PAGE_BYTES), insist=True) is not None
    assert fill_all(store, 5, PAGE_BYTES)
    write_all(store, 7, PAGE_BYTES)
    assert {2, 3, 5, 7} <= set(store.versions())
    assert 7 not in policy.asked


def test_what_the_upper_tier_refuses_the_lower_one_may_take(open_store, picky):
    store = open_store(eviction=picky, MEM=4, SSD=8)
    for version in range(101, 105):
        fill_all(store, version, PAGE_BYTES)
    assert fill_all(store, 1, PAGE_BYTES)
    assert places_of(store)[1] == "SSD"


def test_what_sinks_is_told_as_evicted_and_is_asked_below_only_when_it_is_full(open_store, picky):
    store = open_store(eviction=picky, MEM=10, SSD=20)
    upper, lower = (tier.policy for tier in store._shelves.tiers)
    for version in range(100, 110):
        write_all(store, version, PAGE_BYTES, dirty=False)
    store.mover.run_once()
    assert upper.gone == [100]
    assert lower.asked == []
    assert places_of(store)[100] == "SSD"
