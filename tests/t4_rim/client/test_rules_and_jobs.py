"""Rules of paths and jobs from Python: the blocking client and its asynchronous twin."""

import asyncio

import pytest

import isotach
from isotach.base.types import PathPolicy


def test_a_file_begins_with_what_its_directory_and_its_writer_say(real_fs, folder):
    real_fs.mkdir(f"{folder}/d")
    real_fs.set_policy(f"{folder}/d", placement="hash", tier="mem")
    assert real_fs.set_replication(f"{folder}/d", 1, 2).changed == 1
    real_fs.write(f"{folder}/d/f", b"data", replication=(1, 3), memory_only=True)
    assert real_fs.stat(f"{folder}/d/f").policy == PathPolicy(1, 3, "MEM", memory_only=True, placement="HASH")
    counts = real_fs.set_ttl(f"{folder}/d", 60, recursive=True, inherit=True)
    assert counts == isotach.ChangeCounts(2, 0)
    assert real_fs.stat(f"{folder}/d/f").ttl == 60
    assert real_fs.stat(f"{folder}/d").ttl is None
    with pytest.raises(isotach.InvalidArgumentError, match="the least number"):
        real_fs.set_replication(f"{folder}/d")
    with pytest.raises(isotach.InvalidArgumentError, match="replication"):
        real_fs.set_replication(f"{folder}/d", 5, 2)


def test_a_load_that_leaves_something_undone_raises(real_fs, folder):
    for name in "ab":
        real_fs.write(f"{folder}/d/{name}", b"data", write_type="THROUGH")
    job = real_fs.jobs.load(f"{folder}/d", replicas=60)
    ended = real_fs.jobs.wait(job.id)
    assert ended.has_ended
    with pytest.raises(isotach.JobFailedError, match="fewer than 60 workers"):
        ended.check()
    seen: list[isotach.JobInfo] = []
    job = real_fs.jobs.wait(real_fs.jobs.load(f"{folder}/d", verify=True).id, seen.append)
    assert (job.state, job.files_done, seen[-1]) == ("DONE", 2, job)
    assert real_fs.free_counts(f"{folder}/d") == isotach.FreeCounts(2, 0, 0)


def test_the_asynchronous_twin_does_the_same(cluster, folder):
    async def work() -> None:
        async with await isotach.connect_async(cluster.address) as fs:
            await fs.mkdir(f"{folder}/m")
            await fs.set_policy(f"{folder}/m", memory_only=True)
            await fs.write(f"{folder}/m/empty", b"")
            await fs.write(f"{folder}/m/f", b"secret")
            assert (await fs.stat(f"{folder}/m/f")).policy.memory_only
            await fs.pin(f"{folder}/m", tier="MEM")
            assert (await fs.stat(f"{folder}/m/f")).pinned
            await fs.unpin(f"{folder}/m")
            await fs.set_replication(f"{folder}/m", min=1)
            await fs.write(f"{folder}/d/f", b"data", write_type="CACHE_THROUGH")
            assert await fs.free(f"{folder}/d") == 1
            assert await fs.load(f"{folder}/d") == 1
            done = await fs.jobs.wait((await fs.jobs.persist(f"{folder}/m")).id)
            assert (done.state, done.files_skipped) == ("DONE", 2)
            assert done.id in [job.id for job in await fs.jobs.list()]
            assert (await fs.jobs.cancel(done.id)).state == (await fs.jobs.status(done.id)).state == "DONE"

    asyncio.run(work())
