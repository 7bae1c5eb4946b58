"""Workers that are killed or frozen in the middle of reads, writes and moves between tiers: speed is lost, data is not.

Owns: faults of worker processes. Never: the network between them (`test_partitions.py`) or their folders
(`test_folder_faults.py`).
"""

import os
import signal
import threading
import time

import pytest

import isotach

MIB = 1 << 20
pytestmark = pytest.mark.usefixtures("three_fs")


def holders(fs: isotach.FileSystem, path: str) -> set[str]:
    return {worker for location in fs.locations(path) for worker in location.workers}


def worker_named(cluster: isotach.Cluster, worker_id: str):
    return next(worker for worker in cluster.workers if worker.worker_id == worker_id)


def all_live(fs: isotach.FileSystem) -> bool:
    """All workers are there, and what was lost with them is found again."""
    return sum(worker.live for worker in fs.workers()) == 3 and not list(fs.lost("/"))


@pytest.mark.fault("worker killed while a client reads", "the read goes on at another worker or from the store")
@pytest.mark.parametrize("way", ["descriptor", "stream", "cold"])
def test_killed_in_the_middle_of_a_read(three, three_fs, eventually, way):
    data = os.urandom(24 * MIB)
    three_fs.write("/t/read", data, write_type="CACHE_THROUGH")
    if way == "cold":
        three_fs.free("/t/read")
        eventually(lambda: three_fs.stat("/t/read").cached_percent == 0)
    host_key = "elsewhere" if way == "descriptor" else None
    with isotach.connect(three.address, client__host_key=host_key) as client, client.open("/t/read") as stream:
        got = [stream.read(MIB)]
        for pid in three.worker_pids:
            os.kill(pid, signal.SIGKILL)
        got.append(stream.read())
    assert b"".join(got) == data
    eventually(lambda: all_live(three_fs), timeout=20)
    assert three_fs.read("/t/read") == data


@pytest.mark.fault("worker killed while clients write", "a write is whole or absent; what was acknowledged is there")
@pytest.mark.parametrize(
    ("write_type", "victims"), [("MUST_CACHE", (0, 2)), ("CACHE_THROUGH", (1, 2)), ("ASYNC_THROUGH", (0, 1))]
)
def test_killed_in_the_middle_of_writes(three, three_fs, eventually, write_type, victims):
    written: dict[str, bytes] = {}
    stop = threading.Event()

    def write() -> None:
        with isotach.connect(three.address, write_location_policy="ROUND_ROBIN") as client:
            number = 0
            while not stop.is_set():
                number += 1
                data = os.urandom(700_000)
                try:
                    client.write(f"/t/{number}", data, write_type=write_type, block_size=MIB, replication=(2, 3))
                except (isotach.IsotachError, OSError):
                    continue
                written[f"/t/{number}"] = data

    writer = threading.Thread(target=write)
    writer.start()
    for victim in victims:
        before = len(written)
        eventually(lambda before=before: len(written) >= before + 3, timeout=20, message="no write works")
        os.kill(three.worker_pids[victim], signal.SIGKILL)
    before = len(written)
    eventually(lambda: len(written) >= before + 3, timeout=20, message="no write works after the kill")
    stop.set()
    writer.join()
    eventually(lambda: all_live(three_fs), timeout=20)
    for path, data in written.items():
        assert three_fs.read(path) == data
    for info in three_fs.list("/t"):
        assert info.path in written or info.length == 700_000


@pytest.mark.fault("worker killed for good with one of two copies", "the copies are made up to the minimum elsewhere")
def test_a_lost_copy_is_restored_elsewhere(three, three_fs, eventually):
    data = os.urandom(3 * MIB)
    three_fs.write("/t/twice", data, write_type="MUST_CACHE", replication=(2, 2))
    eventually(lambda: len(holders(three_fs, "/t/twice")) == 2, timeout=20, message="the second copy is not made")
    first = min(holders(three_fs, "/t/twice"))
    victim = worker_named(three, first)
    three.stop_worker(victim.number)
    try:
        eventually(
            lambda: len(holders(three_fs, "/t/twice") - {first}) == 2,
            timeout=30,
            message="the copy is not restored",
        )
        assert three_fs.read("/t/twice") == data
    finally:
        three.add_worker(victim.number)
    eventually(lambda: all_live(three_fs), timeout=20)
    eventually(lambda: len(holders(three_fs, "/t/twice")) == 2, timeout=30, message="too many copies stay")
    assert three_fs.read("/t/twice") == data


@pytest.mark.fault("worker killed while it demotes", "every file is whole in one tier or the other; no container leaks")
def test_killed_in_the_middle_of_demotion(three, three_fs, eventually):
    """The disk tier gets what the memory tier has no room for, and the worker dies again and again meanwhile."""
    contents = {}
    for number in range(36):
        data = os.urandom(3 * MIB)
        three_fs.write(f"/t/{number}", data, write_type="MUST_CACHE")
        contents[f"/t/{number}"] = data
        if number % 18 == 14:  # seldom enough for the supervisor, which gives up on what dies all the time
            for pid in three.worker_pids:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: all_live(three_fs) and -1 not in three.worker_pids, timeout=20)
    for path, data in contents.items():
        assert three_fs.read(path) == data, f"{path} differs"
    three_fs.remove("/t", recursive=True)
    eventually(lambda: not used_bytes(three_fs), timeout=20, message="space stays taken")


def used_bytes(fs: isotach.FileSystem) -> int:
    return sum(tier.used_bytes for worker in fs.workers() for tier in worker.tiers)


@pytest.mark.fault(
    "worker frozen for longer than the time-out", "reads go elsewhere; thawed, its cache is accepted again"
)
def test_frozen_and_thawed(three, three_fs, eventually):
    persisted, only_here = os.urandom(12 * MIB), os.urandom(MIB)
    three_fs.write("/t/persisted", persisted, write_type="CACHE_THROUGH")
    (holder,) = holders(three_fs, "/t/persisted")
    victim = worker_named(three, holder)
    with isotach.connect(three.address, write_location_policy="ROUND_ROBIN") as client:
        for number in range(12):
            client.write(f"/t/only-{number}", only_here, write_type="MUST_CACHE")
    number = next(each for each in range(12) if holders(three_fs, f"/t/only-{each}") == {holder})
    with three_fs.open("/t/persisted") as stream:
        got = [stream.read(MIB)]
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            got.append(stream.read())
            assert b"".join(got) == persisted
            assert three_fs.read("/t/persisted") == persisted
            assert time.monotonic() - started < 15
            eventually(lambda: not all_live(three_fs), timeout=10, message="the frozen worker counts as live")
        finally:
            os.kill(victim.pid, signal.SIGCONT)
    eventually(lambda: all_live(three_fs), timeout=15, message="the thawed worker is not accepted")
    eventually(lambda: holder in holders(three_fs, f"/t/only-{number}"), timeout=15)
    assert three_fs.read(f"/t/only-{number}") == only_here
