"""Copies, losses and leaving workers, as the master sees them: workers here are scripts that speak the protocol."""

import asyncio
import errno
from contextlib import AsyncExitStack

import pytest

from isotach.base.errors import DataLossError, InvalidArgumentError
from isotach.base.types import Flag
from isotach.wire import messages as wire
from isotach.wire.grants import unseal

from .conftest import connected, eventually
from .scripted_worker import worker_of

QUICK = {"master__worker_timeout": "1s"}


async def holders(client, path: bytes) -> list[str]:
    cache = (await client.stat(path)).cache
    return [] if cache is None else sorted(row.worker_id for row in cache.holders)


async def is_lost(client, path: bytes) -> bool:
    return bool((await client.stat(path)).inode.flags & Flag.LOST)


async def set_policy(client, path: bytes, **fields) -> None:
    await client.call(wire.SET_ATTR, wire.SetAttrRequest(path, **fields))


async def decommission(client, worker: str, action: str) -> wire.Leaver:
    return (await client.call(wire.DECOMMISSION, wire.DecommissionRequest(worker, action))).leavers[0]


def settles(client, path: bytes, expected: int):
    async def has() -> bool:
        return len(await holders(client, path)) == expected

    return eventually(has)


def test_a_file_gets_the_copies_that_its_policy_wants_and_no_more(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
            worker_of(home, master, "w3") as three,
        ):
            inode = await one.write(client, b"/f", b"data")
            await set_policy(client, b"/f", replication_min=3)
            await settles(client, b"/f", 3)
            assert [command.dirty for command in two.commands + three.commands] == [True, True]
            await set_policy(client, b"/f", replication_min=0, replication_max=1)
            await settles(client, b"/f", 1)
            frees = [command for each in (one, two, three) for command in each.commands if command.kind == "FREE"]
            assert [command.version for command in frees] == [inode.version] * 2

    run(scenario)


def test_a_dead_holder_is_replaced_and_the_last_copy_of_unpersisted_data_never_trimmed(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
        ):
            await one.write(client, b"/f", b"data")
            await set_policy(client, b"/f", replication_min=2)
            await settles(client, b"/f", 2)
            async with worker_of(home, master, "w3"):
                two.silent = True

                async def replaced() -> bool:
                    return await holders(client, b"/f") == ["w1", "w3"]

                await eventually(replaced)
                await set_policy(client, b"/f", replication_min=0, replication_max=1)
                await settles(client, b"/f", 1)

    run(scenario)


def test_with_no_holder_left_a_copy_comes_from_the_store(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
        ):
            inode = await one.write(client, b"/f", b"data", "CACHE_THROUGH")
            await set_policy(client, b"/f", replication_min=1)
            one.silent = True

            async def replaced() -> bool:
                return await holders(client, b"/f") == ["w2"]

            await eventually(replaced)
            copy = next(command for command in two.commands if command.kind == "REPLICATE")
            assert (copy.version, copy.holders, copy.dirty) == (inode.version, [], False)

    run(scenario)


def test_an_evictable_copy_is_kept_when_the_one_that_must_stay_is_gone(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
        ):
            inode = await one.write(client, b"/f", b"data")
            two.contents, two.file_ids = {inode.version: b"data"}, {inode.version: inode.id}
            await two.report(inode.version)  # read through it once: it may evict that at any time
            assert await holders(client, b"/f") == ["w1", "w2"]
            one.silent = True

            async def kept() -> bool:
                return [command.dirty for command in two.commands if command.kind == "REPLICATE"] == [True]

            await eventually(kept)
            await settles(client, b"/f", 1)
            assert not await is_lost(client, b"/f")

    run(scenario)


def test_what_the_policy_wants_is_pinned_and_made_again_when_it_goes(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
        ):
            inode = await one.write(client, b"/f", b"data", "CACHE_THROUGH")
            await set_policy(client, b"/f", replication_min=2)
            await settles(client, b"/f", 2)
            await one.report(removed=(inode.version,))
            await settles(client, b"/f", 2)
            grants = [
                unseal(one.secret, command.grant, wire.ReadGrant, 0.0)
                for command in one.commands + two.commands
                if command.kind == "REPLICATE"
            ]
            assert [grant.pinned for grant in grants] == [True, True]
            await set_policy(client, b"/f", replication_min=0)

            async def let_go() -> bool:
                return "UNPIN" in one.kinds(inode.version) and "UNPIN" in two.kinds(inode.version)

            await eventually(let_go)

    run(scenario)


def test_a_hot_file_gets_another_copy(home, run):
    async def scenario():
        async with (
            home.master() as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2"),
        ):
            inode = await one.write(client, b"/f", b"data", "CACHE_THROUGH")
            await one.call(wire.HEARTBEAT, wire.HeartbeatRequest("w1", [], 1, [inode.version, 12345]))
            await settles(client, b"/f", 2)

    run(scenario)


def test_a_refused_copy_is_tried_again(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1") as one,
            worker_of(home, master, "w2") as two,
        ):
            two.refuse_copies = "no room"
            await one.write(client, b"/f", b"data")
            await set_policy(client, b"/f", replication_min=2)

            async def refused() -> bool:
                return "REPLICATE" in [command.kind for command in two.commands]

            await eventually(refused)
            two.refuse_copies = ""

            async def copied() -> bool:
                return len(await holders(client, b"/f")) == 2

            await eventually(copied)

    run(scenario)


def test_a_file_is_lost_with_its_last_copy_and_found_with_its_worker(home, run):
    async def scenario():
        async with (
            home.master(**QUICK) as master,
            connected(master) as client,
            worker_of(home, master, "w1", serve=False) as worker,
        ):
            inode = await worker.write(client, b"/d/f", b"data")
            await worker.write(client, b"/d/stored", b"data", "CACHE_THROUGH")

            async def lost() -> bool:
                return await is_lost(client, b"/d/f")

            await eventually(lost)
            assert not await is_lost(client, b"/d/stored")
            with pytest.raises(DataLossError, match="w1 on host-w1") as caught:
                await client.stat(b"/d/f", access=4)
            assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/d/f")
            reply = await client.call(wire.LOST, wire.LostRequest(b"/d"))
            assert [(file.path, file.worker_id, file.host) for file in reply.files] == [(b"/d/f", "w1", "host-w1")]
            assert (await client.call(wire.LOST, wire.LostRequest(b"/", recursive=False))).files == []

            await worker.register()
            assert await worker.report(inode.version, first=True, dirty=True) == []

            async def found() -> bool:
                return not await is_lost(client, b"/d/f")

            await eventually(found)
            assert (await client.call(wire.LOST, wire.LostRequest(b"/"))).files == []
            assert (await client.stat(b"/d/f", access=4)).grant

    run(scenario)


def test_what_was_lost_with_the_master_away_is_noticed_after_its_start(home, run):
    async def scenario():
        async with home.master(**QUICK) as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                await worker.write(client, b"/gone", b"data")
                kept = await worker.write(client, b"/kept", b"data")
                weak = await worker.write(client, b"/evictable", b"data")
        (home.path / "master" / "soft" / "data.mdb").unlink()  # as after a crash of the machine
        async with home.master(**QUICK) as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as again:
                again.contents = {kept.version: b"data", weak.version: b"data"}
                again.file_ids = {kept.version: kept.id, weak.version: weak.id}
                assert await again.report(kept.version, first=True, dirty=True) == []
                assert await again.report(weak.version) == []

                async def lost() -> bool:
                    await again.heartbeat()
                    return await is_lost(client, b"/gone")

                await eventually(lost)
                assert not await is_lost(client, b"/kept")
                assert not await is_lost(client, b"/evictable")
                commands = (await again.call(wire.POLL, wire.PollRequest("w1", 5000))).commands
                assert [(each.kind, each.version, each.dirty) for each in commands] == [
                    ("REPLICATE", weak.version, True)
                ]
                await client.remove(b"/gone")
                assert (await client.call(wire.LOST, wire.LostRequest(b"/"))).files == []

    run(scenario)


def test_a_worker_that_stays_away_over_a_restart_is_forgotten_in_time(home, run):
    async def scenario():
        async with home.master(**QUICK) as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                await worker.write(client, b"/f", b"data")
        async with home.master(**QUICK) as master, connected(master) as client, worker_of(home, master, "w2"):
            assert await holders(client, b"/f") == ["w1"]
            assert not await is_lost(client, b"/f")

            async def lost() -> bool:
                return await is_lost(client, b"/f")

            await eventually(lost)
            assert await holders(client, b"/f") == []
            reply = await client.call(wire.LOST, wire.LostRequest(b"/"))
            assert [file.worker_id for file in reply.files] == ["w1"]

    run(scenario)


def test_a_worker_that_the_restarted_master_knows_reports_nothing_and_is_told_what_it_missed(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                kept = await worker.write(client, b"/kept", b"data", "CACHE_THROUGH")
                gone = await worker.write(client, b"/gone", b"data", "CACHE_THROUGH")
                await worker.report(kept.version, gone.version)
                told = worker.sequence
        async with home.master() as master, connected(master) as client:
            await client.remove(b"/gone")
            # the store of locations as it is when the master dies between that change and its telling the workers
            await master.services.locations.add(gone.version, "w1", _share(gone))
        async with home.master() as master, connected(master) as client:
            async with worker_of(home, master, serve=False, sequence=told) as again:
                assert not again.reply.report_all
                assert await holders(client, b"/kept") == ["w1"]
                commands = (await again.call(wire.POLL, wire.PollRequest("w1", 2000))).commands
                assert [(command.kind, command.version) for command in commands] == [("FREE", gone.version)]
            async with worker_of(home, master, serve=False, sequence=told - 5, incarnation="another") as other:
                assert other.reply.report_all

    run(scenario)


def _share(inode):
    from isotach.master.location_rows import Share

    return Share(inode.length, inode.block_size, inode.id, False, inode.length, inode.length, b"\x01")


def test_a_worker_leaves_with_nothing_left_only_there(home, run):
    async def scenario():
        async with home.master(**QUICK) as master, connected(master) as client:
            async with worker_of(home, master, "w1") as one, worker_of(home, master, "w2") as two:
                two.refuse_copies = "no room at all"
                inode = await one.write(client, b"/f", b"data")
                await one.report(inode.version, dirty=True)
                assert (await decommission(client, "w1", "START")).state == "DECOMMISSIONING"
                assert [row.worker_id for row in (await client.create(b"/new")).workers] == ["w2"]

                async def stuck() -> bool:
                    return (await decommission(client, "w1", "ASK")).problem == "no room at all"

                await eventually(stuck)
                left = await decommission(client, "host-w1", "ASK")
                assert (left.files_left, left.bytes_left, left.state) == (1, 4, "DECOMMISSIONING")
                two.refuse_copies = ""

                async def done() -> bool:
                    return (await decommission(client, "w1", "ASK")).state == "DECOMMISSIONED"

                await eventually(done)
                assert await holders(client, b"/f") == ["w1", "w2"]
        async with home.master(**QUICK) as master, connected(master) as client:
            async with worker_of(home, master, "w1", serve=False) as one:
                states = [row.state for row in (await client.call(wire.WORKERS, wire.Empty())).workers]
                assert states == ["DECOMMISSIONED"]
                assert (await client.create(b"/new")).workers == []
                assert (await decommission(client, "w1", "CANCEL")).state == "LIVE"
                assert len((await client.create(b"/new")).workers) == 1
                with pytest.raises(InvalidArgumentError, match="w1 on host-w1"):
                    await decommission(client, "w9", "START")
                assert one.worker_id == "w1"

    run(scenario)


def test_two_hundred_workers_may_come_at_the_same_moment(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, AsyncExitStack() as stack:

            async def come(number: int) -> None:
                worker = await stack.enter_async_context(worker_of(home, master, f"w{number:03}", serve=False))
                assert (await worker.heartbeat()).known

            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(come(number))
            assert sum(row.live for row in (await client.call(wire.WORKERS, wire.Empty())).workers) == 200
            assert len((await client.create(b"/f")).workers) == 200

    run(scenario)
