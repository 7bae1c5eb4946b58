"""Loads as jobs on a whole cluster: over several workers, through deaths of workers and of the master, and honest."""

import os
import signal
from pathlib import Path

import pytest

import isotach

from .conftest import BUCKET


@pytest.fixture
def cluster(start) -> isotach.Cluster:
    return start(workers=2, worker__host_key="elsewhere", master__worker_timeout="2s")


@pytest.fixture
def objects(s3, bucket) -> dict[str, bytes]:
    """300 objects of 20 kB below /s3."""
    made = {f"{number % 7}/{number:03}": os.urandom(20_000) for number in range(300)}
    for name, data in made.items():
        s3.put_object(Bucket=BUCKET, Key=f"{bucket}/{name}", Body=data)
    return made


def test_all_workers_take_part_and_what_is_verified_is_right(fs, objects, eventually):
    assert fs.load("/s3", verify=True) == 300
    infos = [info for info in fs.list("/s3", recursive=True) if not info.is_dir]
    assert {info.cached_percent for info in infos} == {100}
    held = [location.workers for info in infos[:60] for location in fs.locations(info.path)]
    assert len({worker for workers in held for worker in workers}) == 2
    assert all(fs.read(f"/s3/{name}") == data for name, data in list(objects.items())[:20])
    assert fs.load("/s3", replicas=2) == 300
    eventually(lambda: min(info.copies for info in fs.list("/s3/0")) == 2)


def test_a_load_outlives_a_worker_and_the_master(cluster, fs, objects):
    job = fs.jobs.load("/s3", bandwidth=1_500_000)
    os.kill(cluster.worker_pids[1], signal.SIGKILL)
    os.kill(cluster.master_pid, signal.SIGKILL)
    done = fs.jobs.wait(job.id)
    assert (done.state, done.files_done, done.files_failed) == ("DONE", len(objects), 0), done
    assert all(info.cached_percent == 100 for info in fs.list("/s3", recursive=True) if not info.is_dir)


def test_what_is_larger_than_the_cache_is_said_to_be(start, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    for number in range(40):
        (store / f"{number:02}").write_bytes(os.urandom(1 << 20))
    cluster = start(name="small", mem="16MiB")
    with isotach.connect(cluster.address) as fs:
        fs.mount("/big", str(store))
        with pytest.raises(isotach.JobFailedError, match="did not fit"):
            fs.load("/big")
        job = fs.jobs.list()[0]
        assert job.state == "FAILED"
        assert job.files_done + job.files_unfit == 40
        assert job.files_failed == 0
        cached = sum(info.cached_percent == 100 for info in fs.list("/big"))
        assert cached == job.files_done >= 8  # what was loaded stayed


@pytest.mark.parametrize("passing", [1, 2])
def test_a_master_that_dies_at_a_save_goes_on_from_the_one_before(start, tmp_path, monkeypatch, passing):
    store = tmp_path / "store"
    store.mkdir()
    for number in range(700):
        (store / f"{number:03}").write_bytes(b"%d" % number)
    marker = tmp_path / "died"
    monkeypatch.setenv("ISOTACH_TEST_FAILPOINT", f"master.before_job_save:{passing}@{marker}")
    cluster = start(name="killed")
    with isotach.connect(cluster.address) as fs:
        fs.mount("/d", str(store))
        assert fs.load("/d") == 700
        assert marker.exists()
        # A submission that is sent again is the same job, or finds that all is done.
        for job in fs.jobs.list():
            assert (job.state, job.files_done, job.files_total) == ("DONE", 700, 700)
