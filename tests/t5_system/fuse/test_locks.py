"""Locks of real programs on real mounts: two mounts of one cluster, killed daemons, a restarted master."""

import fcntl
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from isotach.base.limits import LOCK_LEASE_S
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount

pytestmark = [pytest.mark.fuse, pytest.mark.root]

#: Takes a lock of argv[2] ("lockf" or "flock") on the file argv[1], says so, and holds it until its input ends.
_HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another program that holds a lock."""

    def __init__(self, path: Path, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(path), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Returns once it has the lock."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def send(self, number: int) -> int:
        self._process.send_signal(number)
        return self._process.wait(20)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.communicate(timeout=20)

    def kill(self) -> None:
        with self._process:
            self._process.kill()


def try_lock(path: Path, kind: str) -> bool:
    """Whether a lock of the whole file is to be had now; it is given up again."""
    with open(path, "r+b") as file:
        try:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


@pytest.fixture
def hold() -> Iterator[Callable[[Path, str], Holder]]:
    with ExitStack() as ends:

        def begin(path: Path, kind: str) -> Holder:
            holder = Holder(path, kind)
            ends.callback(holder.kill)
            return holder

        yield begin


@pytest.fixture(scope="module")
def other_mount(fuse_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """A second mount of the same cluster."""
    with real_mount(fuse_cluster, tmp_path_factory.mktemp("other")) as mount:
        yield mount


@pytest.mark.parametrize("kind", ["lockf", "flock"])
def test_a_lock_holds_on_both_mounts(fuse_dir: Path, other_mount: RealMount, hold, kind: str) -> None:
    here, there = fuse_dir / "file", other_mount.path / fuse_dir.name / "file"
    here.write_bytes(b"0123456789")
    first = hold(here, kind)
    first.wait()
    assert not try_lock(here, kind)
    assert not try_lock(there, kind)
    waiting = hold(there, kind)
    assert try_lock(here, "flock" if kind == "lockf" else "lockf")  # the two kinds know nothing of one another
    first.end()
    waiting.wait()
    assert not try_lock(here, kind)
    waiting.end()
    assert within(5, lambda: try_lock(here, kind))


def test_a_killed_program_gives_up_and_a_waiting_one_can_be_killed(fuse_dir: Path, other_mount, hold) -> None:
    here, there = fuse_dir / "file", other_mount.path / fuse_dir.name / "file"
    here.write_bytes(b"")
    first = hold(here, "lockf")
    first.wait()
    waiting = hold(there, "lockf")
    assert within(5, lambda: waiting._process.poll() is None)
    assert waiting.send(signal.SIGTERM) == -signal.SIGTERM
    first.send(signal.SIGKILL)
    assert within(5, lambda: try_lock(there, "lockf"))


def test_ranges_and_who_is_in_the_way(fuse_dir: Path, other_mount: RealMount) -> None:
    here, there = fuse_dir / "file", other_mount.path / fuse_dir.name / "file"
    here.write_bytes(bytes(100))
    with open(here, "r+b") as one, open(there, "r+b") as two:
        fcntl.lockf(one, fcntl.LOCK_EX, 10, 20)
        fcntl.lockf(two, fcntl.LOCK_EX, 10, 30)
        asked = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, _ = struct.unpack("hhqqi4x", fcntl.fcntl(two, fcntl.F_GETLK, asked))
        assert (kind, start, length) == (fcntl.F_WRLCK, 20, 10)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(two, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_locks_of_open_files_end_with_them(fuse_dir: Path, other_mount: RealMount) -> None:
    here, there = fuse_dir / "file", other_mount.path / fuse_dir.name / "file"
    here.write_bytes(b"")
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with open(here, "r+b") as one:
        fcntl.fcntl(one, 37, lock)  # F_OFD_SETLK
        assert not try_lock(there, "lockf")
    assert within(5, lambda: try_lock(there, "lockf"))


def test_locks_outlive_the_process_that_serves_and_the_master(start, tmp_path: Path, hold) -> None:
    cluster = start()
    with real_mount(cluster, tmp_path / "one") as one, real_mount(cluster, tmp_path / "two") as two:
        here, there = one.path / "file", two.path / "file"
        here.write_bytes(b"")
        holder = hold(here, "lockf")
        holder.wait()
        served = one.kill_server()
        assert within(20, lambda: one.server_pid != served)
        assert not try_lock(there, "lockf")
        os.kill(cluster.master_pid, signal.SIGKILL)
        assert not try_lock(there, "lockf")
        holder.end()
        assert within(10, lambda: try_lock(there, "lockf"))


def test_a_mount_that_dies_gives_up_its_locks_with_its_lease(start, tmp_path: Path, hold) -> None:
    cluster = start()
    with real_mount(cluster, tmp_path / "one") as one, real_mount(cluster, tmp_path / "two") as two:
        here, there = one.path / "file", two.path / "file"
        here.write_bytes(b"")
        holder = hold(here, "flock")
        holder.wait()
        os.kill(one.pid, signal.SIGKILL)
        one.kill_server()
        assert not try_lock(there, "flock")
        assert within(LOCK_LEASE_S + 10, lambda: try_lock(there, "flock"))


def _count_up(path: Path, times: int) -> subprocess.Popen[bytes]:
    program = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    db.execute('begin immediate')\n"
        "    value, = db.execute('select value from counter').fetchone()\n"
        "    db.execute('update counter set value = ?', (value + 1,))\n"
        "    db.execute('commit')\n"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(path), str(times)])


def _value(path: Path) -> int:
    database = sqlite3.connect(path, timeout=30)
    try:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(database.execute("select value from counter").fetchone()[0])
    finally:
        database.close()


def test_sqlite_counts_right_from_two_programs(fuse_dir: Path) -> None:
    path = fuse_dir / "counter.db"
    _make_counter(path)
    counting = [_count_up(path, 10) for _ in range(2)]
    assert [each.wait(60) for each in counting] == [0, 0]
    assert _value(path) == 20


def test_sqlite_counts_right_from_two_mounts(fuse_dir: Path, other_mount: RealMount) -> None:
    path = fuse_dir / "counter.db"
    _make_counter(path)
    there = other_mount.path / fuse_dir.name / "counter.db"
    counting = [_count_up(each, 10) for each in (path, there)]
    assert [each.wait(90) for each in counting] == [0, 0]
    assert [_value(path), _value(there)] == [20, 20]


def test_what_is_written_under_a_lock_is_read_under_the_next(fuse_dir: Path, other_mount: RealMount) -> None:
    here, there = fuse_dir / "file", other_mount.path / fuse_dir.name / "file"
    here.write_bytes(b"begin")
    with open(here, "r+b", buffering=0) as one, open(there, "r+b", buffering=0) as two:
        for number in range(6):
            writer, reader = (one, two) if number % 2 else (two, one)
            fcntl.lockf(writer, fcntl.LOCK_EX)
            assert os.pread(writer.fileno(), 100, 0) == (b"text %d" % (number - 1) if number else b"begin")
            os.pwrite(writer.fileno(), b"text %d" % number, 0)
            os.ftruncate(writer.fileno(), 6)
            fcntl.lockf(writer, fcntl.LOCK_UN)
            fcntl.lockf(reader, fcntl.LOCK_SH)
            assert os.pread(reader.fileno(), 100, 0) == b"text %d" % number
            assert os.fstat(reader.fileno()).st_size == 6
            fcntl.lockf(reader, fcntl.LOCK_UN)


def _make_counter(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("create table counter(value); insert into counter values (0);")
    database.close()
