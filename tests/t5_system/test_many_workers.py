"""A standalone cluster with several workers: where each lives, that each is kept alive, that they come and go.

Owns: what `isotach.start(workers=)` and `isotach start --workers` promise. Never: what workers do with data.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import isotach

MIB = 1 << 20


def live_hosts(fs: isotach.FileSystem) -> list[str]:
    return sorted(worker.host for worker in fs.workers() if worker.live)


def test_three_workers_live_apart_and_come_back(start, eventually, tmp_path: Path):
    cluster = start(workers=3, mem="32MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:64MiB")
    with isotach.connect(cluster.address) as fs:
        assert live_hosts(fs) == ["worker-1", "worker-2", "worker-3"]
        assert {worker.worker_id for worker in fs.workers()} == {worker.worker_id for worker in cluster.workers}
        places = [worker.settings.worker for worker in cluster.workers]
        assert [place.dir for place in places] == [
            cluster.dir / "worker",
            cluster.dir / "workers" / "2",
            cluster.dir / "workers" / "3",
        ]
        assert len({tier.path for place in places for tier in place.all_tiers}) == 6
        assert all(place.mem_size == 32 * MIB for place in places)
        assert len(set(cluster.web_ports.values())) == 4
        assert all((cluster.dir / "logs" / f"{worker.role}.log").exists() for worker in cluster.workers)

        before, address = cluster.worker_pids[1], cluster.workers[1].address
        os.kill(before, signal.SIGKILL)
        eventually(lambda: cluster.worker_pids[1] not in (-1, before), message="it is not started again")
        eventually(lambda: len(live_hosts(fs)) == 3)
        assert cluster.workers[1].address == address

        fs.write("/only-here", b"kept" * 1000, write_type="MUST_CACHE")
        holder = fs.locations("/only-here")[0].workers[0]
        number = next(worker.number for worker in cluster.workers if worker.worker_id == holder)
        cluster.stop_worker(number)
        assert len(cluster.worker_pids) == 2
        with pytest.raises(isotach.InvalidArgumentError, match=str(number)):
            cluster.stop_worker(number)
        assert cluster.add_worker().worker_id == holder
        eventually(lambda: len(live_hosts(fs)) == 3)
        assert fs.read("/only-here") == b"kept" * 1000
        added = cluster.add_worker(worker__host="guest")
        assert added.number == 4
        eventually(lambda: "guest" in live_hosts(fs))
        with pytest.raises(isotach.InvalidArgumentError, match="runs already"):
            cluster.add_worker(4)
    cluster.stop()

    again = start(mem="32MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:64MiB")
    with isotach.connect(again.address) as fs:
        assert len(again.workers) == 4, "all that ever ran here are started again"
        assert fs.read("/only-here") == b"kept" * 1000


def test_one_worker_grows_to_two_and_keeps_its_cache(start):
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        fs.write("/first", b"1" * MIB, write_type="MUST_CACHE")
    cluster.stop()
    with isotach.connect(start(workers=2).address) as fs:
        assert fs.read("/first") == b"1" * MIB
        assert live_hosts(fs) == ["worker-1", "worker-2"]


def test_a_number_of_workers_that_cannot_be(tmp_path: Path):
    for workers in (0, -1, 1000):
        with pytest.raises(isotach.InvalidArgumentError, match="workers"):
            isotach.start(dir=tmp_path / "never", workers=workers)
    assert not (tmp_path / "never").exists()


def test_the_command_line_starts_shows_and_stops_three(tmp_path: Path):
    folder = tmp_path / "cluster"

    def isotach_cli(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "isotach.cli", "--json", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)

    isotach_cli("start", "--dir", str(folder), "--workers", "3", "--detach", "--mem", "16MiB",
                "--set", f"worker.mem_dir={tmp_path / 'mem'}")  # fmt: skip
    try:
        shown = json.loads(isotach_cli("status", "--address", (folder / "address").read_text().strip()).stdout)
        assert sorted(worker["host"] for worker in shown["workers"]) == ["worker-1", "worker-2", "worker-3"]
    finally:
        isotach_cli("stop", "--dir", str(folder))
    assert not (folder / "pid").exists()
