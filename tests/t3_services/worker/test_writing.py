"""Writes of all types, their ends good and bad, and what the master asks for afterwards."""

import os

import pytest

from isotach.base.errors import StaleVersionError
from isotach.base.limits import MIB
from isotach.wire import messages as wire

from .test_reading import content

WRITE_TYPES = ("MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH")


def write(connection, grant, data, step=3 * MIB):
    handle = connection.call(wire.WRITE_OPEN, wire.WriteOpenRequest(grant))[0].handle
    for at in range(0, len(data), step):
        connection.call(wire.WRITE, wire.WriteRequest(handle, at), data[at : at + step])
    return connection.call(wire.COMMIT, wire.CommitRequest(handle, len(data)))[0].inode


@pytest.mark.parametrize("size", [0, 100, 10 * MIB + 3])
@pytest.mark.parametrize("write_type", WRITE_TYPES)
def test_a_written_file_is_where_its_type_says(world, write_type, size):
    data = content(size)
    version, grant = world.write_grant("d/f", write_type)
    inode = write(world.connect(), grant, data)
    assert (inode.version, inode.length) == (version, size)
    done = world.master.completed[version]
    goes_through = write_type in ("CACHE_THROUGH", "THROUGH")
    assert done.persisted == goes_through
    assert done.persist_later == (write_type == "ASYNC_THROUGH")
    assert (world.ufs / "d/f").exists() == goes_through
    if goes_through:
        assert (world.ufs / "d/f").read_bytes() == data
        assert done.fingerprint
    entry = world.worker.store.get(version)
    assert (entry is None) == (write_type == "THROUGH")
    if entry is not None:
        assert entry.complete
        assert entry.dirty == (not goes_through)
        assert done.holder.cached_bytes == size


@pytest.mark.parametrize("write_type", WRITE_TYPES)
def test_put_is_a_write_in_one_call(world, write_type):
    data = content(70_001)
    version, grant = world.write_grant("f", write_type)
    connection = world.connect(tcp=True)
    for _ in range(3):  # the connection's buffer is used again
        inode = connection.call(wire.PUT, wire.PutRequest(grant), data)[0].inode
        assert inode.length == len(data)
    if write_type != "THROUGH":
        entry = world.worker.store.get(version)
        descriptor = world.worker.store.open_for_sending(entry)
        assert os.pread(descriptor, 1 << 20, 0) == data
        os.close(descriptor)


@pytest.mark.parametrize("write_type", WRITE_TYPES)
def test_a_writer_that_dies_leaves_nothing(world, write_type, eventually):
    version, grant = world.write_grant("f", write_type)
    connection = world.connect()
    handle = connection.call(wire.WRITE_OPEN, wire.WriteOpenRequest(grant))[0].handle
    connection.call(wire.WRITE, wire.WriteRequest(handle, 0), content(6 * MIB))
    connection.abort()
    eventually(lambda: world.master.aborted == [version])
    assert world.worker.store.tiers()[0].used_bytes == 0
    assert os.listdir(world.folder / "mem" / "containers") == []
    assert os.listdir(world.ufs) == []


def test_an_abort_by_hand(world):
    version, grant = world.write_grant("f", "CACHE_THROUGH")
    connection = world.connect()
    handle = connection.call(wire.WRITE_OPEN, wire.WriteOpenRequest(grant))[0].handle
    connection.call(wire.WRITE, wire.WriteRequest(handle, 0), b"abc")
    connection.call(wire.WRITE_ABORT, wire.HandleRequest(handle))
    assert world.master.aborted == [version]
    assert os.listdir(world.ufs) == []


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "ASYNC_THROUGH", "CACHE_THROUGH"])
def test_a_full_cache_sends_the_write_through(make_world, write_type):
    world = make_world(worker__mem_size="4MiB")
    data = content(13 * MIB + 9)
    version, grant = world.write_grant("f", write_type)
    write(world.connect(), grant, data)
    assert (world.ufs / "f").read_bytes() == data
    assert world.master.completed[version].persisted
    assert world.master.completed[version].holder is None
    assert world.worker.store.tiers()[0].used_bytes == 0


def test_when_nothing_takes_the_bytes_the_error_says_what_is_full(make_world):
    world = make_world(worker__mem_size="4MiB")
    (world.ufs / "f").mkdir()
    _, grant = world.write_grant("f/x\0y", "MUST_CACHE", mount_id=99)
    with pytest.raises(OSError, match="MEM"):
        write(world.connect(), grant, content(9 * MIB))


def test_a_refused_commit_leaves_nothing(world):
    world.master.refuse_begin = StaleVersionError("overtaken")
    version, grant = world.write_grant("f", "CACHE_THROUGH")
    with pytest.raises(StaleVersionError):
        write(world.connect(), grant, content(100))
    assert os.listdir(world.ufs) == []
    assert world.worker.store.get(version) is None
    world.master.refuse_complete = PermissionError("no")
    version, grant = world.write_grant("g", "MUST_CACHE")
    with pytest.raises(PermissionError):
        write(world.connect(), grant, content(100))
    assert world.worker.store.get(version) is None


def test_a_secondary_keeps_its_blocks_only(world):
    version, grant = world.write_grant("f", "MUST_CACHE")
    connection = world.connect()
    handle = connection.call(wire.WRITE_OPEN, wire.WriteOpenRequest(grant, primary=False))[0].handle
    connection.call(wire.WRITE, wire.WriteRequest(handle, 4 * MIB), content(4 * MIB))
    assert connection.call(wire.COMMIT, wire.CommitRequest(handle, 9 * MIB))[0].inode is None
    assert world.master.cached[version].blocks == b"\2"
    assert world.master.cached[version].dirty


def test_persist_frees_and_pins_as_the_master_says(world, eventually):
    data = content(5 * MIB)
    version, grant = world.write_grant("f", "MUST_CACHE")
    write(world.connect(), grant, data)
    refused = world.master.command("FREE", version)
    eventually(lambda: refused in world.master.results)
    assert not world.master.results[refused].ok
    world.master.persist_path = b"moved/f"
    command = world.master.command("PERSIST", version, grant=world.read_grant("f", len(data), version))
    eventually(lambda: command in world.master.results)
    assert world.master.results[command].ok, world.master.results[command].error
    assert (world.ufs / "moved/f").read_bytes() == data
    assert not (world.ufs / "f").exists()
    assert [each.failed for each in world.master.ended] == [True, False]
    pinned = world.master.command("PIN", version)
    eventually(lambda: pinned in world.master.results)
    assert world.worker.store.get(version).pinned
    freed = world.master.command("FREE", version)
    eventually(lambda: freed in world.master.results)
    assert world.master.results[freed].ok
    assert version not in world.master.cached


def test_a_persist_that_was_overtaken_is_no_failure(world, eventually):
    version, grant = world.write_grant("f", "MUST_CACHE")
    write(world.connect(), grant, content(100))
    command = world.master.command("PERSIST", version, grant=world.read_grant("f", 100, version))
    eventually(lambda: command in world.master.results)
    assert world.master.results[command].ok
    assert os.listdir(world.ufs) == []


def test_what_the_master_calls_obsolete_is_dropped(world, eventually):
    version, grant = world.write_grant("f", "MUST_CACHE")
    world.master.obsolete.add(version)
    write(world.connect(), grant, content(100))
    eventually(lambda: world.worker.store.get(version) is None)


def test_a_master_that_forgot_the_worker_hears_everything_again(world, eventually):
    version, grant = world.write_grant("f", "MUST_CACHE")
    write(world.connect(), grant, content(100))
    eventually(lambda: version in world.master.cached)
    world.master.cached.clear()
    world.master.known.clear()
    eventually(lambda: version in world.master.cached)
    assert world.worker.worker_id in world.master.known


def test_another_worker_gets_checked_bytes(world):
    from isotach.base.errors import DataCorruptionError
    from isotach.wire.grants import prove

    from .conftest import SECRET

    data = content(6 * MIB)
    version, grant = world.write_grant("f", "MUST_CACHE")
    connection = world.connect(tcp=True)
    write(connection, grant, data)
    proof = prove(SECRET, version.to_bytes(8, "little"))
    request = wire.FetchVersionRequest(version, MIB + 5, 3 * MIB, proof)
    assert connection.call(wire.FETCH_VERSION, request)[1] == data[MIB + 5 : 4 * MIB + 5]
    with pytest.raises(PermissionError):
        connection.call(wire.FETCH_VERSION, wire.FetchVersionRequest(version, 0, 10, b"x" * 16))
    with open(world.folder / "mem" / "containers" / f"{version:016x}", "r+b") as file:
        file.seek(2 * MIB)
        file.write(b"XX")
    with pytest.raises(DataCorruptionError):
        connection.call(wire.FETCH_VERSION, request)


@pytest.mark.parametrize("size", [100, 9 * MIB])
@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
def test_a_write_by_id_goes_to_where_the_file_is_by_then(world, write_type, size):
    data = content(size)
    version, grant = world.write_grant("f", write_type, by_id=True)
    world.master.moved_to = b"g"
    if write_type == "THROUGH" and size > MIB:  # these bytes are in the store only, under the old name
        with pytest.raises(StaleVersionError, match="write it again"):
            write(world.connect(), grant, data)
        assert not list(world.ufs.iterdir())
        return
    assert write(world.connect(), grant, data).version == version
    assert (world.ufs / "g").read_bytes() == data
    assert not (world.ufs / "f").exists()


def test_a_write_to_a_path_does_not_follow_the_file(world):
    _, grant = world.write_grant("f", "CACHE_THROUGH")
    world.master.moved_to = b"g"
    with pytest.raises(StaleVersionError, match="write it again"):
        write(world.connect(), grant, b"data")
    assert not list(world.ufs.iterdir())
