"""The read service on snapshots: what it answers at once, what it forwards first, and the bytes of its listings."""

import asyncio
import inspect
from types import SimpleNamespace

import msgspec
import pytest

from isotach.base.types import BlockHolder, CacheState, Flag, Inode
from isotach.kv.memory_store import MemoryStore
from isotach.master.reader import ReadService
from isotach.namespace import attributes, counters, directories, entries, files, mounts
from isotach.namespace.actor import SYSTEM, Actor
from isotach.namespace.first_attributes import Asked
from isotach.namespace.lookup import resolve
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.wire.grants import unseal
from isotach.wire.messages import (
    Empty,
    ListEntry,
    ListRequest,
    LocationsRequest,
    ReadGrant,
    ResolveIdRequest,
    SetAttrRequest,
    StatRequest,
    WriteGrant,
)

SECRET = b"s" * 32
ROOT, BOB = Peer("root"), Peer("bob")


@pytest.fixture
def world():
    store, soft = MemoryStore(), MemoryStore()
    asked = []

    def run(change):
        view = View(store.frozen())
        result = change(view)
        store.commit(view.batch())
        return result

    async def forward(request, _peer):
        asked.append(request)
        for change in world.on_forward:
            run(change)

    ids = run(counters.IdAllocator.open)
    run(lambda v: mounts.ensure_root(v, "file:///root", {"key": "secret"}, "root", "root", 1))
    service = ReadService(
        namespace=store.renewable_snapshot(),
        cache_states=soft.renewable_snapshot(),
        secret=SECRET,
        actor_of=lambda peer: Actor(peer.user, frozenset(peer.groups), peer.user == "root"),
        forward=forward,
        mask=lambda options: dict.fromkeys(options, "***"),
        now_s=lambda: 1000.0,
    )
    world = SimpleNamespace(soft=soft, run=run, ids=ids, service=service, asked=asked, on_forward=[])
    return world


def answer(world, method, request, peer=ROOT):
    """(reply, whether it came at once)."""
    world.service.renew()
    result = method(request, peer)
    if inspect.iscoroutine(result):
        return asyncio.run(result), False
    return result, True


def write(world, path, *, persisted=True, length=5, mode=0o644):
    grant = WriteGrant(
        version=world.ids.allocate(), file_id=world.ids.allocate(), path=path, user="root", groups=[], superuser=True,
        write_type="MUST_CACHE", mode=mode, block_size=4, overwrite=True, ttl_ms=-1, ttl_action="DELETE",
        pinned=False, mount_id=1, ufs_path=b"", expires_s=0,
    )  # fmt: skip
    fingerprint = "f" if persisted else None
    return world.run(
        lambda v: files.complete_file(v, grant, length, fingerprint, 0, persisted, False, 9, world.ids)
    ).inode


def loaded(world, path):
    """The directory at `path` counts as listed."""

    def change(view):
        found = resolve(view, path, SYSTEM)
        after = msgspec.structs.replace(found.inode, flags=int(found.inode.flags | Flag.CHILDREN_LOADED))
        entries.store(view, found.parent_id, found.name, found.inode, after)

    world.run(change)


def test_a_known_path_is_answered_at_once(world):
    inode = write(world, b"/d/f")
    state = CacheState(5, 5, [BlockHolder("w", 5, 5, b"\3")])
    world.soft.commit([(inode.version.to_bytes(8, "big"), msgspec.msgpack.encode(state))])

    for _ in range(2):
        reply, at_once = answer(world, world.service.stat, StatRequest(b"/d/f"))
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=type(reply))
        assert (sent.inode, sent.cache, sent.ufs_uri, sent.grant, at_once) == (
            inode,
            state,
            "file:///root/d/f",
            b"",
            True,
        )
    assert world.asked == []


def test_a_change_is_seen_after_renewing(world):
    write(world, b"/d/f")
    answer(world, world.service.stat, StatRequest(b"/d/f"))
    world.run(lambda v: attributes.set_attributes(v, SetAttrRequest(b"/d", mode=0o700), SYSTEM, 9))

    with pytest.raises(PermissionError):
        answer(world, world.service.stat, StatRequest(b"/d/f"), BOB)
    assert answer(world, world.service.stat, StatRequest(b"/d"))[0].inode.mode == 0o700


def test_reading_gives_a_grant_and_needs_permission(world):
    inode = write(world, b"/f", mode=0o640)
    unsaved = write(world, b"/g", persisted=False)

    reply, _ = answer(world, world.service.stat, StatRequest(b"/f", access=4))
    other, _ = answer(world, world.service.stat, StatRequest(b"/g", access=4))

    grant = unseal(SECRET, reply.grant, ReadGrant, 1000.0)
    assert (grant.version, grant.ufs_path, grant.fingerprint, grant.length) == (inode.version, b"f", "f", 5)
    assert unseal(SECRET, other.grant, ReadGrant, 1000.0).ufs_path is None
    assert unsaved.version != inode.version
    with pytest.raises(PermissionError):
        answer(world, world.service.stat, StatRequest(b"/f", access=4), BOB)
    assert answer(world, world.service.stat, StatRequest(b"/", access=4))[0].grant == b""


def test_a_path_that_is_missing_is_asked_for_first(world):
    with pytest.raises(FileNotFoundError):
        answer(world, world.service.stat, StatRequest(b"/new/f"))
    world.on_forward.append(
        lambda v: directories.make_directory(v, b"/new/f", Asked(), True, True, SYSTEM, 9, world.ids, True)
    )
    reply, at_once = answer(world, world.service.stat, StatRequest(b"/new/f"))

    assert reply.inode.is_dir
    assert not at_once
    assert [request.path for request in world.asked] == [b"/new/f", b"/new/f"]


def test_an_interval_decides_whether_a_known_path_is_asked_for(world):
    world.run(lambda v: mounts.add_mount(v, b"/m", "s3://b", {}, False, 0, SYSTEM, 1, world.ids))
    write(world, b"/m/f")
    write(world, b"/f")

    expected = {
        (b"/f", None): True,
        (b"/f", 0): False,
        (b"/f", 500): False,
        (b"/m/f", None): False,
        (b"/m/f", -1): True,
    }
    found = {
        (path, interval): answer(world, world.service.stat, StatRequest(path, sync_interval_ms=interval))[1]
        for path, interval in expected
    }

    assert found == expected


def test_what_the_walk_itself_refuses_is_never_asked_for(world):
    write(world, b"/f")
    world.run(lambda v: directories.make_directory(v, b"/shut", Asked(0o700), False, False, SYSTEM, 9, world.ids, True))

    with pytest.raises(NotADirectoryError):
        answer(world, world.service.stat, StatRequest(b"/f/x"))
    with pytest.raises(PermissionError):
        answer(world, world.service.stat, StatRequest(b"/shut/x"), BOB)
    for hostile in (b"", b"relative", b"//", b"/a//b", b"/../x", b"/f/"):
        with pytest.raises((OSError, ValueError)):
            answer(world, world.service.stat, StatRequest(hostile))
    assert all(request.path not in (b"/f/x", b"/shut/x") for request in world.asked)


def listing(world, request, peer=ROOT):
    reply, at_once = answer(world, world.service.list, request, peer)
    return reply.reply, msgspec.msgpack.decode(reply.payload, type=list[ListEntry]), at_once


def test_a_listing_is_paged_in_byte_order_with_cache_states(world):
    inodes = {b"f%02d" % index: write(world, b"/d/f%02d" % index) for index in range(7)}
    state = CacheState(5, 5, [BlockHolder("w", 5, 5, b"\3")])
    world.soft.commit([(inodes[b"f03"].version.to_bytes(8, "big"), msgspec.msgpack.encode(state))])
    loaded(world, b"/d")

    found, after = [], b""
    while True:
        reply, rows, at_once = listing(world, ListRequest(b"/d", after, 3))
        found += rows
        assert at_once
        if not reply.more:
            break
        after = rows[-1].name

    assert [(row.name, row.inode) for row in found] == sorted(inodes.items())
    assert [row.name for row in found if row.cache == state] == [b"f03"]
    assert reply.ufs_uri == "file:///root/d"


def test_a_directory_never_listed_is_asked_for_on_its_first_page_only(world):
    write(world, b"/d/f")
    _, rows, at_once = listing(world, ListRequest(b"/d"))
    _, _, second_at_once = listing(world, ListRequest(b"/d", b"a"))

    assert ([row.name for row in rows], at_once, second_at_once) == ([b"f"], False, True)
    assert [(request.path, request.children) for request in world.asked] == [(b"/d", True)]


def test_a_file_lists_itself_and_a_directory_needs_read(world):
    inode = write(world, b"/d/f")
    reply, rows, _ = listing(world, ListRequest(b"/d/f"))
    assert (reply.more, rows) == (False, [ListEntry(b"", inode, None)])

    world.run(lambda v: attributes.set_attributes(v, SetAttrRequest(b"/d", mode=0o711), SYSTEM, 9))
    with pytest.raises(PermissionError):
        listing(world, ListRequest(b"/d"), BOB)


def test_a_page_is_bounded_in_bytes(world, monkeypatch):
    monkeypatch.setattr("isotach.master.reader.LIST_PAGE_BYTES_MAX", 100)
    for index in range(20):
        write(world, b"/d/f%02d" % index)
    loaded(world, b"/d")

    reply, rows, _ = listing(world, ListRequest(b"/d"))

    assert reply.more
    assert 0 < len(rows) < 20


def test_mounts_come_without_secrets_and_locations_and_paths_by_id(world):
    inode: Inode = write(world, b"/d/f")
    state = CacheState(5, 5, [BlockHolder("w", 5, 5, b"\3")])
    world.soft.commit([(inode.version.to_bytes(8, "big"), msgspec.msgpack.encode(state))])

    assert answer(world, world.service.mounts, Empty())[0].mounts[0].options == {"key": "***"}
    assert answer(world, world.service.locations, LocationsRequest([inode.version, 7]))[0].holders == [
        state.holders,
        [],
    ]
    assert answer(world, world.service.resolve_id, ResolveIdRequest(inode.id))[0].path == b"/d/f"
