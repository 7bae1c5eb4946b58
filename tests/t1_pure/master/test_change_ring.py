"""The ring of changes: what is kept, what is missed, what an entry was before."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import Inode
from isotach.master.change_ring import ChangeRing, place_of
from isotach.namespace import keys
from isotach.namespace.records import encode_inode


def record(inode_id: int, length: int = 0) -> bytes:
    return encode_inode(Inode(inode_id, 1, 0o644, "a", "a", length, 1, 1, 1, 5, 0, 0, 1))


def entry(number: int) -> bytes:
    return keys.entry(number, b"n%d" % number)


def test_only_entries_are_changes() -> None:
    ring = ChangeRing()
    rows = [(keys.location(7), b"x"), (keys.entry(1, b"a"), record(7)), (keys.INODES, b"9")]
    assert ring.add(rows, {}) == 1
    assert ring.last == 1
    assert ring.page(0, 10, 1000) == [(keys.entry(1, b"a"), record(7), None)]
    assert place_of(keys.entry(1, b"a")) == (1, b"a")


def test_what_was_before_is_kept_where_it_was_another_inode() -> None:
    ring = ChangeRing()
    key = keys.entry(1, b"a")
    for before, now in ((7, 7), (7, 8), (7, 300), (1 << 40, (1 << 40) + 1)):
        ring.add([(key, record(now, length=3))], {key: record(before)})
    ring.add([(key, None)], {key: record(9)})
    ring.add([(key, None)], {})
    olds = [old for _, _, old in ring.page(0, 10, 10_000)]
    assert olds == [None, record(7), record(7), record(1 << 40), record(9), None]


def test_a_skipped_batch_is_missed_by_all_before() -> None:
    ring = ChangeRing()
    ring.add([(entry(1), record(1))], {})
    ring.skip()
    assert ring.has_missed(0)
    assert ring.has_missed(1)
    assert not ring.has_missed(ring.last)
    assert ring.has_missed(ring.last + 1)
    assert ring.page(ring.last, 10, 1000) == []


@given(batches=st.lists(st.integers(0, 9), max_size=60), kept=st.integers(1, 40), page=st.integers(1, 7))
def test_a_follower_sees_all_in_order_or_is_told(batches: list[int], kept: int, page: int) -> None:
    ring = ChangeRing(kept_max=kept)
    truth: list[bytes] = []
    for size in batches:
        rows = [(entry(len(truth) + index), record(1)) for index in range(size)]
        truth += [key for key, _ in rows]
        ring.add(rows, {})
        assert ring.last == len(truth)
        assert len(ring) <= kept
    after = next(number for number in range(len(truth) + 1) if not ring.has_missed(number))
    assert len(truth) - after == len(ring)
    seen: list[bytes] = []
    while after < ring.last:
        rows_seen = ring.page(after, page, 1 << 20)
        assert 0 < len(rows_seen) <= page
        seen += [key for key, _, _ in rows_seen]
        after += len(rows_seen)
    assert seen == truth[len(truth) - len(seen) :]


def test_bytes_are_bounded_and_a_page_holds_one_at_least() -> None:
    ring = ChangeRing(bytes_max=10_000)
    for number in range(100):
        ring.add([(entry(number), record(number))], {})
    assert 5 < len(ring) < 50
    assert len(ring.page(ring.last - 2, 10, 1)) == 1
