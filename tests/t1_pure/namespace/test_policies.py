"""Policies: what a directory hands on, what a change may say, and what memory-only data may never do."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import Flag, Mount, PathPolicy
from isotach.kv.memory_store import MemoryStore
from isotach.namespace import attributes, counters, directories, files, mounts, policies, sync, trees, ttl
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.first_attributes import Asked
from isotach.namespace.lookup import resolve
from isotach.namespace.records import encode_inode
from isotach.namespace.view import View
from isotach.wire.messages import CreateRequest, SetAttrRequest, WriteGrant

ALICE = Actor("alice", frozenset({"staff"}))
ROOT = Mount(1, 1, b"/", "file:///root", {})


@pytest.fixture
def view():
    view = View(MemoryStore().frozen())
    mounts.ensure_root(view, "file:///root", {}, "root", "root", 1, mode=0o777)
    return view


@pytest.fixture
def ids(view):
    return counters.IdAllocator.open(view)


def mkdir(view, ids, path):
    return directories.make_directory(view, path, Asked(0o755), True, False, ALICE, 5, ids, False).inode


def change(view, path, **fields):
    return attributes.set_attributes(view, SetAttrRequest(path, **fields), ALICE, 10_000_000)


def write(view, ids, path, length=3, **fields):
    """As the master does: plan, grant, complete."""
    request = CreateRequest(path, **{"write_type": "MUST_CACHE", **fields})
    plan = files.plan_create(view, request, ALICE, 5)
    policy, write_type = policies.for_write(plan.policy, plan.existing, request)
    grant = WriteGrant(
        version=ids.allocate(), file_id=ids.allocate(), path=path, user="alice", groups=["staff"], superuser=False,
        write_type=write_type, mode=0o644, block_size=1 << 20, overwrite=True, ttl_ms=plan.ttl_ms,
        ttl_action=plan.ttl_action, pinned=plan.pinned, mount_id=1, ufs_path=b"", expires_s=0, policy=policy,
    )  # fmt: skip
    return files.complete_file(view, grant, length, None, 0, False, False, 20_000_000, ids).inode


def test_what_is_made_or_found_in_a_directory_begins_with_its_policy_and_pin(view, ids):
    mkdir(view, ids, b"/d")
    change(view, b"/d", replication_min=2, tier="MEM", pinned=True, inherited_ttl_ms=500, inherited_ttl_action="FREE")
    inner = mkdir(view, ids, b"/d/x/y")
    assert inner.policy == PathPolicy(2, -1, "MEM", ttl_ms=500, ttl_action="FREE")
    assert inner.flags & Flag.PINNED
    assert inner.expires_ms == -1  # a directory hands the time to live on and does not end itself
    written = write(view, ids, b"/d/x/new/f")
    found = sync.LoadedStatus(b"g", False, 9, 1, "fp")
    sync.apply_status(view, b"/d/x/y/g", found, ROOT, 20_000_000, ids)
    for inode in (written, resolve(view, b"/d/x/y/g", SYSTEM).inode):
        assert inode.policy == PathPolicy(2, -1, "MEM")
        assert inode.flags & Flag.PINNED
        assert (inode.ttl_ms, inode.ttl_action, inode.expires_ms) == (500, "FREE", 520)
    assert [each.file_id for each in ttl.due(view, 520, 10).expired] == sorted(
        [written.id, resolve(view, b"/d/x/y/g", SYSTEM).inode.id]
    )


def test_an_overwrite_keeps_the_policy_of_the_file_and_may_change_it(view, ids):
    mkdir(view, ids, b"/d")
    change(view, b"/d", replication_min=2)
    write(view, ids, b"/d/f")
    change(view, b"/d", replication_min=5)
    assert write(view, ids, b"/d/f").policy == PathPolicy(2)
    assert write(view, ids, b"/d/f", replication_min=3, replication_max=4).policy == PathPolicy(3, 4)


def test_a_policy_of_nothing_but_defaults_costs_no_byte(view, ids):
    plain = mkdir(view, ids, b"/d")
    size = len(encode_inode(plain))
    change(view, b"/d", replication_min=2, memory_only=True)
    after = change(view, b"/d", replication_min=0, memory_only=False)
    assert after.policy is None
    assert len(encode_inode(after)) - size < 8  # the times of the change are longer numbers


@pytest.mark.parametrize(
    "fields",
    [
        {"replication_min": -1},
        {"replication_min": 65},
        {"replication_max": 0},
        {"replication_max": -2},
        {"replication_min": 3, "replication_max": 2},
        {"tier": "mem"},
        {"tier": "../x"},
        {"tier": "SSD", "memory_only": True},
        {"inherited_ttl_ms": 5, "inherited_ttl_action": "BURN"},
    ],
)
def test_values_that_make_no_sense_are_refused(view, ids, fields):
    before = mkdir(view, ids, b"/d")
    with pytest.raises(InvalidArgumentError):
        change(view, b"/d", **fields)
    assert resolve(view, b"/d", SYSTEM).inode == before


@given(st.integers(0, 64), st.one_of(st.just(-1), st.integers(1, 64)))
def test_any_range_of_replicas_with_a_least_and_a_most_is_taken(least, most):
    policy = PathPolicy(least, most)
    if most == -1 or least <= most:
        policies.check(policy)
    else:
        with pytest.raises(InvalidArgumentError):
            policies.check(policy)


def test_memory_only_data_is_written_to_the_cache_alone(view, ids):
    mkdir(view, ids, b"/m")
    change(view, b"/m", memory_only=True)
    for asked in ("CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH"):
        with pytest.raises(InvalidArgumentError, match="memory-only"):
            write(view, ids, b"/m/f", write_type=asked)
    plan = files.plan_create(view, CreateRequest(b"/m/f", "CACHE_THROUGH"), ALICE, 5)
    default = CreateRequest(b"/m/f", "CACHE_THROUGH", write_type_given=False)
    assert policies.for_write(plan.policy, None, default)[1] == "MUST_CACHE"
    assert write(view, ids, b"/m/f").policy == PathPolicy(memory_only=True)
    assert write(view, ids, b"/ordinary/g", memory_only=True).policy == PathPolicy(memory_only=True)


def test_what_may_lie_on_a_disk_already_never_becomes_memory_only(view, ids):
    stored = sync.LoadedStatus(b"s", False, 9, 1, "fp")
    sync.apply_status(view, b"/s", stored, ROOT, 5, ids)
    attributes.set_attributes(view, SetAttrRequest(b"/s", mode=0o666), SYSTEM, 9)
    write(view, ids, b"/f")
    write(view, ids, b"/empty", length=0)
    for path in (b"/s", b"/f"):
        with pytest.raises(InvalidArgumentError, match="disk"):
            attributes.set_attributes(view, SetAttrRequest(path, memory_only=True), SYSTEM, 9)
    change(view, b"/empty", memory_only=True)
    with pytest.raises(InvalidArgumentError, match="remove it first"):
        write(view, ids, b"/s", memory_only=True)


def test_a_rename_keeps_the_policy_and_brings_nothing_ordinary_below_memory_only(view, ids):
    mkdir(view, ids, b"/m")
    change(view, b"/m", memory_only=True)
    write(view, ids, b"/m/f")
    write(view, ids, b"/ordinary")
    mkdir(view, ids, b"/d")
    for source in (b"/ordinary", b"/d"):
        with pytest.raises(OSError, match="memory-only") as refused:
            trees.rename(view, source, b"/m/x", True, ALICE, 9)
        assert refused.value.errno == errno.EXDEV
    trees.rename(view, b"/m/f", b"/m/g", True, ALICE, 9)
    out = trees.rename(view, b"/m/g", b"/g", True, ALICE, 9).inode
    assert out.policy == PathPolicy(memory_only=True)
    trees.rename(view, b"/g", b"/m/back", True, ALICE, 9)


def test_no_time_to_live_takes_a_mount_away_or_the_only_copy(view, ids):
    mkdir(view, ids, b"/a/b")
    mounts.add_mount(view, b"/a/b/m", "file:///other", {}, False, -1, SYSTEM, 9, ids)
    for path in (b"/", b"/a", b"/a/b/m"):
        with pytest.raises(InvalidArgumentError, match="mount"):
            attributes.set_attributes(view, SetAttrRequest(path, ttl_ms=5), SYSTEM, 9)
        attributes.set_attributes(view, SetAttrRequest(path, ttl_ms=5, ttl_action="FREE"), SYSTEM, 9)
    write(view, ids, b"/only", memory_only=True)
    with pytest.raises(InvalidArgumentError, match="DELETE"):
        change(view, b"/only", ttl_ms=5, ttl_action="FREE")


def test_what_cannot_be_done_yet_stands_in_nobodys_way(view, ids):
    first, second = (write(view, ids, path) for path in (b"/one", b"/two"))
    change(view, b"/one", ttl_ms=1)
    change(view, b"/two", ttl_ms=2)
    assert ttl.next_due_ms(view) == 11
    due = ttl.due(view, 100, 1)
    assert [each.file_id for each in due.expired] == [first.id]
    assert due.more
    ttl.postpone(view, due.expired, 5_000)
    assert [each.file_id for each in ttl.due(view, 100, 1).expired] == [second.id]
    assert ttl.next_due_ms(view, 100) == 5_000
    change(view, b"/one", ttl_ms=-1)
    ttl.postpone(view, due.expired, 6_000)  # removed meanwhile: it stays so
    assert ttl.next_due_ms(view, 100) is None
