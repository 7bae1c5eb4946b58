"""What is done about a file's copies, by rules that hold for every cluster."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import BlockHolder, Flag, Inode, Kind, PathPolicy, TierInfo
from isotach.master.cache_states import covers, holds_all
from isotach.master.copies import plan_copies
from isotach.wire.messages import WorkerRow

LENGTH, BLOCK = 30, 10


def row(name: str, state: str = "LIVE", free: int = 1 << 30, rack: str = "r1") -> WorkerRow:
    tiers = [TierInfo("MEM", 1 << 30, (1 << 30) - free)]
    return WorkerRow(name, f"host-{name}", "", "", "", True, 0, tiers, state, [("node", name), ("rack", rack)])


def file(low: int, high: int, persisted: bool, length: int = LENGTH) -> Inode:
    flags = Flag.PERSISTED if persisted else 0
    policy = PathPolicy(replication_min=low, replication_max=high)
    return Inode(9, Kind.FILE, 0o644, "u", "g", length, 0, 0, 0, 7, BLOCK, int(flags), 1, policy=policy)


def holder(name: str, blocks: int) -> BlockHolder:
    return BlockHolder(name, 0, (blocks).bit_count() * BLOCK, bytes([blocks]))


NAMES = "abcdef"
states = st.sampled_from(["LIVE", "LIVE", "LIVE", "DECOMMISSIONING", "DECOMMISSIONED"])
clusters = st.dictionaries(st.sampled_from(NAMES), states, min_size=1)
held = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 7))


@given(clusters, held, st.integers(0, 4), st.integers(-1, 4), st.booleans(), st.sets(st.sampled_from(NAMES)))
def test_whatever_is_done_nothing_is_lost(cluster, blocks, low, high, persisted, dirty):
    live = [row(name, state) for name, state in cluster.items()]
    inode = file(low, high if high < 0 else max(high, low), persisted)
    holders = [holder(name, mask) for name, mask in blocks.items()]
    present = [each for each in holders if each.worker_id in cluster]
    plan = plan_copies(inode, holders, live, dirty=dirty)

    assert not (plan.missing and plan.drops)
    whole = {each.worker_id for each in present if holds_all(each, LENGTH, BLOCK)}
    staying = {name for name, state in cluster.items() if state == "LIVE"}
    kept = staying if persisted else staying & dirty
    assert {target.worker_id for target in plan.targets} <= staying - (whole & kept)
    assert len(plan.targets) <= plan.missing
    assert set(plan.drops) <= {each.worker_id for each in present}
    left = [each for each in present if each.worker_id not in plan.drops]
    if not persisted and covers(present, LENGTH, BLOCK):
        assert covers(left, LENGTH, BLOCK)
    if not persisted and plan.drops:
        assert any(each.worker_id in whole & kept for each in left)
    if not persisted and not covers([each for each in present if each.worker_id in kept], LENGTH, BLOCK):
        assert plan.missing, "what no store has must not depend on copies that leave or may be evicted"
    if plan.sources:
        assert covers([each for each in present if each.worker_id in {s.worker_id for s in plan.sources}], 30, 10)
    if plan.is_idle and inode.policy is not None:
        assert len(whole & kept) >= min(low, max(inode.policy.replication_max, 1) if high >= 0 else low)


def test_missing_copies_go_where_parts_are_then_to_another_rack():
    live = [row("a"), row("b"), row("c", rack="r2"), row("d")]
    plan = plan_copies(file(2, -1, True), [holder("a", 7)], live)
    assert [target.worker_id for target in plan.targets] == ["c"]
    plan = plan_copies(file(2, -1, True), [holder("a", 7), holder("d", 3)], live)
    assert [target.worker_id for target in plan.targets] == ["d"]
    full = [row("a"), row("b"), row("c", rack="r2", free=5), row("d")]
    assert plan_copies(file(2, -1, True), [holder("a", 7)], full).targets[0].worker_id != "c"


def test_a_maximum_of_nothing_keeps_the_last_copy_of_what_no_store_has():
    live = [row("a"), row("b")]
    holders = [holder("a", 7), holder("b", 7)]
    assert len(plan_copies(file(0, 0, False), holders, live, dirty="ab").drops) == 1
    assert plan_copies(file(0, 0, False), holders, live, dirty="a").drops == ["b"]
    assert sorted(plan_copies(file(0, 0, True), holders, live).drops) == ["a", "b"]
    assert plan_copies(file(0, 1, False), [holder("a", 3), holder("b", 4)], live, dirty="ab").is_idle


def test_what_only_a_leaving_worker_holds_is_wanted_elsewhere():
    live = [row("a", "DECOMMISSIONING"), row("b")]
    plan = plan_copies(file(0, -1, False), [holder("a", 7)], live, dirty="a")
    assert ([each.worker_id for each in plan.targets], [each.worker_id for each in plan.sources]) == (["b"], ["a"])
    assert plan_copies(file(0, -1, True), [holder("a", 7)], live).is_idle
    assert plan_copies(file(0, -1, False), [holder("a", 7), holder("b", 7)], live, dirty="ab").is_idle
    assert plan_copies(file(0, -1, False), [holder("a", 7), holder("b", 7)], live, dirty="a").missing


def test_an_evictable_copy_of_what_no_store_has_becomes_one_that_is_kept():
    live = [row("a"), row("b")]
    plan = plan_copies(file(0, -1, False), [holder("b", 7)], live)
    assert ([each.worker_id for each in plan.targets], [each.worker_id for each in plan.sources]) == (["b"], ["b"])


def test_an_empty_file_needs_nobody():
    assert plan_copies(file(3, -1, False, length=0), [], [row("a")]).is_idle


def test_a_hot_file_gets_one_copy_more_within_its_maximum_if_a_store_has_it():
    live = [row("a"), row("b"), row("c", "DECOMMISSIONING")]
    one, both = [holder("a", 7)], [holder("a", 7), holder("b", 7)]
    assert [each.worker_id for each in plan_copies(file(0, -1, True), one, live, hot=True).targets] == ["b"]
    assert plan_copies(file(0, -1, True), both, live, hot=True).is_idle, "there is no other worker"
    assert plan_copies(file(0, 1, True), one, live, hot=True).is_idle
    assert plan_copies(file(0, -1, False), one, live, hot=True, dirty="a").is_idle
    assert plan_copies(file(0, -1, True), [], live, hot=True).is_idle
