"""Reads of all kinds, through real sockets: descriptors, ENSURE, READ, read types, a cache too small."""

import os
import threading

import pytest

from isotach.base.errors import AuthenticationError, StaleVersionError
from isotach.base.limits import MIB, PAGE_BYTES
from isotach.wire import messages as wire
from isotach.wire.grants import seal


def content(length: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in range(length // 8 + 1))[:length]


def read_all(connection, handle, length, step=3 * MIB):
    parts = []
    for at in range(0, length, step):
        reply, payload = connection.call(wire.READ, wire.ReadRequest(handle, at, min(step, length - at)))
        assert reply.length == len(payload)
        parts.append(bytes(payload))
    return b"".join(parts)


def test_a_cold_file_is_ensured_through_its_descriptor_and_hot_afterwards(world):
    data = content(20 * MIB + 5)
    grant = world.put_ufs("f", data)
    connection = world.connect()
    reply, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    assert reply.has_fd
    assert reply.handle
    assert not reply.complete
    at = 0
    while at < len(data):
        ensured, _ = connection.call(wire.ENSURE, wire.EnsureRequest(reply.handle, at, PAGE_BYTES))
        assert ensured.present_to > at
        assert os.pread(descriptor, ensured.present_to - at, at) == data[at : ensured.present_to]
        at = ensured.present_to
    version = next(iter(world.master.cached))
    assert world.master.cached[version].cached_bytes == len(data)  # told before the last answer
    os.close(descriptor)
    connection.call(wire.CLOSE_HANDLE, wire.HandleRequest(reply.handle))
    (world.ufs / "f").unlink()
    reply, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    assert (reply.handle, reply.complete) == (0, True)
    assert os.read(descriptor, len(data)) == data
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    os.close(descriptor)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("read_type", ["CACHE", "NO_CACHE", "CACHE_PROMOTE"])
def test_bytes_through_the_socket_cold_and_hot(world, tcp, read_type):
    data = content(11 * MIB + 77)
    grant = world.put_ufs("f", data)
    connection = world.connect(tcp=tcp)
    for _ in range(2):
        reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, read_type, want_fd=False))
        assert read_all(connection, reply.handle, len(data)) == data
        _, tail = connection.call(wire.READ, wire.ReadRequest(reply.handle, len(data) - 10, 1000))
        assert tail == data[-10:]
        _, nothing = connection.call(wire.READ, wire.ReadRequest(reply.handle, len(data) + 10, 1000))
        assert len(nothing) == 0
        connection.call(wire.CLOSE_HANDLE, wire.HandleRequest(reply.handle))
    assert bool(world.worker.store.versions()) == (read_type != "NO_CACHE")


def test_one_large_read_streams(world):
    data = content(30 * MIB)
    grant = world.put_ufs("f", data)
    connection = world.connect(tcp=True)
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, want_fd=False))
    buffer = bytearray(len(data))
    connection.call_into(wire.READ, wire.ReadRequest(reply.handle, 0, len(data)), memoryview(buffer))
    assert buffer == data


def test_a_file_larger_than_the_cache_is_read_whole(make_world, eventually):
    world = make_world(worker__mem_size="8MiB")
    data = content(40 * MIB + 1)
    grant = world.put_ufs("f", data)
    connection = world.connect()
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant))
    assert not reply.has_fd
    assert read_all(connection, reply.handle, len(data)) == data
    assert world.worker.store.tiers()[0].used_bytes <= 8 * MIB


def test_a_cache_full_of_held_files_is_passed_by(make_world):
    world = make_world(worker__mem_size="8MiB")
    connection = world.connect()
    held = world.put_ufs("held", content(7 * MIB))
    reply, _ = connection.call(wire.LOAD, wire.LoadRequest(held))
    assert reply.cached_bytes == 7 * MIB
    _, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(held))
    data = content(4 * MIB)
    grant = world.put_ufs("f", data)
    opened, _, partial = connection.call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    ensured, _ = connection.call(wire.ENSURE, wire.EnsureRequest(opened.handle, 0, MIB))
    assert ensured.present_to < MIB
    assert read_all(connection, opened.handle, len(data)) == data
    for each in (descriptor, partial):
        if each is not None:
            os.close(each)


def test_many_readers_cost_one_fetch(world):
    data = content(8 * MIB)
    grant = world.put_ufs("f", data)
    results = []

    def read():
        connection = world.connect(tcp=True)
        reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, want_fd=False))
        results.append(read_all(connection, reply.handle, len(data)))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [data] * 8
    assert "isotach_worker_fetches_total 1.0" in world.worker.metrics.registry.render().decode()


def test_random_reads_fetch_single_pages(world):
    data = content(40 * MIB)
    grant = world.put_ufs("f", data)
    connection = world.connect(tcp=True)
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, want_fd=False))
    for page in (31, 12, 22, 5):
        _, payload = connection.call(wire.READ, wire.ReadRequest(reply.handle, page * PAGE_BYTES + 9, 100))
        assert payload == data[page * PAGE_BYTES + 9 : page * PAGE_BYTES + 109]
    version = world.worker.store.versions()[0]
    assert world.worker.store.report(version).cached_bytes == 4 * PAGE_BYTES


def test_an_empty_file(world):
    grant = world.put_ufs("f", b"")
    connection = world.connect()
    reply, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    assert reply.handle == 0
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    tcp = world.connect(tcp=True)
    reply, _ = tcp.call(wire.OPEN, wire.OpenRequest(grant, want_fd=False))
    assert tcp.call(wire.READ, wire.ReadRequest(reply.handle, 0, 10))[0].length == 0


def test_a_capability_that_expired_or_was_forged_is_refused(world):
    connection = world.connect()
    stranger = wire.ReadGrant(1, 1, 1, 1, 1, b"f", None, False, 1 << 40)
    for sealed in (
        world.read_grant("f", 10, expires_s=1),
        seal(b"x" * 32, stranger),
    ):
        with pytest.raises(AuthenticationError):
            connection.call(wire.OPEN, wire.OpenRequest(sealed))


def test_a_file_that_changed_behind_our_back_is_stale_and_a_missing_one_says_where(world):
    grant = world.put_ufs("f", content(3 * MIB))
    (world.ufs / "f").write_bytes(content(4 * MIB))
    connection = world.connect()
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, want_fd=False))
    with pytest.raises(StaleVersionError):
        connection.call(wire.READ, wire.ReadRequest(reply.handle, 0, 100))
    (world.ufs / "f").unlink()
    with pytest.raises(OSError, match=str(world.ufs)):
        connection.call(wire.READ, wire.ReadRequest(reply.handle, 0, 100))
    assert not world.worker.store.versions()


def test_reads_go_on_while_the_master_is_away_and_after_a_restart_of_the_worker(world):
    data = content(2 * MIB)
    grant = world.put_ufs("f", data)
    cold = world.put_ufs("g", data)
    assert world.connect().call(wire.LOAD, wire.LoadRequest(grant))[0].cached_bytes == len(data)
    world.stop_worker()
    world.start_worker()
    assert world.master.cached
    world.master.stop()
    connection = world.connect()
    reply, _, descriptor = connection.call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    assert reply.handle == 0
    assert os.pread(descriptor, len(data), 0) == data
    os.close(descriptor)
    reply, _ = connection.call(wire.OPEN, wire.OpenRequest(cold, want_fd=False))
    assert read_all(connection, reply.handle, len(data)) == data
    world.master.start_again()
