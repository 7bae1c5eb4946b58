"""The indexes of lost files and of policies for copies: one row for each such file, whatever happens to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import Flag, PathPolicy
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import attributes, counters, files, keys, leaving, lost, mounts, persist_queue, trees
from isotach.namespace.actor import SYSTEM
from isotach.namespace.entries import has_copies_rule
from isotach.namespace.lookup import resolve
from isotach.namespace.records import decode_inode
from isotach.namespace.view import View
from isotach.wire.messages import SetAttrRequest, WriteGrant


def new_view() -> View:
    view = View(MemoryStore().frozen())
    mounts.ensure_root(view, "file:///root", {}, "root", "root", 1, mode=0o777)
    return view


def write(view, ids, path: bytes, policy: PathPolicy | None = None):
    grant = WriteGrant(
        ids.allocate(), ids.allocate(), path, "root", [], True, "ASYNC_THROUGH", 0o644, 1 << 20, True, -1, "DELETE",
        False, 1, b"", 0, policy=policy,
    )  # fmt: skip
    done = files.complete_file(view, grant, 3, None, 0, False, True, 2_000_000, ids)
    persist_queue.enqueue(view, done.inode.id, 2)
    return done.inode


def check_indexes(view) -> None:
    inodes = [decode_inode(raw) for _, raw in view.scan(*keys.all_of(b"e"))]
    lost_ids = {int.from_bytes(key[1:], "big") for key, _ in view.scan(*keys.all_of(b"l"))}
    assert lost_ids == {inode.id for inode in inodes if inode.flags & Flag.LOST}
    ruled = {int.from_bytes(key[1:], "big") for key, _ in view.scan(*keys.all_of(b"r"))}
    assert ruled == {inode.id for inode in inodes if has_copies_rule(inode)}


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "lose", "find", "persist", "remove", "rename", "rule", "unrule"]),
        st.sampled_from([b"/a", b"/b", b"/d/c"]),
    ),
    max_size=25,
)


@given(steps)
def test_the_indexes_follow_the_files(walked):
    view = new_view()
    ids = counters.IdAllocator.open(view)
    for what, path in walked:
        try:
            inode = None if what == "write" else resolve(view, path, SYSTEM).inode
        except FileNotFoundError:
            continue
        if inode is None:
            write(view, ids, path, PathPolicy(replication_min=1) if path == b"/b" else None)
        elif what == "lose":
            lost.mark_lost(view, inode.id, lost.LostRecord(inode.version, "w", "h", 1))
        elif what == "find":
            lost.mark_found(view, inode.id, inode.version, 7)
        elif what == "persist":
            persist_queue.mark_persisted(view, inode.id, inode.version, "fp", 3)
        elif what == "remove":
            trees.detach(view, path, False, SYSTEM, 5)
        elif what == "rename":
            trees.rename(view, path, b"/a", True, SYSTEM, 6)
        else:
            low = 2 if what == "rule" else 0
            attributes.set_attributes(view, SetAttrRequest(path, replication_min=low), SYSTEM, 7)
        check_indexes(view)


def test_a_lost_file_is_listed_and_found_again_with_its_place_in_the_queue():
    view = new_view()
    ids = counters.IdAllocator.open(view)
    inode = write(view, ids, b"/f")
    item = persist_queue.find(view, inode.id)
    assert item is not None
    persist_queue.reschedule(view, item, 5, 99_000)
    record = lost.LostRecord(inode.version, "w1", "node7", 1_700_000_000_000)
    assert lost.mark_lost(view, inode.id, record)
    assert not lost.mark_lost(view, inode.id, record)
    assert lost.lost_after(view, 0, 10) == [(inode.id, record)]
    assert lost.lost_after(view, inode.id, 10) == []
    text = lost.loss_text(lost.record_of(view, inode.id))
    assert "w1 on node7" in text
    assert "2023-11-14 22:13:20 UTC" in text
    assert "never persisted" in lost.loss_text(None)

    assert not lost.mark_found(view, inode.id, inode.version + 1, 7)
    assert lost.mark_found(view, inode.id, inode.version, 7)
    again = persist_queue.find(view, inode.id)
    assert again is not None
    assert (again.attempts, again.due_ms) == (0, 7)
    assert lost.lost_after(view, 0, 10) == []


@pytest.mark.parametrize("reason", ["another version", "persisted", "empty", "gone"])
def test_what_is_not_lost(reason):
    view = new_view()
    ids = counters.IdAllocator.open(view)
    inode = write(view, ids, b"/f")
    version, file_id = inode.version, inode.id
    if reason == "another version":
        version += 1
    elif reason == "persisted":
        persist_queue.mark_persisted(view, inode.id, inode.version, "fp", 3)
    elif reason == "gone":
        file_id += 1000
    else:
        assert not lost.can_be_lost(resolve(view, b"/", SYSTEM).inode)
        return
    assert not lost.mark_lost(view, file_id, lost.LostRecord(version, "w", "h", 1))


def test_leaving_workers_are_kept():
    view = new_view()
    leaving.put(view, "w1", leaving.Leaving(5))
    leaving.put(view, "w2", leaving.Leaving(6, done=True))
    assert leaving.all_leaving(view) == {"w1": leaving.Leaving(5), "w2": leaving.Leaving(6, done=True)}
    leaving.drop(view, "w1")
    assert list(leaving.all_leaving(view)) == ["w2"]
