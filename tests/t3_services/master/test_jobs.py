"""Jobs: loads spread over workers, resumed, honest about what failed; and persistence of a subtree."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import TierInfo
from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire
from isotach.wire.grants import unseal

from .conftest import connected, eventually
from .scripted_worker import ScriptedWorker, worker_of


class Loader(ScriptedWorker):
    """Loads from the folder that is the under storage. `broken` files fail that often; `full` takes nothing in."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.broken: dict[str, int] = {}
        self.full = False
        self.silent = False

    async def _carry_out(self, command: wire.Command) -> wire.CommandResult:
        if command.kind != "LOAD":
            return await super()._carry_out(command)
        self.commands.append(command)
        if self.silent:
            await asyncio.sleep(3600)
        grant = unseal(self.secret, command.grant, wire.ReadGrant, 0.0)
        name = grant.ufs_path.decode()
        if self.broken.get(name, 0) > 0:
            self.broken[name] -= 1
            return wire.CommandResult(command.command_id, False, f"{name} could not be read")
        if self.full:
            return wire.CommandResult(command.command_id, True, cached_bytes=0)
        self.contents[command.version] = (self.store / name).read_bytes()
        self.file_ids[command.version] = grant.file_id
        await self.report(command.version)
        return wire.CommandResult(command.command_id, True, cached_bytes=grant.length)


@asynccontextmanager
async def loader_of(home, master, worker_id: str = "w1"):
    connection = await AsyncConnection.open(master.address)
    worker = Loader(connection, worker_id, (home.path / "secret").read_bytes(), home.store)
    await worker.register()
    await worker.report(first=True)
    polling = asyncio.create_task(worker.serve())
    try:
        yield worker
    finally:
        polling.cancel()
        await asyncio.wait([polling])
        await connection.close()


def fill(home, count: int, folder: str = "d") -> None:
    for index in range(count):
        target = home.store / folder / f"s{index % 3}" / f"{index:04}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x" * 10)


async def submit(client, path: bytes = b"/d", kind: str = "LOAD", **fields) -> int:
    return (await client.call(wire.JOB_SUBMIT, wire.JobSubmitRequest(kind, path, **fields))).job.job_id


async def ended(client, job_id: int) -> wire.JobRow:
    row = (await client.call(wire.JOB_STATUS, wire.JobRequest(job_id, 15_000))).job
    assert row.ended_ms, row
    return row


def test_a_load_takes_listings_in_and_spreads_the_files_over_all_workers(home, run):
    async def scenario():
        fill(home, 1300)
        async with home.master() as master, connected(master) as client:
            async with loader_of(home, master) as one, loader_of(home, master, "second") as two:
                row = await ended(client, await submit(client))
                assert (row.state, row.files_done, row.bytes_done) == ("DONE", 1300, 13_000), row
                assert (row.files_total, row.bytes_total, row.listed) == (1300, 13_000, True)
                assert len(one.contents) + len(two.contents) == 1300
                assert min(len(one.contents), len(two.contents)) > 400
                again = await ended(client, await submit(client))  # all is there: nothing is asked of a worker
                assert (again.state, again.files_done) == ("DONE", 1300)
                assert len(one.commands) + len(two.commands) == 1300

    run(scenario)


def test_a_load_reports_what_failed_and_what_vanished(home, run):
    async def scenario():
        fill(home, 9)
        async with home.master() as master, connected(master) as client, loader_of(home, master) as worker:
            worker.broken = {"d/s0/0003": 2, "d/s1/0004": 99, "d/s2/0005": 99}
            job_id = await submit(client, follow=True)

            async def tried() -> bool:
                return len(worker.commands) >= 9

            await eventually(tried)
            (home.store / "d/s2/0005").unlink()
            row = await ended(client, job_id)
            assert (row.state, row.files_done, row.files_failed) == ("FAILED", 7, 1), row
            assert row.files_skipped == 1
            assert [(each.path, each.error) for each in row.failures] == [
                (b"/d/s1/0004", "d/s1/0004 could not be read")
            ]
            followed = await client.call(wire.JOB_STATUS, wire.JobRequest(job_id, files_after=0))
            assert len(followed.files) == followed.files_next == 7
            assert (await client.call(wire.JOB_LIST, wire.Empty())).jobs[0].job_id == job_id

    run(scenario)


def test_what_has_no_room_is_not_loaded_over_what_was(home, run):
    async def scenario():
        fill(home, 4)
        (home.store / "d/huge").write_bytes(b"")
        with (home.store / "d/huge").open("r+b") as file:
            file.truncate(2 << 30)
        async with home.master() as master, connected(master) as client, loader_of(home, master) as worker:
            row = await ended(client, await submit(client))
            assert (row.state, row.files_done, row.files_unfit, row.bytes_unfit) == ("FAILED", 4, 1, 2 << 30), row
            worker.full = True
            fill(home, 2, "e")
            row = await ended(client, await submit(client, b"/e"))
            assert (row.state, row.files_done, row.files_unfit) == ("FAILED", 0, 2), row

    run(scenario)


def test_the_files_of_a_lost_worker_go_to_another(home, run):
    async def scenario():
        fill(home, 40)
        async with home.master(master__worker_timeout="1s") as master, connected(master) as client:
            async with loader_of(home, master) as deaf:
                deaf.silent = True
                job_id = await submit(client)

                async def waits() -> bool:
                    return bool(deaf.commands)

                await eventually(waits)
                async with loader_of(home, master, "second") as good:
                    async with asyncio.TaskGroup() as group:
                        beating = group.create_task(_beat(good))
                        row = await ended(client, job_id)
                        beating.cancel()
                    assert (row.state, row.files_done) == ("DONE", 40), row
                    assert len(good.contents) == 40

    run(scenario)


async def _beat(worker: ScriptedWorker) -> None:
    while True:
        request = wire.HeartbeatRequest(worker.worker_id, [TierInfo("MEM", 1 << 30, 0)])
        await worker.call(wire.HEARTBEAT, request)
        await asyncio.sleep(0.1)


def test_a_job_goes_on_after_a_restart_and_may_be_cancelled(home, run):
    async def scenario():
        fill(home, 30)
        async with home.master() as master, connected(master) as client:
            job_id = await submit(client)
            assert await submit(client) == job_id  # the same wish is the same job
        async with home.master() as master, connected(master) as client:
            row = (await client.call(wire.JOB_STATUS, wire.JobRequest(job_id))).job
            assert row.state == "RUNNING"
            async with loader_of(home, master):
                assert (await ended(client, job_id)).files_done == 30
        async with home.master() as master, connected(master) as client:
            assert (await ended(client, job_id)).state == "DONE"
            other = await submit(client, b"/d", recursive=False, replicas=2)
            waits = await submit(client, b"/d/s0")
            assert (await client.call(wire.JOB_CANCEL, wire.JobRequest(waits))).job.state == "CANCELLED"
            assert (await ended(client, other)).state == "DONE"  # no file directly in it
            with pytest.raises(FileNotFoundError, match="no job"):
                await client.call(wire.JOB_STATUS, wire.JobRequest(1))
            with pytest.raises(FileNotFoundError):
                await submit(client, b"/nothing")
            with pytest.raises(InvalidArgumentError, match="replicas"):
                await submit(client, replicas=0)

    run(scenario)


def test_fewer_copies_than_asked_for_are_no_success(home, run):
    async def scenario():
        fill(home, 4)
        async with home.master() as master, connected(master) as client, loader_of(home, master):
            row = await ended(client, await submit(client, replicas=2))
            assert (row.state, row.files_done) == ("FAILED", 4), row
            assert "4 files are held by fewer than 2 workers" in row.problem
            async with loader_of(home, master, "second"):
                row = await ended(client, await submit(client, replicas=2))
                assert (row.state, row.files_done, row.problem) == ("DONE", 4, ""), row

    run(scenario)


def test_a_cancelled_job_counts_each_file_once(home, run):
    async def scenario():
        fill(home, 9)
        async with home.master() as master, connected(master) as client, loader_of(home, master) as worker:
            worker.broken = {"d/s0/0003": 99}
            job_id = await submit(client)

            async def all_but_one() -> bool:
                return (await client.call(wire.JOB_STATUS, wire.JobRequest(job_id))).job.files_done == 8

            await eventually(all_but_one)
            row = (await client.call(wire.JOB_CANCEL, wire.JobRequest(job_id))).job
            assert (row.state, row.files_done) == ("CANCELLED", 8), row

    run(scenario)


def test_metadata_alone_is_loaded_without_any_worker(home, run):
    async def scenario():
        fill(home, 700)
        async with home.client() as client:
            row = await ended(client, await submit(client, metadata_only=True))
            assert (row.state, row.files_done, row.files_total) == ("DONE", 700, 700), row
            assert len(await client.list(b"/d/s1", -1)) == 233
            (home.store / "d/s1/new").write_bytes(b"found by asking anew")
            assert (await ended(client, await submit(client, metadata_only=True))).files_done == 701
            assert len(await client.list(b"/d/s1", -1)) == 234

    run(scenario)


def test_persistence_of_a_subtree_is_a_job_that_says_what_it_left(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            await client.mkdir(b"/d/m", parents=True)
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/d/m", memory_only=True))
            await worker.write(client, b"/d/m/secret", b"never")
            for index in range(5):
                await worker.write(client, b"/d/%d" % index, b"data")
            await worker.write(client, b"/d/stored", b"data", "CACHE_THROUGH")
            row = await ended(client, await submit(client, kind="PERSIST"))
            assert (row.state, row.files_done, row.files_skipped, row.files_total) == ("DONE", 5, 1, 6), row
            assert sorted(path.name for path in (home.store / "d").iterdir() if path.is_file()) == [*"01234", "stored"]
            with pytest.raises(InvalidArgumentError, match="memory-only"):
                await submit(client, b"/d/m/secret", kind="PERSIST")

    run(scenario)
