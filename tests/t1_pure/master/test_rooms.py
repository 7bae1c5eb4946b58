"""The account of a load's bytes: no worker gets more than its share, and the choice is the same everywhere."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.limits import LOAD_CAPACITY_SHARE, LOADS_PER_WORKER_MAX
from isotach.base.types import BlockHolder, CacheState, Inode, PathPolicy, TierInfo
from isotach.master.jobs.rooms import Rooms, room_of
from isotach.wire.messages import WorkerRow


def worker(name: str, mem: int, ssd: int = 0, state: str = "LIVE") -> WorkerRow:
    tiers = [TierInfo("MEM", mem, 0), TierInfo("SSD", ssd, 0)]
    return WorkerRow(name, name, "", "", "", True, 0, tiers, state)


def file_of(version: int, length: int, policy: PathPolicy | None = None) -> Inode:
    return Inode(version, 1, 0o644, "a", "a", length, 1, 1, 1, version, 1 << 20, 1, 1, policy=policy)


@given(
    st.lists(st.integers(0, 1_000), min_size=1, max_size=4),
    st.lists(st.integers(1, 400), max_size=40),
)
def test_no_worker_is_given_more_than_its_share_and_nothing_that_fits_is_left(capacities, lengths):
    rows = [worker(f"w{index}", capacity) for index, capacity in enumerate(capacities)]
    rooms = Rooms(lambda: rows, lambda: 0.0)
    given_to = dict.fromkeys((row.worker_id for row in rows), 0)
    for version, length in enumerate(lengths, 1):
        ranked = rooms.ranked(file_of(version, length), None)
        assert ranked == rooms.ranked(file_of(version, length), None)
        shares = {row.worker_id: int(row.tiers[0].capacity_bytes * LOAD_CAPACITY_SHARE) for row in rows}
        fits = {name for name, used in given_to.items() if used + length <= shares[name]}
        assert {row.worker_id for row in ranked} == fits
        if ranked:
            rooms.book(ranked[0].worker_id, length)
            given_to[ranked[0].worker_id] += length


def test_who_holds_some_of_it_comes_first_and_who_is_busy_or_leaving_is_passed_over():
    rows = [worker("a", 1000), worker("b", 1000), worker("leaving", 1000, state="DECOMMISSIONING")]
    rooms = Rooms(lambda: rows, lambda: 0.0)
    for holder, other in (("a", "b"), ("b", "a")):
        state = CacheState(0, 5, [BlockHolder(holder, 0, 5, b"")])
        ranked = rooms.ranked(file_of(7, 10), state)
        assert [row.worker_id for row in ranked] == [holder, other]
        assert [row.worker_id for row in rooms.ranked(file_of(7, 10), state, [holder])] == [other]
        rooms.in_flight[holder] = LOADS_PER_WORKER_MAX
        free = rooms.free_of(ranked)
        assert free is not None
        assert free.worker_id == other
        rooms.in_flight[holder] = 0


def test_memory_only_files_have_room_in_memory_alone():
    row = worker("a", 100, ssd=1000)
    assert room_of(row, only_memory=False) == int(1100 * LOAD_CAPACITY_SHARE)
    assert room_of(row, only_memory=True) == int(100 * LOAD_CAPACITY_SHARE)
