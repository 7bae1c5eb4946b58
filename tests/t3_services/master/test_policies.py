"""Policies, times to live and freeing, at a real master with scripted workers."""

import pytest

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import Flag, PathPolicy
from isotach.wire import messages as wire
from isotach.wire.grants import unseal

from .conftest import connected, eventually
from .scripted_worker import worker_of


async def set_attr(client, path, **fields):
    return await client.call(wire.SET_ATTR, wire.SetAttrRequest(path, **fields))


def test_a_write_carries_the_policy_of_its_directory_to_the_worker(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            await client.mkdir(b"/m")
            await set_attr(client, b"/m", memory_only=True, pinned=True)
            created = await client.create(b"/m/f", "ASYNC_THROUGH", write_type_given=False)
            assert created.write_type == "MUST_CACHE"
            grant = unseal(worker.secret, created.grant, wire.WriteGrant, 0.0)
            assert (grant.write_type, grant.pinned, grant.policy) == ("MUST_CACHE", True, PathPolicy(memory_only=True))
            inode = await worker.write(client, b"/m/f", b"secret")
            assert not inode.flags & Flag.TO_PERSIST
            read = unseal(worker.secret, (await client.stat(b"/m/f", 4)).grant, wire.ReadGrant, 0.0)
            assert read.memory_only
            assert read.pinned
            with pytest.raises(InvalidArgumentError, match="memory-only"):
                await client.call(wire.PERSIST, wire.PersistRequest(b"/m/f"))
            assert await client.call(wire.PERSIST, wire.PersistRequest(b"/m")) == wire.CountReply(0, 1)

    run(scenario)


def test_a_recursive_change_leaves_out_what_it_makes_no_sense_for(home, run):
    async def scenario():
        async with home.client() as client:
            await client.write(b"/d/s/full", 7)
            await client.write(b"/d/s/empty")
            reply = await set_attr(client, b"/d", memory_only=True, recursive=True)
            assert (reply.count, reply.skipped) == (3, 1)
            assert (await client.stat(b"/d/s")).inode.policy == PathPolicy(memory_only=True)
            assert (await client.stat(b"/d/s/full")).inode.policy is None
            with pytest.raises(InvalidArgumentError, match="LOCAL_FIRST"):
                await set_attr(client, b"/d", placement="NEAREST")

    run(scenario)


def test_a_pin_to_a_tier_is_told_to_who_holds_it(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            inode = await worker.write(client, b"/d/f", b"data")
            await set_attr(client, b"/d", pinned=True, tier="SSD", recursive=True)
            await set_attr(client, b"/d", pinned=False, tier="", recursive=True)

            async def told() -> bool:
                return [(each.kind, each.tier) for each in worker.commands] == [("PIN", "SSD"), ("UNPIN", "")]

            await eventually(told)
            assert {each.version for each in worker.commands} == {inode.version}

    run(scenario)


def test_times_to_live_end_when_they_end_not_at_the_next_round(home, run):
    async def scenario():
        async with home.client(master__ttl_check_interval="1d") as client:
            await client.write(b"/late")
            await set_attr(client, b"/late", ttl_ms=3_600_000)
            await client.write(b"/soon")
            await set_attr(client, b"/soon", ttl_ms=30)

            async def gone() -> bool:
                return not await client.exists(b"/soon")

            await eventually(gone, 5.0)
            assert await client.exists(b"/late")

    run(scenario)


def test_thousands_that_end_at_once_go_in_slices(home, run):
    async def scenario():
        async with home.client(master__ttl_check_interval="1d") as client:
            await client.mkdir(b"/d")
            await set_attr(client, b"/d", inherited_ttl_ms=300)
            for index in range(1200):
                await client.write(b"/d/%d" % index)

            async def gone() -> bool:
                return not await client.list(b"/d", -1)

            await eventually(gone)
            assert await client.exists(b"/d")

    run(scenario)


def test_a_time_to_live_persists_what_it_frees(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            inode = await worker.write(client, b"/d/f", b"only here")
            await set_attr(client, b"/d", ttl_ms=20, ttl_action="FREE")

            async def persisted() -> bool:
                return bool((await client.stat(b"/d/f")).inode.flags & Flag.PERSISTED)

            await eventually(persisted)
            assert worker.kinds(inode.version)[:1] == ["PERSIST"]
            assert (await client.stat(b"/d")).inode.expires_ms > 0  # tried again, now that it may be freed
            assert worker.contents[inode.version] == b"only here"

    run(scenario)


def test_a_free_by_force_ends_pins_and_replication_minimums(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            for name in (b"/d/pinned", b"/d/copies", b"/d/plain"):
                await worker.write(client, name, b"data", "CACHE_THROUGH")
            await worker.write(client, b"/d/dirty", b"data")
            await set_attr(client, b"/d/pinned", pinned=True)
            await set_attr(client, b"/d/copies", replication_min=1)
            reply = await client.call(wire.FREE, wire.PathRequest(b"/d", recursive=True))
            assert reply == wire.CountReply(1, 3, unpersisted=1, pinned=2)
            reply = await client.call(wire.FREE, wire.PathRequest(b"/d", recursive=True, force=True))
            assert reply == wire.CountReply(3, 1, unpersisted=1)
            assert not (await client.stat(b"/d/pinned")).inode.flags & Flag.PINNED
            assert (await client.stat(b"/d/copies")).inode.policy is None
            assert list(worker.contents.values()) == [b"data"]  # what only the cache holds stays

    run(scenario)


def test_what_has_a_mount_inside_by_now_stays_and_is_not_tried_all_the_time(home, run):
    async def scenario():
        other = home.path / "other"
        other.mkdir()
        async with home.client() as client:
            await client.mkdir(b"/d")
            await set_attr(client, b"/d", ttl_ms=300)
            await client.call(wire.MOUNT, wire.MountRequest(b"/d/m", str(other)))
            before = (await client.stat(b"/d")).inode.expires_ms

            async def postponed() -> bool:
                return (await client.stat(b"/d")).inode.expires_ms > before + 1_000_000

            await eventually(postponed)
            assert await client.exists(b"/d/m")

    run(scenario)
