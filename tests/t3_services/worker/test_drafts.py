"""Drafts that a mount writes itself: their room, their publishing for every write type, and what outlives whom.

Owns: the worker's side of DRAFT_*, with a mount that is this test. Never: mounts anything.
"""

import contextlib
import errno
import os

import pytest

from isotach.base.errors import InvalidArgumentError, StaleVersionError, UfsError
from isotach.base.limits import DRAFT_BYTES_MAX, MIB
from isotach.blockstore.checksum import page_checksums
from isotach.net.blocking_client import BlockingConnection
from isotach.wire import messages as wire

from .fake_master import RENEWED
from .test_reading import content

WRITE_TYPES = ("MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH")
GIB = 1024 * MIB


class Mount:
    """A mount's side: a session, and files that it has open."""

    def __init__(self, world, key: bytes | None = None) -> None:
        self.world = world
        self.key = key or os.urandom(16)
        self.connection = self.connect()

    def connect(self) -> BlockingConnection:
        connection = self.world.connect()
        connection.call(wire.DRAFT_SESSION, wire.DraftSessionRequest(self.key))
        return connection

    def open(self, grant: bytes, room: int = 0) -> "File":
        request = wire.DraftOpenRequest(self.key, grant, room)
        reply, _, descriptor = self.connection.call_with_fd(wire.DRAFT_OPEN, request)
        return File(self, grant, reply, descriptor)

    def die(self) -> None:
        self.connection.close()


class File:
    def __init__(self, mount: Mount, grant: bytes, opened: wire.DraftOpenReply, descriptor: int) -> None:
        self.mount, self.grant, self.opened, self.descriptor = mount, grant, opened, descriptor
        self.tier = opened.tier

    def write(self, data: bytes, offset: int = 0) -> None:
        assert os.pwrite(self.descriptor, data, offset) == len(data)

    def room(self, size: int) -> wire.DraftRoomReply:
        request = wire.DraftRoomRequest(self.mount.key, self.opened.draft, size)
        reply, _, descriptor = self.mount.connection.call_with_fd(wire.DRAFT_ROOM, request)
        if reply.moved:
            os.close(self.descriptor)
            self.descriptor = descriptor
        self.tier = reply.tier
        return reply

    def sync(self, length: int) -> None:
        request = wire.DraftSyncRequest(self.mount.key, self.opened.draft, self.grant, length)
        self.mount.connection.call(wire.DRAFT_SYNC, request)

    def publish(self, length: int, grant: bytes = b"", **fields):
        request = wire.DraftPublishRequest(self.mount.key, self.opened.draft, grant or self.grant, length, **fields)
        return self.mount.connection.call(wire.DRAFT_PUBLISH, request)[0].inode

    def drop(self) -> None:
        self.mount.connection.call(wire.DRAFT_CLOSE, wire.DraftRequest(self.mount.key, self.opened.draft))

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


@pytest.fixture
def opened(request):
    """Files that the test opened; their descriptors are closed after it."""
    files: list[File] = []
    yield files
    for file in files:
        file.close()


def granted(world, write_type="MUST_CACHE", name="f", file_id=77, **fields):
    return world.write_grant(name, write_type, by_id=True, file_id=file_id, **fields)


def begin(world, opened, write_type="MUST_CACHE", room=0, **fields) -> tuple[int, File]:
    version, grant = granted(world, write_type, **fields)
    file = Mount(world).open(grant, room)
    opened.append(file)
    return version, file


def cached(world, version: int) -> bytes | None:
    entry = world.worker.store.get(version)
    if entry is None:
        return None
    assert entry.complete
    descriptor = world.worker.store.open_for_sending(entry)
    try:
        data = os.pread(descriptor, entry.meta.length + 1, 0)
    finally:
        os.close(descriptor)
    assert list(world.worker.store.pages_of(entry).crcs) == page_checksums(data)
    return data


def used(world) -> int:
    return sum(tier.used_bytes for tier in world.worker.store.tiers())


def files_of(world, tier: str = "mem") -> list[str]:
    return sorted(path.name for path in (world.folder / tier / "containers").iterdir())


@pytest.mark.parametrize("size", [0, 10 * MIB + 3])
@pytest.mark.parametrize("write_type", WRITE_TYPES)
def test_a_published_draft_is_where_its_type_says(world, opened, write_type, size):
    data = content(size)
    version, file = begin(world, opened, write_type, room=size)
    file.write(data)
    inode = file.publish(size, mtime_ns=12_345)
    assert (inode.version, inode.length) == (version, size)
    done = world.master.completed[version]
    goes_through = write_type in ("CACHE_THROUGH", "THROUGH")
    assert (done.persisted, done.persist_later) == (goes_through, write_type == "ASYNC_THROUGH")
    assert done.mtime_ns == 12_345
    assert cached(world, version) == (None if write_type == "THROUGH" else data)
    if goes_through:
        assert (world.ufs / "f").read_bytes() == data
    else:
        assert done.holder.cached_bytes == size
        assert not (world.ufs / "f").exists()
    assert files_of(world) == ([] if write_type == "THROUGH" else [f"{version:016x}"])
    assert used(world) == (0 if write_type == "THROUGH" else (size + 4095) // 4096 * 4096)
    assert file.publish(size) == inode  # sent again: the same answer


@pytest.mark.parametrize("write_type", WRITE_TYPES)
def test_keep_publishes_a_copy_and_the_draft_goes_on(world, opened, write_type):
    first, second = content(2 * MIB + 5), content(3 * MIB)
    version, file = begin(world, opened, write_type, room=3 * MIB)
    file.write(first)
    assert file.publish(len(first), keep=True).version == version
    later, grant = granted(world, write_type)
    file.write(second)
    if write_type != "THROUGH":
        assert cached(world, version) == first
    assert file.publish(len(second), grant).version == later
    assert cached(world, later) == (None if write_type == "THROUGH" else second)
    if write_type in ("CACHE_THROUGH", "THROUGH"):
        assert (world.ufs / "f").read_bytes() == second
    if write_type != "THROUGH":
        world.worker.store.free(version, force=True)
        world.worker.store.free(later, force=True)
    assert used(world) == 0


def test_the_length_asked_for_holds(world, opened):
    for number, length in enumerate((100, 5 * MIB)):
        version, file = begin(world, opened, file_id=80 + number)
        file.write(b"x" * MIB)
        file.publish(length)
        assert cached(world, version) == (b"x" * MIB)[:length] + bytes(max(0, length - MIB))


def test_a_renamed_file_goes_to_its_present_place_in_the_store(world, opened):
    data = content(9 * MIB)
    version, file = begin(world, opened, "CACHE_THROUGH", room=len(data))
    file.write(data)
    world.master.moved_to = b"g"
    assert file.publish(len(data)).version == version
    assert (world.ufs / "g").read_bytes() == data
    assert not (world.ufs / "f").exists()


def test_a_removed_file_drops_its_content(world, opened):
    world.master.refuse_complete = StaleVersionError(errno.ENOENT, "the file was removed")
    version, file = begin(world, opened)
    file.write(b"data")
    assert file.publish(4) is None
    assert (cached(world, version), used(world), files_of(world)) == (None, 0, [])


def test_an_overtaken_write_is_told_so_and_may_be_published_by_another_grant(world, opened):
    world.master.refuse_complete = StaleVersionError(errno.ESTALE, "a later write")
    version, file = begin(world, opened)
    file.write(b"data")
    with pytest.raises(StaleVersionError, match="later write"):
        file.publish(4)
    assert cached(world, version) is None
    world.master.refuse_complete = None
    later, grant = granted(world)
    assert file.publish(4, grant).version == later
    assert (cached(world, later), files_of(world)) == (b"data", [f"{later:016x}"])


def test_another_try_helps_when_the_master_could_not(world, opened):
    world.master.refuse_complete = OSError(errno.ENOSPC, "no space for metadata")
    version, file = begin(world, opened, "ASYNC_THROUGH")
    file.write(b"data")
    with pytest.raises(OSError, match="no space"):
        file.publish(4)
    assert cached(world, version) is None
    world.master.refuse_complete = None
    file.write(b"DATA")
    assert file.publish(4).version == version + RENEWED  # a grant is used once
    assert cached(world, version + RENEWED) == b"DATA"
    assert files_of(world) == [f"{version + RENEWED:016x}"]


def test_a_kept_draft_that_is_published_by_the_same_grant_again_has_its_new_bytes(world, opened):
    version, file = begin(world, opened)
    file.write(b"data")
    assert file.publish(4, keep=True).version == version
    file.write(b"DATA")
    assert file.publish(4, keep=True).version == version + RENEWED
    assert (cached(world, version), cached(world, version + RENEWED)) == (b"data", b"DATA")


@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
def test_another_try_helps_when_the_store_was_down(world, opened, write_type):
    data = content(5 * MIB)
    version, file = begin(world, opened, write_type, room=len(data))
    file.write(data)
    hidden = world.ufs.rename(world.folder / "away")
    with pytest.raises((UfsError, OSError)):
        file.publish(len(data))
    hidden.rename(world.ufs)
    assert file.publish(len(data)).version == version + RENEWED
    assert (world.ufs / "f").read_bytes() == data


# --- room ---


def test_a_full_tier_sends_the_draft_to_the_next(make_world, opened, tmp_path):
    world = make_world(worker__mem_size="16MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:128MiB")
    data = content(12 * MIB)
    version, file = begin(world, opened, room=12 * MIB)
    assert (file.tier, file.opened.room) == ("MEM", 12 * MIB)
    file.write(data)
    reply = file.room(20 * MIB)
    assert (reply.moved, reply.tier) == (True, "SSD")
    file.write(data, 8 * MIB)
    assert file.publish(20 * MIB).version == version
    assert cached(world, version) == data[: 8 * MIB] + data
    assert (used(world), files_of(world)) == (20 * MIB, [])


def test_no_room_anywhere(make_world, opened):
    world = make_world(worker__mem_size="16MiB")
    _, file = begin(world, opened, room=8 * MIB)
    with pytest.raises(OSError, match="no tier has room") as full:
        file.room(20 * MIB)
    assert full.value.errno == errno.ENOSPC
    assert file.room(12 * MIB).room == 12 * MIB
    file.drop()
    file.drop()  # sent again
    assert (used(world), files_of(world)) == (0, [])


def test_room_is_made_by_evicting_what_is_clean(make_world, opened):
    world = make_world(worker__mem_size="16MiB")
    clean, first = begin(world, opened, "CACHE_THROUGH", room=10 * MIB)
    first.write(content(10 * MIB))
    first.publish(10 * MIB)
    first.close()
    version, second = begin(world, opened, file_id=78)
    second.room(10 * MIB)
    second.write(content(10 * MIB))
    second.publish(10 * MIB)
    assert cached(world, clean) is None
    assert cached(world, version) == content(10 * MIB)


def test_what_was_written_without_asking_is_counted(world, opened):
    _, file = begin(world, opened)
    file.write(content(6 * MIB))
    file.publish(6 * MIB)
    assert used(world) == 6 * MIB


def test_memory_only_drafts_never_leave_memory(make_world, opened, tmp_path):
    from isotach.base.types import PathPolicy

    if not os.path.ismount("/dev/shm"):
        pytest.skip("needs a tmpfs at /dev/shm")
    folder = f"/dev/shm/isotach-test-{os.urandom(4).hex()}"
    world = make_world(worker__mem_dir=folder, worker__mem_size="16MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:128MiB")
    try:
        _, file = begin(world, opened, policy=PathPolicy(memory_only=True))
        file.room(8 * MIB)
        with pytest.raises(OSError, match="memory"):
            file.room(40 * MIB)
        assert file.tier == "MEM"
    finally:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


# --- sparse files ---


def test_holes_stay_holes_and_count_for_nothing(world, opened):
    version, file = begin(world, opened)
    file.write(b"begin")
    file.write(b"middle", 40 * MIB + 5)
    file.publish(100 * MIB + 3)
    data = cached(world, version)
    assert data[:5] == b"begin"
    assert data[40 * MIB + 5 :][:6] == b"middle"
    assert len(data) == 100 * MIB + 3
    assert data.count(0) == len(data) - 11
    assert used(world) < MIB
    assert world.worker.store.verify(world.worker.store.get(version), force=True) == 0
    before = used(world)
    world.stop_worker()
    world.start_worker()
    assert used(world) == before
    assert len(cached(world, version)) == len(data)
    world.worker.store.free(version, force=True)
    assert used(world) == 0


def test_a_sparse_file_of_two_tebibytes(world, opened):
    length = 2 * 1024 * GIB
    version, file = begin(world, opened)
    file.write(b"x", length - 1)
    assert file.publish(length).length == length
    entry = world.worker.store.get(version)
    assert entry.complete
    assert used(world) <= MIB
    assert world.worker.store.verify(entry, force=True) == 0
    world.worker.store.free(version, force=True)


def test_what_is_longer_than_a_mount_takes_is_refused(world, opened):
    _, file = begin(world, opened)
    with pytest.raises(OSError, match="too long") as problem:
        file.publish(DRAFT_BYTES_MAX + 1)
    assert problem.value.errno == errno.EFBIG
    with pytest.raises(OSError, match="too long"):
        file.room(DRAFT_BYTES_MAX + 1)


# --- sessions ---


@pytest.fixture
def hasty(monkeypatch):
    """Sessions that are not taken over end soon."""
    from isotach.worker import draft_sessions, drafts

    monkeypatch.setattr(draft_sessions, "DRAFT_TAKE_OVER_S", 0.2)
    monkeypatch.setattr(drafts, "DRAFT_SALVAGE_RETRY_S", 0.1)


def test_a_session_is_taken_over(world, opened):
    version, file = begin(world, opened)
    file.write(b"before")
    file.mount.die()
    file.mount.connection = file.mount.connect()
    file.write(b"after", 6)
    assert file.publish(11).version == version
    assert cached(world, version) == b"beforeafter"


def test_a_lost_session_drops_what_was_not_synced(world, opened, eventually, hasty):
    _, file = begin(world, opened, room=4 * MIB)
    file.write(b"data")
    file.mount.die()
    eventually(lambda: (used(world), files_of(world)) == (0, []))
    with pytest.raises(FileNotFoundError):
        Mount(world, file.mount.key).world.connect().call(
            wire.DRAFT_ROOM, wire.DraftRoomRequest(file.mount.key, file.opened.draft, 1)
        )


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_lost_session_publishes_what_was_synced(world, opened, eventually, hasty, is_alive):
    """A mount that lives but lost its connection must not be able to change what was published."""
    version, file = begin(world, opened, "ASYNC_THROUGH")
    file.write(b"synced")
    file.sync(6)
    file.write(b" and more", 6)
    if not is_alive:
        file.close()
    file.mount.die()
    salvaged = version + RENEWED
    eventually(lambda: salvaged in world.master.completed)
    eventually(lambda: files_of(world) == [f"{salvaged:016x}"])
    if is_alive:
        file.write(b"CHANGED")
    assert cached(world, salvaged) == b"synced"
    done = world.master.completed[salvaged]
    assert done.persist_later
    assert done.mtime_ns


def test_salvage_waits_for_the_master_and_gives_way_to_later_writes(world, opened, eventually, hasty):
    world.master.refuse_create = OSError(errno.ENOSPC, "no space for metadata")
    version, file = begin(world, opened)
    file.write(b"synced")
    file.sync(6)
    file.close()
    file.mount.die()
    eventually(lambda: world.worker._drafts._left)
    world.master.refuse_create = None
    eventually(lambda: version + RENEWED in world.master.completed)

    world.master.refuse_create = StaleVersionError(errno.ESTALE, "a later write")
    _, other = begin(world, opened, file_id=90)
    other.write(b"synced")
    other.sync(6)
    other.close()
    other.mount.die()
    eventually(lambda: files_of(world) == [f"{version + RENEWED:016x}"])


def test_a_new_process_of_the_worker_goes_on_with_the_drafts(world, opened):
    version, file = begin(world, opened, room=4 * MIB)
    file.write(b"before")
    world.stop_worker()
    world.start_worker()
    file.mount.connection = file.mount.connect()
    file.write(b"after", 6)
    assert file.room(6 * MIB).moved is False
    assert file.publish(11).version == version + RENEWED
    version += RENEWED
    assert cached(world, version) == b"beforeafter"
    world.worker.store.free(version, force=True)
    assert used(world) == 0


def test_a_new_process_publishes_what_was_synced_and_drops_the_rest(world, opened, eventually, hasty):
    version, file = begin(world, opened)
    file.write(b"synced")
    file.sync(6)
    _, other = begin(world, opened, file_id=90)
    other.write(b"not")
    for each in (file, other):
        each.close()
        each.mount.die()
    world.stop_worker()
    world.start_worker()
    salvaged = version + RENEWED
    eventually(lambda: files_of(world) == [f"{salvaged:016x}"])
    assert cached(world, salvaged) == b"synced"
    assert world.master.renewed == [version]


def test_drafts_are_for_mounts_of_the_same_host_and_their_own_files(world, opened):
    version, grant = granted(world)
    with pytest.raises(InvalidArgumentError, match="Unix socket"):
        world.connect(tcp=True).call(wire.DRAFT_SESSION, wire.DraftSessionRequest(os.urandom(16)))
    mount = Mount(world)
    with (
        pytest.raises(InvalidArgumentError, match="by id"),
        contextlib.closing(mount.open(world.write_grant("f", "MUST_CACHE")[1])),
    ):
        pass
    file = mount.open(grant)
    opened.append(file)
    with pytest.raises(InvalidArgumentError, match="another file"):
        file.publish(0, granted(world, file_id=78)[1])
    with pytest.raises(FileNotFoundError, match="session"):
        mount.connection.call(wire.DRAFT_OPEN, wire.DraftOpenRequest(b"?" * 16, grant))
    assert file.publish(0).version == version


def test_a_draft_is_there_again_with_its_folder(make_world, opened, eventually, tmp_path):
    ssd = tmp_path / "ssd"
    world = make_world(worker__mem_size="0", worker__tiers=f"SSD:{ssd}:128MiB")
    version, file = begin(world, opened, "ASYNC_THROUGH")
    file.write(b"synced")
    file.sync(6)
    service, drafts = world.worker.store._service, world.worker._drafts
    ssd.rename(tmp_path / "away")
    service.check()
    with pytest.raises(OSError, match="out of service"):
        file.publish(6)
    (tmp_path / "away").rename(ssd)
    service.check()
    drafts._adopt_found()
    assert file.publish(6).version == version + RENEWED
    assert cached(world, version + RENEWED) == b"synced"
