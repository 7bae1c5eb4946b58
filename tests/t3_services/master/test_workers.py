"""Workers: registration, locations, commands, commits, and what happens when they fall silent."""

import asyncio

import pytest

from isotach.base.errors import AuthenticationError, StaleVersionError, UfsError
from isotach.base.types import Flag
from isotach.ufs.local.status import fingerprint_of
from isotach.wire import messages as wire

from .conftest import connected, eventually
from .scripted_worker import worker_of


async def cached_bytes(client, path: bytes) -> int:
    cache = (await client.stat(path)).cache
    return 0 if cache is None else cache.cached_bytes


def test_a_stranger_cannot_register(home, run):
    async def scenario():
        async with home.client() as client:
            request = wire.RegisterRequest("w", "h", "isotach://h:1", "", "k", [], b"no proof at all!")
            with pytest.raises(AuthenticationError):
                await client.call(wire.REGISTER, request)

    run(scenario)


def test_a_completed_write_is_located_at_once(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            inode = await worker.write(client, b"/f", b"x" * 100)
            assert await cached_bytes(client, b"/f") == 100
            reply = await client.call(wire.LOCATIONS, wire.LocationsRequest([inode.version, 1]))
            assert [[row.worker_id for row in rows] for rows in reply.holders] == [["w1"], []]

    run(scenario)


def test_an_overwritten_version_is_freed(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            first = await worker.write(client, b"/f", b"one")
            second = await worker.write(client, b"/f", b"two!")
            assert second.id == first.id

            async def freed() -> bool:
                return worker.kinds(first.version) == ["FREE"]

            await eventually(freed)
            assert worker.commands[0].force
            await client.remove(b"/f")

            async def all_freed() -> bool:
                return worker.kinds(second.version) == ["FREE"]

            await eventually(all_freed)

    run(scenario)


def test_a_report_names_what_is_obsolete(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            inode = await worker.write(client, b"/f", b"data")
            pending = await client.create(b"/being-written")
            worker.contents |= {12345: b"gone", pending.version: b"part"}
            worker.file_ids |= {12345: 999, pending.version: 998}
            assert await worker.report(inode.version, 12345, pending.version, first=True) == [12345]
            assert await cached_bytes(client, b"/f") == 4

    run(scenario)


def test_a_lost_worker_holds_nothing_and_may_come_back(home, run):
    async def scenario():
        async with (
            home.master(master__worker_timeout="1s") as master,
            connected(master) as client,
            worker_of(home, master, serve=False) as worker,
        ):
            inode = await worker.write(client, b"/f", b"data")
            assert await cached_bytes(client, b"/f") == 4

            async def forgotten() -> bool:
                return await cached_bytes(client, b"/f") == 0

            await eventually(forgotten)
            assert [row.live for row in (await client.call(wire.WORKERS, wire.Empty())).workers] == [False]
            assert not (await worker.heartbeat()).known
            await worker.register()
            assert await worker.report(inode.version, first=True) == []
            assert (await worker.heartbeat()).known
            assert await cached_bytes(client, b"/f") == 4

    run(scenario)


def test_a_write_through_is_committed_under_an_intent(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            created = await client.create(b"/d/f", "CACHE_THROUGH")
            begun = await worker.begin(grant=created.grant)
            assert begun.ufs_path == b"d/f"
            assert await worker.begin(grant=created.grant) == begun
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 1
            rename = asyncio.create_task(client.mkdir(b"/d"))  # must wait for the commit
            (home.store / "d").mkdir()
            (home.store / "d" / "f").write_bytes(b"abc")
            complete = wire.CompleteRequest(created.grant, 3, "fp", persisted=True, holder=worker.holder(3))
            inode = (await worker.call(wire.COMPLETE, complete)).inode
            with pytest.raises(FileExistsError):
                await rename
            assert inode.flags & Flag.PERSISTED
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 0

    run(scenario)


def test_a_commit_that_is_given_up_leaves_the_path_free(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            created = await client.create(b"/f", "CACHE_THROUGH")
            begun = await worker.begin(grant=created.grant)
            await worker.call(wire.END_COMMIT, wire.EndCommitRequest(begun.intent_id, created.version, failed=True))
            assert not await client.exists(b"/f")
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 0
            await client.mkdir(b"/f")

    run(scenario)


def test_an_overtaken_write_is_refused(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            slow = await client.create(b"/f", "CACHE_THROUGH")
            await worker.write(client, b"/f", b"later")
            with pytest.raises(StaleVersionError):
                await worker.begin(grant=slow.grant)
            with pytest.raises(StaleVersionError):
                await worker.call(wire.COMPLETE, wire.CompleteRequest(slow.grant, 3))

    run(scenario)


def test_an_asynchronous_write_is_persisted_under_its_present_name(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                await worker.write(client, b"/a", b"data", "ASYNC_THROUGH")
                await client.rename(b"/a", b"/b")
                polling = asyncio.create_task(worker.serve())

                async def persisted() -> bool:
                    return bool((await client.stat(b"/b")).inode.flags & Flag.PERSISTED)

                await eventually(persisted)
                polling.cancel()
            assert (home.store / "b").read_bytes() == b"data"
            assert not (home.store / "a").exists()

    run(scenario)


def test_a_removed_file_is_not_persisted(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master, serve=False) as worker:
            inode = await worker.write(client, b"/a", b"data", "ASYNC_THROUGH")
            await client.remove(b"/a")
            with pytest.raises(StaleVersionError):
                await worker.begin(version=inode.version)
            assert (await client.call(wire.STATUS, wire.Empty())).persist_queue == 0

    run(scenario)


def test_a_failed_persist_is_tried_again_and_tells_who_waits(home, run):
    async def scenario():
        overrides = {"master__persist_retry_initial": "50ms"}
        async with home.master(**overrides) as master, connected(master) as client, worker_of(home, master) as worker:
            worker.refuse_persist = "s3://bucket/f: the store is out of order"
            await worker.write(client, b"/f", b"data")
            with pytest.raises(UfsError, match="s3://bucket/f"):
                await client.call(wire.PERSIST, wire.PersistRequest(b"/f"))
            worker.refuse_persist = ""

            async def persisted() -> bool:
                return bool((await client.stat(b"/f")).inode.flags & Flag.PERSISTED)

            async def told() -> bool:
                return "MARK_PERSISTED" in [command.kind for command in worker.commands]

            await eventually(persisted)
            await eventually(told)

    run(scenario)


def test_the_queue_survives_a_restart(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                inode = await worker.write(client, b"/f", b"data", "ASYNC_THROUGH")
        async with home.master() as master, connected(master) as client:
            assert (await client.call(wire.STATUS, wire.Empty())).persist_queue == 1
            async with worker_of(home, master) as again:
                again.contents, again.file_ids = {inode.version: b"data"}, {inode.version: inode.id}
                assert await again.report(inode.version, first=True, dirty=True) == []
                await client.call(wire.PERSIST, wire.PersistRequest(b"/f"))
                assert (home.store / "f").read_bytes() == b"data"

    run(scenario)


def test_free_drops_what_is_persisted_and_only_that(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            await worker.write(client, b"/d/kept", b"only here")
            freed = await worker.write(client, b"/d/freed", b"data", "CACHE_THROUGH")
            reply = await client.call(wire.FREE, wire.PathRequest(b"/d", recursive=True))
            assert (reply.count, reply.skipped) == (1, 1)
            assert worker.kinds(freed.version) == ["FREE"]
            assert await cached_bytes(client, b"/d/freed") == 0
            assert await cached_bytes(client, b"/d/kept") == 9

    run(scenario)


def test_a_commit_that_outlives_the_master_is_completed_with_the_next_one(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            async with worker_of(home, master, serve=False) as worker:
                created = await client.create(b"/f", "CACHE_THROUGH")
                await worker.begin(grant=created.grant)
                (home.store / "f").write_bytes(b"abc")
        async with home.master() as master, connected(master) as client:
            complete = wire.CompleteRequest(created.grant, 3, "fp", persisted=True)
            inode = (await client.call(wire.COMPLETE, complete)).inode
            assert (inode.version, inode.length) == (created.version, 3)
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 0

    run(scenario)


@pytest.mark.parametrize("removed", [True, False])
def test_what_a_worker_stores_after_its_lease_is_taken_back_when_the_file_is_gone(home, run, removed):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master, serve=False) as worker:
            inode = await worker.write(client, b"/f", b"data", "ASYNC_THROUGH")

            commits = []

            async def begun() -> bool:
                try:
                    commits.append(await worker.begin(version=inode.version))
                except StaleVersionError:
                    return False  # not handed out yet
                return True

            await eventually(begun)
            master.services.commits.give_up(worker.worker_id)  # as the end of the lease does
            if removed:
                await client.remove(b"/f")
            (home.store / "f").write_bytes(b"data")
            fingerprint = fingerprint_of((home.store / "f").stat())
            late = wire.EndCommitRequest(commits[0].intent_id, inode.version, fingerprint)
            with pytest.raises(StaleVersionError, match="lease"):
                await worker.call(wire.END_COMMIT, late)
            assert (home.store / "f").exists() is not removed

    run(scenario)


def test_a_commit_that_goes_on_is_renewed_and_one_that_is_over_is_not(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            created = await client.create(b"/f", write_type="CACHE_THROUGH")
            begun = await worker.begin(grant=created.grant)
            renewal = wire.BeginCommitRequest(b"", created.version, worker.worker_id, renew=True)
            assert (await worker.call(wire.BEGIN_COMMIT, renewal)).intent_id == begun.intent_id
            await worker.call(wire.END_COMMIT, wire.EndCommitRequest(begun.intent_id, created.version, failed=True))
            with pytest.raises(StaleVersionError):
                await worker.call(wire.BEGIN_COMMIT, renewal)
            await client.mkdir(b"/f")  # the path is free

    run(scenario)
