"""Location policies and localities: orders that every process agrees on."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.base.locality import distance, parse_locality, tiers_of
from isotach.base.placement import PLACEMENTS, capacity_bytes, free_bytes, in_order, steps_to, takes_new
from isotach.base.types import TierInfo
from isotach.wire.messages import WorkerRow

GIB = 1 << 30


def row(name: str, capacity: int = GIB, used: int = 0, rack: str = "r1", key: str = "far", state: str = "LIVE"):
    locality = [("node", name), ("rack", rack), ("zone", "z")]
    tiers = [TierInfo("MEM", capacity, used)]
    return WorkerRow(name, f"host-{name}", "", "", key, True, 0, tiers, state, locality)


rows = st.lists(
    st.builds(
        row,
        st.sampled_from("abcdefgh"),
        st.integers(0, 10 * GIB),
        st.integers(0, 10 * GIB),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["here", "far"]),
    ),
    unique_by=lambda each: each.worker_id,
)


def order(workers, policy: str, **fields) -> list[str]:
    given = {"host_key": "here", "locality": [("node", "me"), ("rack", "r2"), ("zone", "z")], "key": b"k", "turn": 0}
    return [each.worker_id for each in in_order(workers, policy, **(given | fields))]


@given(rows, st.sampled_from(PLACEMENTS), st.binary(max_size=8), st.integers(0, 100), st.integers(1, 4))
def test_every_policy_orders_all_workers_and_always_the_same_way(workers, policy, key, turn, shards):
    fields = {"key": key, "turn": turn, "shards": shards, "host": "host-a"}
    found = order(workers, policy, **fields)
    if policy == "SPECIFIC_HOST":
        assert found == [each.worker_id for each in workers if each.worker_id == "a"]
    else:
        assert sorted(found) == sorted(each.worker_id for each in workers)
    assert found == order(workers[::-1], policy, **fields)


@given(rows, st.binary(max_size=8))
def test_hashes_move_only_what_was_on_the_worker_that_went(workers, key):
    for policy in ("HASH", "CAPACITY"):
        before = order(workers, policy, key=key)
        for gone in workers:
            after = order([each for each in workers if each is not gone], policy, key=key)
            assert after == [name for name in before if name != gone.worker_id]


@given(rows)
def test_local_first_goes_outwards_and_most_available_by_room(workers):
    by_id = {each.worker_id: each for each in workers}
    near = [by_id[name] for name in order(workers, "LOCAL_FIRST")]
    mine = [("node", "me"), ("rack", "r2"), ("zone", "z")]
    steps = [(steps_to(each, "here", mine), -free_bytes(each)) for each in near]
    assert steps == sorted(steps)
    roomy = [free_bytes(by_id[name]) for name in order(workers, "MOST_AVAILABLE")]
    assert roomy == sorted(roomy, reverse=True)
    avoiding = [free_bytes(by_id[name]) >= GIB for name in order(workers, "LOCAL_FIRST_AVOID_EVICTION", room_bytes=GIB)]
    assert avoiding == sorted(avoiding, reverse=True)


@given(rows.filter(bool))
def test_round_robin_gives_everybody_a_turn(workers):
    firsts = [order(workers, "ROUND_ROBIN", turn=turn)[0] for turn in range(len(workers))]
    assert sorted(firsts) == sorted(each.worker_id for each in workers)


def test_capacity_gives_in_proportion_and_nothing_to_none():
    workers = [row("a", 3 * GIB), row("b", GIB), row("c", 0)]
    firsts = Counter(order(workers, "CAPACITY", key=number.to_bytes(4, "big"))[0] for number in range(2000))
    assert firsts["c"] == 0
    assert 2.5 < firsts["a"] / firsts["b"] < 3.6
    assert capacity_bytes(workers[0]) == 3 * GIB


def test_hash_spreads_and_its_shards_let_the_nearest_go_first():
    workers = [row(name, rack="r2" if name == "d" else "r1") for name in "abcd"]
    keys = [number.to_bytes(4, "big") for number in range(1000)]
    assert all(count > 180 for count in Counter(order(workers, "HASH", key=key)[0] for key in keys).values())
    assert {order(workers, "HASH", key=key, shards=4)[0] for key in keys} == {"d"}
    for key in keys[:50]:
        for fewer, more in pairwise(range(1, 5)):
            first = set(order(workers, "HASH", key=key, shards=fewer)[:fewer])
            assert first <= set(order(workers, "HASH", key=key, shards=more)[:more])


def test_who_leaves_takes_nothing_new():
    workers = [row("a"), row("b", state="DECOMMISSIONING"), row("c", state="DECOMMISSIONED")]
    assert [each.worker_id for each in takes_new(workers)] == ["a"]


def test_localities():
    assert parse_locality("node=a1, rack=r7,zone=eu-1") == [("node", "a1"), ("rack", "r7"), ("zone", "eu-1")]
    assert parse_locality("") == []
    assert tiers_of("rack=r1", "me") == [("node", "me"), ("rack", "r1")]
    assert tiers_of("node=n,rack=r1", "me") == [("node", "n"), ("rack", "r1")]
    for wrong in ("rack", "rack=", "=r", "a=b,a=c", "rack=r 1"):
        with pytest.raises(InvalidArgumentError):
            parse_locality(wrong)


places = st.dictionaries(st.sampled_from(["node", "rack", "zone"]), st.sampled_from("xy")).map(
    lambda names: [*names.items()]
)


@given(places, places)
def test_distance_counts_the_steps_up(near, far):
    steps = distance(near, far)
    shared = [step for step, tier in enumerate(near) if tier in far]
    assert steps == (shared[0] if shared else len(near))
