"""Hot reads without a call: never old bytes, never unverified ones, never for another user, and no harm by a reader.

The direct way must have been taken where a test says so; `directly` looks at it without the ordinary way behind it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach
from isotach.base.limits import MIB

NOBODY = 65534
DATA = bytes(range(256)) * 400
OTHER = DATA[::-1] + b"more"


def directly(fs: isotach.FileSystem, path: str) -> bytes | None:
    """The file's bytes without any call; None when the direct way is not taken."""
    way = fs._link.direct
    opened = None if way is None else way.open(os.fsencode(path), None)
    if opened is None:
        return None
    with open(opened[0], "rb") as file:
        return file.read()


def write_hot(fs: isotach.FileSystem, path: str, data: bytes = DATA, write_type: str = "MUST_CACHE") -> None:
    """A cached file; the first ordinary read makes the worker's tiers known."""
    fs.write(path, data, write_type=write_type)
    assert fs.read(path) == data


def until(check: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


def test_a_hot_file_is_read_while_no_server_answers(cluster, fs):
    write_hot(fs, "/a/file")
    pids = [cluster.master_pid, cluster.worker_pid, *cluster.reader_pids]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with fs.open("/a/file") as file:
            assert file.read() == DATA
        assert fs.read("/a/file", 10, 20) == DATA[10:30]
        with fs.view("/a/file") as view:
            assert view == DATA
        info = fs.stat("/a/file")
        assert (info.length, info.in_memory_percent, fs.exists("/a")) == (len(DATA), 100, True)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_stat_says_the_same_on_both_ways(cluster, fs, tmp_path: Path):
    write_hot(fs, "/d/cached")
    fs.write("/d/through", DATA, write_type="THROUGH")
    with isotach.connect(cluster.address, direct_metadata=False) as ordinary:
        assert ordinary._link.direct is None
        for path in ("/", "/d", "/d/cached", "/d/through"):
            assert fs.stat(path) == ordinary.stat(path)
            assert fs._link.direct.stat(path.encode(), None) is not None
    for path, error in (("/none", FileNotFoundError), ("/d/cached/below", NotADirectoryError)):
        with pytest.raises(error):
            fs.stat(path)
        assert not fs.exists(path)
    assert directly(fs, "/d/cached") == DATA, "a wrong path must not make the direct way rest"


def test_changes_are_seen_at_once(fs):
    write_hot(fs, "/one")
    for number in range(30):
        data = DATA + bytes([number])
        fs.write("/one", data, write_type="MUST_CACHE")
        assert directly(fs, "/one") == data
    fs.rename("/one", "/two")
    assert directly(fs, "/one") is None
    assert directly(fs, "/two") == data
    with pytest.raises(FileNotFoundError):
        fs.open("/one")
    fs.remove("/two")
    assert directly(fs, "/two") is None
    with pytest.raises(FileNotFoundError):
        fs.open("/two")


def test_what_is_freed_is_not_read_directly(fs):
    write_hot(fs, "/f", write_type="CACHE_THROUGH")
    fs.free("/f")
    until(lambda: directly(fs, "/f") is None)
    assert fs.read("/f") == DATA
    assert directly(fs, "/f") == DATA


def test_a_mount_that_is_asked_at_intervals_is_asked(cluster, fs, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "file").write_bytes(DATA)
    fs.mount("/asked", str(store), metadata_sync_interval=0)
    fs.mount("/never", str(store), metadata_sync_interval=-1)
    assert fs.read("/asked/file") == fs.read("/never/file") == DATA
    assert directly(fs, "/asked/file") is None
    assert directly(fs, "/never/file") == DATA
    (store / "file").write_bytes(OTHER)
    assert fs.read("/asked/file") == OTHER
    assert fs.stat("/never/file", metadata_sync_interval=0).length == len(OTHER)
    assert fs.read("/never/file") == OTHER
    with isotach.connect(cluster.address, metadata_sync_interval=0) as asking:
        assert asking.read("/never/file") == OTHER
        assert asking._link.direct.open(b"/never/file", asking._link.sync_interval_ms) is None
    fs.unmount("/never")
    assert directly(fs, "/never/file") is None
    with pytest.raises(FileNotFoundError):
        fs.read("/never/file")


STRANGER = """
import os, sys, isotach
assert isotach.connect(sys.argv[1]).read("/open")  # all modules are loaded: the other user may not see them
os.setgroups([]); os.setgid(65534); os.setuid(65534)
fs = isotach.connect(sys.argv[1])
assert fs.read("/open") and fs.user == "nobody" and fs._link.direct is None
try:
    fs.read("/private")
except PermissionError:
    print("refused")
"""


def test_another_user_goes_the_ordinary_way(require_root):
    with tempfile.TemporaryDirectory(prefix="isotach-direct-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # so that other users reach the socket
        with (
            isotach.start(dir=folder / "c", mem="32MiB", worker__mem_dir=folder / "mem") as cluster,
            isotach.connect(cluster.address) as fs,
        ):
            write_hot(fs, "/open")
            write_hot(fs, "/private")
            fs.chmod("/private", 0o600)
            command = [sys.executable, "-c", STRANGER, cluster.address]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=60)
            assert done.stdout.split() == ["refused"], done.stderr


def test_a_process_that_became_another_user_goes_the_ordinary_way(fs, require_root):
    write_hot(fs, "/file")
    assert directly(fs, "/file") == DATA
    os.seteuid(NOBODY)
    try:
        assert directly(fs, "/file") is None
    finally:
        os.seteuid(0)
    assert directly(fs, "/file") == DATA


def test_tcp_and_the_switches_leave_it_alone(cluster, fs):
    write_hot(fs, "/file")
    for address, given in (
        (cluster.tcp_address, {"short_circuit": False}),
        (cluster.address, {"short_circuit": False}),
        (cluster.address, {"direct_metadata": False}),
    ):
        with isotach.connect(address, **given) as other:
            assert other._link.direct is None
            assert other.read("/file") == DATA


def test_eviction_leaves_open_files_alone_and_spares_what_is_read(start):
    cluster = start(mem="64MiB")
    with isotach.connect(cluster.address) as fs:
        size = 4 * MIB
        contents = {f"/f{number}": os.urandom(size) for number in range(12)}
        for path, data in contents.items():
            fs.write(path, data, write_type="CACHE_THROUGH")
        assert fs.read("/f11") == contents["/f11"]
        held = fs.open("/f0")  # the oldest two, by the direct way
        assert directly(fs, "/f1") == contents["/f1"]
        for number in range(8):
            fs.write(f"/new{number}", os.urandom(size), write_type="CACHE_THROUGH")
        assert held.read() == contents["/f0"]
        held.close()
        assert directly(fs, "/f0") == contents["/f0"], "in use"
        assert directly(fs, "/f1") == contents["/f1"], "read a moment ago"
        assert directly(fs, "/f2") is None, "the next in order had to leave"
        for path, data in contents.items():
            assert fs.read(path) == data


def test_files_that_were_all_read_directly_still_make_room(start):
    cluster = start(mem="64MiB")
    with isotach.connect(cluster.address) as fs:
        for number in range(14):
            write_hot(fs, f"/f{number}", os.urandom(4 * MIB), "CACHE_THROUGH")
        assert all(directly(fs, f"/f{number}") for number in range(14))
        write_hot(fs, "/new", os.urandom(16 * MIB), "MUST_CACHE")
        assert fs.stat("/new").in_memory_percent == 100


def test_a_forked_child_and_its_parent(fs):
    write_hot(fs, "/file")
    assert directly(fs, "/file") == DATA
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if directly(fs, "/file") is None and fs.read("/file") == DATA and fs.stat("/file").length == len(DATA):
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    fs.write("/file", OTHER, write_type="MUST_CACHE")
    assert directly(fs, "/file") == OTHER


KILLED = """
import os, signal, sys, isotach
fs = isotach.connect(sys.argv[1])
fs.read("/file")
way = fs._link.direct
descriptor, inode = way.open(b"/file", None)
snapshots = [way._metadata._namespace.look(), way._tiers[0]._index.look()]
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_client_killed_in_the_middle_of_a_look(cluster, fs):
    write_hot(fs, "/file")
    done = subprocess.run([sys.executable, "-c", KILLED, cluster.address], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    for number in range(50):
        fs.write("/file", DATA + bytes([number]), write_type="MUST_CACHE")
    assert directly(fs, "/file") == DATA + bytes([49])
    fs.remove("/file")


def test_a_restarted_worker_verifies_before_it_is_read_directly(cluster, fs):
    write_hot(fs, "/file", write_type="CACHE_THROUGH")
    assert directly(fs, "/file") == DATA
    version = fs.stat("/file").version
    before = cluster.worker_pid
    os.kill(before, signal.SIGSTOP)  # so that nothing verifies it before we have damaged it
    container = cluster.settings.worker.mem_dir / "containers" / f"{version:016x}"
    with container.open("r+b") as file:
        file.write(b"damaged")
    os.kill(before, signal.SIGKILL)
    fs.write("/other", DATA, write_type="MUST_CACHE")  # waits for the new worker
    assert cluster.worker_pid != before
    assert directly(fs, "/file") is None
    assert fs.read("/file") == DATA
    assert directly(fs, "/file") == DATA


def test_a_cluster_made_anew_in_the_same_folder(start):
    cluster = start(mem="64MiB")
    with isotach.connect(cluster.address) as fs:
        write_hot(fs, "/file")
        assert directly(fs, "/file") == DATA
        cluster.stop()
        shutil.rmtree(cluster.dir)
        shutil.rmtree(cluster.settings.worker.mem_dir, ignore_errors=True)
        assert directly(fs, "/file") is None
        start(mem="64MiB")
        with pytest.raises(FileNotFoundError):
            fs.read("/file")
        until(lambda: fs.stat("/").is_dir)
        write_hot(fs, "/file", OTHER)
        until(lambda: (fs.read("/file") == OTHER) and directly(fs, "/file") == OTHER)
