"""Rules that the model does not reach: records as bytes, ids, views, walks, queues, times to live, attributes."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError, StaleVersionError
from isotach.base.limits import ID_RESERVE
from isotach.base.types import Flag, Inode, Mount
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import attributes, counters, directories, files, intents, mounts, persist_queue, trees, ttl
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.first_attributes import Asked
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import inode_of, path_of, resolve
from isotach.namespace.records import decode_inode, encode_inode, encode_mount
from isotach.namespace.view import Overlay, View
from isotach.namespace.walk import walk
from isotach.wire.messages import SetAttrRequest, WriteGrant

ALICE, BOB = Actor("alice", frozenset({"staff"})), Actor("bob", frozenset({"staff"}))


@pytest.fixture
def view():
    view = View(MemoryStore().frozen())
    mounts.ensure_root(view, "file:///root", {}, "root", "root", 1, mode=0o777)
    return view


@pytest.fixture
def ids(view):
    return counters.IdAllocator.open(view)


def grant(ids, path, **changes):
    fields = {
        "version": ids.allocate(), "file_id": ids.allocate(), "path": path, "user": "alice", "groups": ["staff"],
        "superuser": False, "write_type": "MUST_CACHE", "mode": 0o644, "block_size": 1 << 20, "overwrite": True,
        "ttl_ms": -1, "ttl_action": "DELETE", "pinned": False, "mount_id": 1, "ufs_path": b"", "expires_s": 0,
    }  # fmt: skip
    return WriteGrant(**{**fields, **changes})


def write(view, ids, path, **changes):
    return files.complete_file(view, grant(ids, path, **changes), 3, None, 0, False, True, 2_000_000, ids).inode


def mkdir(view, ids, path, actor=ALICE, mode=0o755):
    return directories.make_directory(view, path, Asked(mode), True, False, actor, 5, ids, False).inode


# --- formats: these bytes are on disks; they may be appended to, never changed --------------------------------------


def test_the_inode_record_is_these_bytes():
    inode = Inode(258, 1, 0o644, "al", "st", 7, 1, 2, 3, 9, 1 << 20, 5, 1, fingerprint="f", xattrs={"k": b"v"})
    golden = bytes.fromhex(
        "dc0016cd010201cd01a4a2616ca273740701020309ce001000000501ffa644454c455445ffa16681a16bc40176c0c00001"
    )

    assert encode_inode(inode) == golden
    assert decode_inode(golden) == inode
    assert decode_inode(b"\xdc\x00\x13" + golden[3:-3]) == inode  # as it was before links
    assert decode_inode(b"\xdc\x00\x12" + golden[3:-4]) == inode  # as it was before policies


def test_the_mount_record_is_these_bytes():
    golden = bytes.fromhex("970102c4022f6da673333a2f2f6281a16ba176c3cd03e8")

    assert encode_mount(Mount(1, 2, b"/m", "s3://b", {"k": "v"}, True, 1000)) == golden


def test_an_inode_of_a_later_format_is_read_without_its_new_fields():
    inode = Inode(1, 0, 0, "", "", 0, 0, 0, 0, 0, 0, 0, 0)
    raw = bytearray(encode_inode(inode))
    assert raw[:3] == b"\xdc\x00\x16"
    raw[2] += 1

    assert decode_inode(bytes(raw) + b"\xc3") == inode


# --- ids ------------------------------------------------------------------------------------------------------------


def test_ids_stay_below_the_durable_mark_and_are_never_given_twice(view):
    first = counters.IdAllocator.open(view)
    given_by_first = [first.allocate() for _ in range(10)]

    second = counters.IdAllocator.open(view)

    assert min(second.allocate() for _ in range(10)) >= given_by_first[0] + ID_RESERVE


def test_the_reserve_is_asked_for_once_and_ends_with_an_error(view):
    asked = []
    ids = counters.IdAllocator(10, 12)
    ids.on_low = lambda: asked.append(1)

    assert [ids.allocate(), ids.allocate()] == [10, 11]
    with pytest.raises(OSError, match="no ids are left") as caught:
        ids.allocate()
    mark = ids.reserve(view)
    ids.confirm(mark)

    assert caught.value.errno == errno.ENOSPC
    assert asked == [1]
    assert ids.allocate() == 12


# --- views ----------------------------------------------------------------------------------------------------------

small = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
changes = st.lists(st.tuples(small, st.one_of(st.none(), st.binary(max_size=1))), max_size=6)


@given(below=changes, layers=st.lists(changes, max_size=3), own=changes, bounds=st.tuples(small, small))
def test_a_view_is_what_all_layers_applied_in_order_would_be(below, layers, own, bounds):
    store = MemoryStore()
    store.commit(list(dict(below).items()))
    stack = []
    for layer in layers:
        overlay = Overlay()
        for key, value in layer:
            overlay.set(key, value)
        stack.insert(0, overlay)
    seen = View(store.frozen(), stack)
    for key, value in own:
        seen.delete(key) if value is None else seen.put(key, value)
    expected = dict([*below, *(row for layer in layers for row in layer), *own])
    expected = {key: value for key, value in expected.items() if value is not None}

    start, stop = min(bounds), max(bounds)
    assert {key: seen.get(key) for key in (b"a", b"b", b"c", b"d", b"e") if seen.get(key) is not None} == expected
    assert list(seen.scan(start, stop)) == sorted(row for row in expected.items() if start <= row[0] < stop)


def test_a_nested_view_that_fails_leaves_nothing(view):
    def failing():
        with view.nested() as inner:
            inner.put(b"z", b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with view.nested() as inner:
        inner.put(b"y", b"1")

    assert (view.get(b"z"), view.get(b"y")) == (None, b"1")


# --- files and trees ------------------------------------------------------------------------------------------------


def test_a_write_that_was_overtaken_is_refused(view, ids):
    early = grant(ids, b"/f")
    late = write(view, ids, b"/f")

    with pytest.raises(StaleVersionError) as caught:
        files.complete_file(view, early, 3, None, 0, False, False, 9, ids)

    assert caught.value.errno == errno.ESTALE
    assert resolve(view, b"/f", SYSTEM).inode == late


def test_an_overwrite_keeps_who_it_is(view, ids):
    first = write(view, ids, b"/f", mode=0o666, ttl_ms=500)
    attributes.set_attributes(view, SetAttrRequest(b"/f", set_xattrs={"k": b"v"}, pinned=True), ALICE, 3)
    second = write(view, ids, b"/f", mode=0o600, user="bob", file_id=first.id)

    assert (second.id, second.mode, second.owner, second.xattrs) == (first.id, 0o666, "alice", {"k": b"v"})
    assert second.flags & Flag.PINNED
    assert second.ttl_ms == 500


def test_of_two_writers_of_a_new_path_the_last_gives_the_file_the_id_that_its_bytes_have(view, ids):
    first, second = grant(ids, b"/f"), grant(ids, b"/f")
    before = files.complete_file(view, first, 3, None, 0, False, True, 5, ids).inode
    done = files.complete_file(view, second, 4, None, 0, False, True, 6, ids)

    assert (done.inode.id, done.inode.version) == (second.file_id, second.version)
    assert done.replaced == before
    assert resolve(view, b"/f", SYSTEM).inode == inode_of(view, second.file_id) == done.inode
    with pytest.raises(FileNotFoundError):
        inode_of(view, first.file_id)
    assert files.complete_file(view, second, 4, None, 0, False, True, 7, ids).inode == done.inode


def test_moving_a_directory_elsewhere_needs_write_on_it(view, ids):
    mkdir(view, ids, b"/from", mode=0o777)
    mkdir(view, ids, b"/to", mode=0o777)
    mkdir(view, ids, b"/from/d", mode=0o755)

    with pytest.raises(PermissionError):
        trees.rename(view, b"/from/d", b"/to/d", False, BOB, 9)

    assert trees.rename(view, b"/from/d", b"/from/e", False, BOB, 9).inode.is_dir


def test_across_mounts_says_what_to_do_instead(view, ids):
    mounts.add_mount(view, b"/m", "s3://b", {}, False, -1, SYSTEM, 1, ids)
    write(view, ids, b"/f")

    with pytest.raises(OSError, match="isotach fs cp -r") as caught:
        trees.rename(view, b"/f", b"/m/f", True, SYSTEM, 9)

    assert caught.value.errno == errno.EXDEV
    assert caught.value.filename == "/m/f"


def test_a_name_over_the_limit_is_refused(view, ids):
    with pytest.raises(OSError, match="limit of 255") as caught:
        mkdir(view, ids, b"/" + b"n" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_walk_sees_every_entry_once_in_any_slices(view, ids, limit):
    paths = [b"/a", b"/a/b", b"/a/b/f", b"/a/c", b"/d", b"/d/f", b"/e"]
    for path in paths:
        write(view, ids, path) if path.endswith((b"f", b"e")) else mkdir(view, ids, path)

    found, key = [], None
    while True:
        piece = walk(view, 1, key, limit)
        assert len(piece.entries) <= limit
        found += piece.entries
        key = piece.next_key
        if key is None:
            break

    assert [path_of(view, entry.inode.id) for entry in found] == paths


# --- queues ---------------------------------------------------------------------------------------------------------


def test_the_persist_queue_orders_by_time_and_forgets_what_is_persisted_or_removed(view, ids):
    inodes = [write(view, ids, path) for path in (b"/x", b"/y", b"/z")]
    for due_ms, inode in zip((30, 10, 20), inodes, strict=True):
        persist_queue.enqueue(view, inode.id, due_ms)
    persist_queue.reschedule(view, persist_queue.find(view, inodes[1].id), 2, 40)

    lane = inodes[0].mount_id
    assert [(item.file_id, item.due_ms) for item in persist_queue.first(view, lane, 2)] == [
        (inodes[2].id, 20),
        (inodes[0].id, 30),
    ]
    assert persist_queue.mounts_waiting(view) == [lane]
    assert not persist_queue.mark_persisted(view, inodes[0].id, 1, "f", 9), "another version"
    assert persist_queue.mark_persisted(view, inodes[0].id, inodes[0].version, "f", 9)
    trees.detach(view, b"/z", False, SYSTEM, 9)
    assert persist_queue.first(view, lane, 10) == [persist_queue.PersistItem(inodes[1].id, 2, 40, lane)]
    assert persist_queue.length(view) == 1
    stored = resolve(view, b"/x", SYSTEM).inode
    assert stored.flags & (Flag.PERSISTED | Flag.TO_PERSIST) == Flag.PERSISTED


def test_what_expired_is_found_until_it_is_removed_or_changed(view, ids):
    write(view, ids, b"/d/f", ttl_ms=100)
    write(view, ids, b"/g", ttl_ms=50)
    expires_ms = resolve(view, b"/d/f", SYSTEM).inode.expires_ms

    assert ttl.due(view, expires_ms - 60, 10).expired == []
    assert [row.path for row in ttl.due(view, expires_ms, 10).expired] == [b"/g", b"/d/f"]
    attributes.set_attributes(view, SetAttrRequest(b"/g", ttl_ms=-1), ALICE, 9)
    trees.detach(view, b"/d", True, SYSTEM, 9)
    assert ttl.due(view, expires_ms, 10).expired == []


def test_intents_are_found_in_order_until_dropped(view, ids):
    first = intents.put(view, Intent("RENAME", b"/a", b"/b"), ids)
    second = intents.put(view, Intent("REMOVE", b"/c"), ids)
    intents.drop(view, first)
    intents.drop(view, first)

    assert intents.open_intents(view) == [(second, Intent("REMOVE", b"/c"))]
    assert intents.get(view, first) is None


# --- attributes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "actor"),
    [
        (SetAttrRequest(b"/f", mode=0o600), BOB),
        (SetAttrRequest(b"/f", owner="bob"), ALICE),
        (SetAttrRequest(b"/f", group="wheel"), ALICE),
        (SetAttrRequest(b"/f", group="staff"), BOB),
        (SetAttrRequest(b"/f", mtime_ns=5), BOB),
        (SetAttrRequest(b"/f", set_xattrs={"k": b""}), BOB),
        (SetAttrRequest(b"/f", ttl_ms=5), BOB),
        (SetAttrRequest(b"/f", pinned=True), BOB),
    ],
)
def test_attributes_are_not_for_everybody(view, ids, request_, actor):
    write(view, ids, b"/f", groups=[])
    before = resolve(view, b"/f", SYSTEM).inode

    with pytest.raises(PermissionError) as caught:
        attributes.set_attributes(view, request_, actor, 9)

    assert caught.value.filename == "/f"
    assert resolve(view, b"/f", SYSTEM).inode == before


def test_the_owner_changes_mode_group_and_xattrs(view, ids):
    write(view, ids, b"/f", groups=[])
    request = SetAttrRequest(b"/f", mode=0o600, group="staff", set_xattrs={"k": b"v"}, remove_xattrs=["absent"])

    after = attributes.set_attributes(view, request, ALICE, 9)

    assert (after.mode, after.group, after.xattrs, after.ctime_ns) == (0o600, "staff", {"k": b"v"}, 9)


def test_too_many_attributes_and_unknown_actions_are_refused(view, ids):
    write(view, ids, b"/f")
    for request in (
        SetAttrRequest(b"/f", set_xattrs={"k": bytes(70_000)}),
        SetAttrRequest(b"/f", set_xattrs={str(index): b"" for index in range(65)}),
        SetAttrRequest(b"/f", ttl_ms=1, ttl_action="BURN"),
    ):
        with pytest.raises((InvalidArgumentError, OSError)):
            attributes.set_attributes(view, request, ALICE, 9)


# --- mounts ---------------------------------------------------------------------------------------------------------


def test_the_root_of_another_store_is_refused(view):
    with pytest.raises(InvalidArgumentError, match="file:///root"):
        mounts.ensure_root(view, "s3://other", {}, "root", "root", 1)


def test_an_epoch_tells_of_each_change(view, ids):
    before = mounts.mounts_epoch(view)
    mounts.add_mount(view, b"/m", "s3://b", {}, False, -1, SYSTEM, 1, ids)
    mounts.remove_mount(view, b"/m", SYSTEM)

    assert mounts.mounts_epoch(view) == before + 2
    assert set(mounts.mount_table(view)) == {1}
    with pytest.raises(FileNotFoundError):
        resolve(view, b"/m", SYSTEM)


def test_an_overwrite_of_what_is_removed_meanwhile_is_not_reclaimed_with_it(view, ids):
    old = write(view, ids, b"/d/f")
    asked = grant(ids, b"/d/f", file_id=old.id)
    trees.detach(view, b"/d", True, SYSTEM, 9)
    done = files.complete_file(view, asked, 3, None, 0, False, True, 9, ids)
    persist_queue.enqueue(view, done.inode.id, 9)
    assert done.replaced is not None
    assert done.replaced.version == old.version
    while not trees.reclaim_slice(view, 10).finished:
        pass
    assert path_of(view, done.inode.id) == b"/d/f"
    assert persist_queue.find(view, done.inode.id) is not None


def test_an_overwrite_of_what_is_renamed_meanwhile_is_refused(view, ids):
    old = write(view, ids, b"/d/f")
    asked = grant(ids, b"/d/f", file_id=old.id)
    trees.rename(view, b"/d/f", b"/d/g", False, SYSTEM, 9)
    with pytest.raises(StaleVersionError, match="renamed"):
        files.complete_file(view, asked, 3, None, 0, False, True, 9, ids)
