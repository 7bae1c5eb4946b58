"""Reads that go around a tier which is slower than the store, and come back to it."""

import os

from isotach.base.limits import DETOUR_SAMPLES_MIN, MIB
from isotach.wire import messages as wire

from .conftest import MOUNT_ID
from .test_reading import content

DATA = content(3 * MIB + 7)


def measured(world, tier_s: float, store_s: float, times: int = DETOUR_SAMPLES_MIN) -> None:
    detour = world.worker._reading.bypass._detour
    for _ in range(times):
        detour.note_tier("HDD", MIB, tier_s)
        detour.note_store(MOUNT_ID, MIB, store_s)


def opened(world, grant: bytes):
    reply, _, descriptor = world.connect().call_with_fd(wire.OPEN, wire.OpenRequest(grant))
    if descriptor is not None:
        os.close(descriptor)
    return reply


def read(world, handle: int) -> bytes:
    return bytes(world.connections[-1].call(wire.READ, wire.ReadRequest(handle, 0, len(DATA)))[1])


def disk_world(make_world, tmp_path, **more: str):
    return make_world(worker__mem_size="0", worker__tiers=f"HDD:{tmp_path}/hdd:64MiB", **more)


def load(world) -> bytes:
    grant = world.put_ufs("f", DATA)
    assert world.connect().call(wire.LOAD, wire.LoadRequest(grant))[0].cached_bytes == len(DATA)
    return grant


def test_a_slow_tier_is_read_around_and_used_again_when_it_is_quick(make_world, tmp_path):
    world = disk_world(make_world, tmp_path)
    grant = load(world)
    assert opened(world, grant).has_fd
    measured(world, 1.0, 0.01)
    reply = opened(world, grant)
    assert (reply.has_fd, reply.complete) == (False, False)
    assert read(world, reply.handle) == DATA
    assert world.worker.metrics.bypassed_bytes.value == len(DATA)
    assert world.worker._reading.bypass.tiers_around() == {("HDD",): 1.0}
    measured(world, 0.001, 0.01, times=200)
    assert read(world, reply.handle) == DATA, "a handle comes back, too"
    assert world.worker.metrics.bypassed_bytes.value == len(DATA)
    assert opened(world, grant).has_fd


def test_what_is_cold_is_not_put_into_a_slow_tier(make_world, tmp_path):
    world = disk_world(make_world, tmp_path)
    load(world)
    measured(world, 1.0, 0.01)
    grant = world.put_ufs("g", DATA)
    before = world.worker.store.versions()
    reply = opened(world, grant)
    assert read(world, reply.handle) == DATA
    assert world.worker.store.versions() == before


def test_it_can_be_turned_off(make_world, tmp_path):
    world = disk_world(make_world, tmp_path, worker__bypass="off")
    grant = load(world)
    measured(world, 1.0, 0.01)
    assert opened(world, grant).has_fd
