"""Workers that freeze, stay away, come back and leave, with real processes: what becomes of the files.

Owns: copies, losses and decommissioning end to end. Never: what the master decides case by case (t3 does).
"""

import errno
import json
import os
import signal

import pytest

import isotach
from isotach.cli.main import run

MIB = 1 << 20
QUICK = {"master__worker_timeout": "1.5s"}


def holders_of(fs: isotach.FileSystem, path: str) -> list[str]:
    return sorted({worker for block in fs.locations(path) for worker in block.workers})


def number_of(cluster: isotach.Cluster, worker_id: str) -> int:
    return next(worker.number for worker in cluster.workers if worker.worker_id == worker_id)


@pytest.fixture
def three(start, eventually):
    """Three workers whose loss is noticed soon, and a client."""
    cluster = start(workers=3, mem="64MiB", **QUICK)
    with isotach.connect(cluster.address) as fs:
        eventually(lambda: sum(worker.live for worker in fs.workers()) == 3)
        yield cluster, fs


def test_copies_are_kept_when_a_worker_goes_and_nothing_unpersisted_is_lost(three, eventually):
    cluster, fs = three
    data = os.urandom(3 * MIB)
    fs.write("/twice", data, write_type="MUST_CACHE", replication=(2, 2))
    eventually(lambda: len(holders_of(fs, "/twice")) == 2)

    first = holders_of(fs, "/twice")[0]
    cluster.stop_worker(number_of(cluster, first))
    eventually(lambda: len(holders_of(fs, "/twice")) == 2 and first not in holders_of(fs, "/twice"), timeout=20)
    second = next(worker for worker in holders_of(fs, "/twice"))
    cluster.stop_worker(number_of(cluster, second))
    assert fs.read("/twice") == data
    assert not fs.stat("/twice").persisted


def test_a_frozen_worker_takes_its_only_copy_along_and_brings_it_back(three, eventually, capfd):
    cluster, fs = three
    data = os.urandom(MIB)
    fs.write("/d/only", data, write_type="MUST_CACHE")
    fs.write("/d/replaced", b"old", write_type="MUST_CACHE")
    fs.write("/d/stored", data, write_type="CACHE_THROUGH")
    holder = holders_of(fs, "/d/only")[0]
    pid = cluster.worker_pids[[worker.worker_id for worker in cluster.workers].index(holder)]
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: fs.stat("/d/only").lost, timeout=20)
        with pytest.raises(isotach.DataLossError, match="found again") as caught:
            fs.read("/d/only")
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/d/only")
        assert fs.read("/d/stored") == data
        assert run(["fs", "ls", "--lost", "-R", "/", "--address", cluster.address]) == 0
        assert f"/d/only\t{holder}\t" in capfd.readouterr().out
        lost = {each.info.path: each.worker_id for each in fs.lost("/d")}
        assert lost["/d/only"] == holder
        fs.write("/d/replaced", b"new one", write_type="MUST_CACHE")
        assert fs.read("/d/replaced") == b"new one"
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not fs.stat("/d/only").lost, timeout=20)
    assert fs.read("/d/only") == data
    assert fs.stat("/d/only").cached_percent == 100
    assert fs.read("/d/replaced") == b"new one"
    assert list(fs.lost()) == []


def test_what_waits_to_be_persisted_is_lost_and_found_and_persisted(start, eventually, tmp_path):
    cluster = start(workers=2, mem="64MiB", **QUICK)
    store = tmp_path / "store"
    store.mkdir()
    with isotach.connect(cluster.address) as fs:
        fs.mount("/m", os.fspath(store))
        store.rmdir()  # the store is away: what is written must wait
        fs.write("/m/f", b"waits", write_type="ASYNC_THROUGH")
        number = number_of(cluster, holders_of(fs, "/m/f")[0])
        cluster.stop_worker(number)
        eventually(lambda: fs.stat("/m/f", metadata_sync_interval=-1).lost, timeout=20)
        store.mkdir()
        cluster.add_worker(number)
        eventually(lambda: fs.stat("/m/f", metadata_sync_interval=-1).persisted, timeout=20)
        assert not fs.stat("/m/f").lost
    assert (store / "f").read_bytes() == b"waits"


def test_a_worker_leaves_and_nothing_is_lost(three, eventually, capfd):
    cluster, fs = three
    data = {f"/d/{number}": os.urandom(300_000 + number) for number in range(12)}
    with isotach.connect(cluster.address, write_location_policy="ROUND_ROBIN") as spread:
        for path, content in data.items():
            spread.write(path, content, write_type="MUST_CACHE")
    leaver = holders_of(fs, "/d/0")[0]
    assert fs.decommission(leaver)[0].state in ("DECOMMISSIONING", "DECOMMISSIONED")
    assert fs.read("/d/0") == data["/d/0"]
    assert run(["worker", "decommission", leaver, "--wait", "--json", "--address", cluster.address]) == 0
    assert json.loads(capfd.readouterr().out)["workers"][0]["state"] == "DECOMMISSIONED"
    with isotach.connect(cluster.address, write_location_policy="ROUND_ROBIN") as spread:
        for number in range(6):
            spread.write(f"/new/{number}", b"n", write_type="MUST_CACHE")
            assert leaver not in holders_of(fs, f"/new/{number}")

    cluster.stop_worker(number_of(cluster, leaver))
    eventually(lambda: not next(worker.live for worker in fs.workers() if worker.worker_id == leaver), timeout=20)
    for path, content in data.items():
        assert fs.read(path) == content
    assert list(fs.lost()) == []


def test_a_restarted_master_knows_what_the_workers_hold(three, eventually):
    cluster, fs = three
    fs.write("/kept", b"x" * MIB, write_type="MUST_CACHE")
    before = cluster.master_pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: cluster.master_pid not in (-1, before))
    assert fs.stat("/kept").cached_percent == 100
    eventually(lambda: sum(worker.live for worker in fs.workers()) == 3)
    assert fs.read("/kept") == b"x" * MIB
    log = (cluster.dir / "logs" / "master.log").read_text()
    again = [line for line in log.splitlines() if "worker_registered" in line][-3:]
    assert all("report_all" in line for line in again)
    assert not any('report_all": true' in line or "report_all=True" in line for line in again), again


def test_where_files_go_is_chosen_by_client_by_call_and_by_path(three, eventually):
    cluster, fs = three
    fs.write("/here", b"x" * MIB, write_type="CACHE_THROUGH", placement="SPECIFIC_HOST:worker-3")
    third = next(worker.worker_id for worker in fs.workers() if worker.host == "worker-3")
    assert holders_of(fs, "/here") == [third]
    with pytest.raises(isotach.UnavailableError, match="nowhere"):
        fs.write("/no", b"x", placement="SPECIFIC_HOST:nowhere")
    with pytest.raises(isotach.InvalidArgumentError, match="LOCAL_FIRST"):
        fs.write("/no", b"x", placement="BY_CHANCE")

    for number in range(6):
        fs.write(f"/cold/{number}", os.urandom(1000), write_type="CACHE_THROUGH")
    fs.free("/cold")
    first: dict[int, list[str]] = {}
    for key in ("HASH", "HASH", "SPECIFIC_HOST"):
        with isotach.connect(
            cluster.address, read_location_policy=key, read_location_host="worker-2", direct_metadata=False
        ) as reader:
            for number in range(6):
                reader.read(f"/cold/{number}")
                eventually(lambda number=number: holders_of(fs, f"/cold/{number}"))
                held = holders_of(fs, f"/cold/{number}")
                if key == "HASH":
                    assert first.setdefault(number, held) == held, "every client asks the same worker"
                else:
                    assert held == [next(worker.worker_id for worker in fs.workers() if worker.host == "worker-2")]
        fs.free("/cold")
    assert len({worker for held in first.values() for worker in held}) > 1
