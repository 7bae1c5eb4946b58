"""kill -9 at every named durable step, and of every process in mid-write: afterwards a file is whole or absent.

Each crash test overwrites one file and writes a new one while a process is set to die at one point. The supervisor
starts the dead process again; then the namespace, the under storage and the cache folders must agree.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import isotach

OLD, NEW = b"o" * 300_000, b"n" * 2_500_000

WRITE_TYPES = ("MUST_CACHE", "CACHE_THROUGH", "ASYNC_THROUGH")
STORE_POINTS = ("master.after_intent", "master.after_store_operation", "master.after_operation_commit")
#: Points that every write passes, and those that only some do.
WRITE_POINTS = {
    "master.before_complete": WRITE_TYPES,
    "master.after_complete": WRITE_TYPES,
    "committed_before_reply:3": WRITE_TYPES,
    "before_commit:6": WRITE_TYPES,
    "after_commit:6": WRITE_TYPES,
    "master.after_commit_intent": ("CACHE_THROUGH", "ASYNC_THROUGH"),
    "worker.mid_write": WRITE_TYPES,
    "worker.before_seal": WRITE_TYPES,
    "worker.after_seal": WRITE_TYPES,
    "worker.before_ufs_commit": ("CACHE_THROUGH",),
    "worker.after_ufs_commit": ("CACHE_THROUGH",),
    "worker.after_complete": WRITE_TYPES,
    "worker.mid_persist": ("ASYNC_THROUGH",),
    "worker.after_persist_commit": ("ASYNC_THROUGH",),
}


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Arms one crash point for the processes started next; gives the file that tells it was reached."""

    def arm(point: str) -> Path:
        marker = tmp_path / "reached"
        monkeypatch.setenv("ISOTACH_TEST_FAILPOINT", f"{point}@{marker}")
        return marker

    return arm


def attempt(action) -> bool:
    """Whether the call said that it worked. A crash may show as any error of ours; never as a wrong answer."""
    try:
        action()
    except (isotach.IsotachError, OSError):
        return False
    return True


def whole_or_absent(fs: isotach.FileSystem, path: str, allowed: list[bytes | None]) -> bytes | None:
    content = fs.read(path) if fs.exists(path) else None
    assert content in allowed, f"{path} holds {len(content or b'')} bytes that nobody wrote"
    return content


def cached_files(cluster: isotach.Cluster) -> list[str]:
    return sorted(os.listdir(cluster.settings.worker.mem_dir / "containers"))


def used_bytes(fs: isotach.FileSystem) -> int:
    return sum(tier.used_bytes for worker in fs.workers() for tier in worker.tiers)


@pytest.mark.fault(
    "kill -9 at each durable step of a write", "the file is whole or absent, in cache, store and namespace"
)
@pytest.mark.parametrize(
    ("point", "write_type"), [(point, kind) for point, kinds in WRITE_POINTS.items() for kind in kinds]
)
def test_a_write_is_whole_or_absent(start, armed, eventually, point, write_type):
    cluster = start()
    root = Path(cluster.settings.master.root_ufs)
    with isotach.connect(cluster.address) as fs:
        fs.write("/d/old", OLD, write_type="CACHE_THROUGH")
    cluster.stop()

    marker = armed(point)
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        new_done = attempt(lambda: fs.write("/d/new", NEW, write_type=write_type))
        old_done = attempt(lambda: fs.write("/d/old", NEW, write_type=write_type))
        eventually(lambda: fs.workers() and all(worker.live for worker in fs.workers()), timeout=20)
        if write_type != "ASYNC_THROUGH":
            assert marker.exists(), f"nothing passed {point}"

        new = whole_or_absent(fs, "/d/new", [NEW] if new_done else [None, NEW])
        old = whole_or_absent(fs, "/d/old", [NEW] if old_done else [OLD, NEW])
        if write_type == "ASYNC_THROUGH":
            eventually(lambda: all(info.persisted for info in fs.list("/d")), timeout=20)
            eventually(marker.exists, message=f"nothing passed {point}")
        for name, content in (("new", new), ("old", old)):
            if fs.exists(f"/d/{name}") and fs.stat(f"/d/{name}").persisted:
                assert (root / "d" / name).read_bytes() == content
        eventually(lambda: len(cached_files(cluster)) <= (new is not None) + 1, timeout=20, message="a container leaks")
    cluster.stop()

    os.environ.pop("ISOTACH_TEST_FAILPOINT")
    with isotach.connect(start().address) as fs:
        whole_or_absent(fs, "/d/new", [new])
        whole_or_absent(fs, "/d/old", [old])


@pytest.mark.fault("kill -9 at each step of mkdir, rename, remove", "the operation is finished or undone everywhere")
@pytest.mark.parametrize("point", STORE_POINTS)
@pytest.mark.parametrize("operation", ["mkdir", "rename", "remove"])
def test_an_operation_on_the_store_is_finished_or_undone(start, armed, eventually, point, operation):
    cluster = start()
    root = Path(cluster.settings.master.root_ufs)
    with isotach.connect(cluster.address) as fs:
        fs.write("/d/a", OLD)
        fs.write("/d/sub/b", NEW)
    cluster.stop()
    marker = armed(point)
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        actions = {
            "mkdir": lambda: fs.mkdir("/d/made"),
            "rename": lambda: fs.rename("/d/sub", "/d/moved"),
            "remove": lambda: fs.remove("/d/sub", recursive=True),
        }
        attempt(actions[operation])
        assert marker.exists()

        def agree() -> bool:
            try:
                here = sorted(info.path for info in fs.list("/d", recursive=True))
            except isotach.UnavailableError:
                return False  # the next process is not there yet
            there = sorted("/" + str(path.relative_to(root)) for path in (root / "d").rglob("*"))
            return fs.status().open_intents == 0 and here == there

        eventually(agree, timeout=20, message="namespace and under storage differ")
        assert fs.read("/d/a") == OLD


@pytest.mark.fault("kill -9 at each step of a move between tiers", "every file is whole, nothing stands in two places")
@pytest.mark.parametrize("point", ["store.before_move_switch", "store.after_move_switch"])
@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH"])
def test_a_move_between_tiers_is_done_or_undone(start, armed, eventually, tmp_path, point, write_type):
    marker = armed(point)
    cluster = start(mem="16MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:128MiB", master__pending_write_timeout="1s")
    contents = {f"/d/{number}": os.urandom(1 << 20) for number in range(40)}
    with isotach.connect(cluster.address) as fs:
        for path, data in contents.items():
            if not attempt(lambda path=path, data=data: fs.write(path, data, write_type=write_type)):
                fs.write(path, data, write_type=write_type)
        eventually(marker.exists, timeout=20, message=f"nothing passed {point}")
        eventually(lambda: all(worker.live for worker in fs.workers()) and not list(fs.lost("/")), timeout=20)
        for path, data in contents.items():
            assert fs.read(path) == data
        eventually(lambda: len(all_containers(cluster)) <= len(contents), timeout=20, message="a container leaks")
        fs.remove("/d", recursive=True)
        eventually(lambda: not all_containers(cluster), timeout=20, message="a container leaks")
        eventually(lambda: not used_bytes(fs), timeout=10, message="its space stays taken")


def all_containers(cluster: isotach.Cluster) -> list[str]:
    tiers = cluster.workers[0].settings.worker.all_tiers
    return [path.name for tier in tiers for path in (tier.path / "containers").rglob("*") if path.is_file()]


@pytest.mark.fault("kill -9 of the master while it saves a job", "the load goes on in the next process and ends")
def test_a_load_goes_on_after_the_master_died(start, armed, eventually, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    for number in range(300):
        (store / f"{number}").write_bytes(b"%d" % number * 2000)
    marker = armed("master.before_job_save:2")
    with isotach.connect(start().address) as fs:
        fs.mount("/m", str(store))
        attempt(lambda: fs.load("/m", verify=True, bandwidth=1 << 20))
        eventually(marker.exists, timeout=20, message="no job was saved twice")
        eventually(lambda: all(info.cached_percent == 100 for info in fs.list("/m")), timeout=30)
        assert all(fs.read(f"/m/{number}") == b"%d" % number * 2000 for number in range(0, 300, 17))


@pytest.mark.fault("kill -9 of a process in the middle of writes", "each file is whole or absent")
@pytest.mark.parametrize("victim", ["master", "worker", "reader"])
def test_killed_in_the_middle_of_writes(start, eventually, victim):
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        pids = {"master": cluster.master_pid, "worker": cluster.worker_pid, "reader": cluster.reader_pids[0]}
        done = {}
        for index in range(12):
            if index == 5:
                os.kill(pids[victim], signal.SIGKILL)
            path, data = f"/many/{index}", os.urandom(70_000 + index)
            done[path] = (attempt(lambda path=path, data=data: fs.write(path, data, write_type="MUST_CACHE")), data)
        eventually(lambda: fs.workers() and all(worker.live for worker in fs.workers()), timeout=20)
        for path, (acknowledged, data) in done.items():
            whole_or_absent(fs, path, [data] if acknowledged else [None, data])
        assert sum(acknowledged for acknowledged, _ in done.values()) >= 5


WRITER = """
import sys, isotach
fs = isotach.connect(sys.argv[1])
out = fs.open("/half", "wb", write_type=sys.argv[2])
out.write(b"h" * (9 << 20)); out.flush()
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.fault("client killed in mid-write", "its half file, its container and its upload go")
@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH"])
def test_a_killed_client_leaves_nothing(cluster, fs, eventually, write_type):
    before = used_bytes(fs)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, cluster.address, write_type], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"written\n"
    assert cached_files(cluster)
    writer.kill()
    writer.communicate()

    eventually(lambda: not cached_files(cluster), timeout=10, message="the half file's container stays")
    eventually(lambda: used_bytes(fs) == before, timeout=10, message="its space stays taken")
    assert not fs.exists("/half")
    root = Path(cluster.settings.master.root_ufs)
    eventually(lambda: not list(root.rglob("*")), timeout=10, message="leftovers in the under storage")
