"""The rows of the soft store against a dictionary: whatever comes and goes, they say what the shares say."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import CacheState
from isotach.kv.memory_store import MemoryStore
from isotach.master.cache_states import covers, summarize
from isotach.master.intake import Page, judge
from isotach.master.location_rows import (
    Change,
    Share,
    Told,
    batch_of,
    decode_share,
    encode,
    share_of,
    shares_in,
    state_in,
    told_in,
    told_key,
    worker_prefix,
)
from isotach.wire.messages import ReportedVersion

BLOCK = 10
WORKERS = ("a", "ab", "b")


def share(version: int, blocks: int, dirty: bool) -> Share:
    cached = (blocks).bit_count() * BLOCK
    return Share(3 * BLOCK, BLOCK, version + 100, dirty, 0, cached, bytes([blocks]))


changes = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(WORKERS), st.none() | st.tuples(st.integers(1, 7), st.booleans())),
    max_size=30,
)


@given(st.lists(changes, max_size=6))
def test_batches_of_changes_say_what_a_dictionary_says(batches):
    store = MemoryStore()
    model: dict[tuple[int, str], Share] = {}
    for batch in batches:
        made = [
            Change(version, worker, None if new is None else share(version, *new)) for version, worker, new in batch
        ]
        before = dict(model)
        for change in made:
            if change.share is None:
                model.pop((change.version, change.worker_id), None)
            else:
                model[change.version, change.worker_id] = change.share
        with store.snapshot() as snapshot:
            rows, loss = batch_of(snapshot, made)
        assert len({key for key, _ in rows}) == len(rows), "no key stands in a batch twice"
        store.commit(rows)
        check(store, model)
        for orphan in loss.orphans:
            assert any(held.dirty for (version, _), held in before.items() if version == orphan.version) or any(
                change.share is not None and change.share.dirty for change in made if change.version == orphan.version
            )


def check(store: MemoryStore, model: dict[tuple[int, str], Share]) -> None:
    with store.snapshot() as snapshot:
        for version in range(1, 6):
            state = state_in(snapshot, version)
            held = {worker: each for (number, worker), each in model.items() if number == version}
            assert {row.worker_id: row.blocks for row in (state.holders if state else [])} == {
                worker: each.blocks for worker, each in held.items()
            }
            if state is not None:
                expected = summarize(state.holders, 3 * BLOCK, BLOCK)
                assert (state.cached_bytes, state.memory_bytes) == (expected.cached_bytes, expected.memory_bytes)
        for worker in WORKERS:
            rows = {version: decode_share(raw) for version, raw in shares_in(snapshot, worker)}
            assert rows == {version: each for (version, name), each in model.items() if name == worker}


@given(st.sets(st.integers(1, 7), min_size=1), st.integers(1, 7))
def test_a_version_is_an_orphan_only_when_not_all_of_it_is_left(blocks_of_others, going):
    store = MemoryStore()
    others = [Change(1, f"w{blocks}", share(1, blocks, True)) for blocks in blocks_of_others]
    with store.snapshot() as snapshot:
        store.commit(batch_of(snapshot, [Change(1, "gone", share(1, going, True)), *others])[0])
    with store.snapshot() as snapshot:
        _, loss = batch_of(snapshot, [Change(1, "gone", None)])
    left = [change.share.holder(change.worker_id) for change in others if change.share is not None]
    assert bool(loss.orphans) == (not covers(left, 3 * BLOCK, BLOCK))
    assert bool(loss.exposed) == (not loss.orphans)


reported = st.dictionaries(st.integers(1, 40), st.integers(1, 7), max_size=20)


@given(reported, reported, st.integers(1, 7))
def test_a_report_of_everything_in_pages_leaves_exactly_what_it_says(before, now, page_rows):
    """No file exists here, so every version must be pending to be kept: the judge is told that all are."""
    soft, names = MemoryStore(), MemoryStore()

    def tell(held: dict[int, int]) -> None:
        versions = sorted(held)
        starts = range(0, max(1, len(versions)), page_rows)
        for start in starts:
            part = versions[start : start + page_rows]
            low = 0 if start == 0 else part[0]
            high = versions[start + page_rows] if start + page_rows < len(versions) else (1 << 64) - 1
            rows = [
                ReportedVersion(version, version + 100, 3 * BLOCK, BLOCK, 0, BLOCK, bytes([held[version]]))
                for version in part
            ]
            page = Page(worker_id="a", rows=rows, span=(low, high))
            with soft.snapshot() as snapshot, names.snapshot() as name_rows:
                batch, judged = judge(snapshot, name_rows, page, lambda _version: True)
            soft.commit(batch)
            assert judged.obsolete == []

    other = Share(3 * BLOCK, BLOCK, 103, False, 0, BLOCK, b"\x02")
    with soft.snapshot() as snapshot:
        soft.commit(batch_of(snapshot, [Change(3, "b", other)])[0])
    tell(before)
    tell(now)
    with soft.snapshot() as snapshot:
        assert {version: decode_share(raw).blocks[0] for version, raw in shares_in(snapshot, "a")} == now
        assert {version: decode_share(raw).blocks[0] for version, raw in shares_in(snapshot, "b")} == {3: 2}
        for version in {*before, *now, 3}:
            state = state_in(snapshot, version)
            ids = sorted(row.worker_id for row in state.holders) if state else []
            assert ids == [*(["a"] if version in now else []), *(["b"] if version == 3 else [])]


def test_the_record_of_an_unchanged_row_is_the_same_bytes():
    row = ReportedVersion(1, 2, 3, 4, 5, 6, b"\x01", dirty=True, former=True)
    same = ReportedVersion(1, 2, 3, 4, 5, 6, b"\x01", dirty=True)
    assert encode(share_of(row)) == encode(share_of(same))


def test_a_workers_rows_end_where_the_next_ones_begin():
    store = MemoryStore()
    with store.snapshot() as snapshot:
        batch, _ = batch_of(snapshot, [Change(1, "a", share(1, 1, False)), Change(2, "ab", share(2, 1, False))])
    store.commit([*batch, (told_key("a"), encode(Told("one", 7, True)))])
    with store.snapshot() as snapshot:
        assert [version for version, _ in shares_in(snapshot, "a")] == [1]
        assert told_in(snapshot, "a") == Told("one", 7, True)
        assert told_in(snapshot, "ab") is None
        state = state_in(snapshot, 2)
        assert state is not None
        assert msgspec.msgpack.decode(encode(state), type=CacheState) == state
    assert worker_prefix("a") == b"wa\0"
