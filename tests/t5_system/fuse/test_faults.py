"""A master or a worker that is away, and a cache that is full, as programs on a mount see it.

Owns: faults of the servers under a mount. Never: deaths of the mount's own processes (`test_mount.py`,
`test_writing.py`, `test_many_files.py`).
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.testing.fuse import RealMount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
MIB = 1 << 20
PATIENCE_S = 1
#: A call may wait for PATIENCE_S; the rest is for machines that are busy. The client's own patience is 30 s.
SOON_S = 12.0
Eventually = Callable[..., object]
Mounter = Callable[..., RealMount]


class Servers:
    """A master and a worker that nobody starts again but the test."""

    def __init__(self, folder: Path, memory: str) -> None:
        self.address = f"isotach+unix://{folder}/master.sock"
        self._folder = folder
        self._memory = memory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str) -> None:
        keys = {"dir": self._folder, "address": self.address, "worker.mem_size": "64MiB"}
        keys |= {"worker.mem_dir": self._memory, "master.port": 0, "master.web_port": 0}
        keys |= {"worker.port": 0, "worker.web_port": 0, "worker.heartbeat_interval": "0.3s"}
        words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
        with (self._folder / f"{role}.log").open("ab") as log:
            command = [sys.executable, "-m", "isotach.cli", role, *words]
            self._processes[role] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, role: str) -> None:
        self._processes[role].kill()
        self._processes[role].wait()

    def has_worker(self) -> bool:
        try:
            with isotach.connect(self.address, client__retry_total="0s") as fs:
                return any(worker.live for worker in fs.workers())
        except isotach.IsotachError:
            return False

    def read(self, path: str) -> bytes:
        with isotach.connect(self.address) as fs:
            return fs.read(path)

    def stop(self) -> None:
        for role in self._processes:
            self.kill(role)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    memory = tempfile.mkdtemp(prefix="isotach-test-", dir="/dev/shm")
    servers = Servers(tmp_path_factory.mktemp("servers"), memory)
    servers.start("master")
    servers.start("worker")
    yield servers
    servers.stop()
    shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture
def servers(started: Servers, eventually: Eventually) -> Servers:
    """Both serve. A test starts again what it kills."""
    eventually(started.has_worker, timeout=30)
    return started


def _fails_soon(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(OSError, match="Errno 5") as failed:
        call()
    assert failed.value.errno == errno.EIO
    assert time.monotonic() - began < SOON_S


@pytest.mark.fault(
    "master of a mount gone", "hot files are read on; changes and closes fail with EIO in time; it goes on by itself"
)
def test_the_master_stays_away(servers: Servers, mount_of: Mounter, eventually: Eventually) -> None:
    mount = mount_of(servers, server_timeout=f"{PATIENCE_S}s", write_type="ASYNC_THROUGH")
    hot = os.urandom(2 * MIB)
    (mount.path / "hot").write_bytes(hot)
    reader = (mount.path / "hot").open("rb", buffering=0)
    large, small = ((mount.path / name).open("wb", buffering=0) for name in ("large", "small"))
    large.write(b"l" * 3 * MIB)
    small.write(b"s" * 100)
    servers.kill("master")
    with reader, small:
        assert reader.read() == hot
        _fails_soon((mount.path / "absent").touch)
        _fails_soon((mount.path / "absent").mkdir)
        _fails_soon((mount.path / "hot").unlink)
        assert large.write(b"l" * MIB) == MIB
        _fails_soon(large.close)
        _fails_soon(lambda: os.fsync(small.fileno()))

        servers.start("master")
        eventually(servers.has_worker, timeout=20)
        eventually(lambda: _is_made(mount.path / "after"), timeout=20)
        # What failed is told once at most, and was kept.
        eventually(lambda: servers.read("/large") == b"l" * 4 * MIB, timeout=20)
        eventually(lambda: servers.read("/small") == b"s" * 100, timeout=20)
    assert (mount.path / "hot").read_bytes() == hot


def _is_made(path: Path) -> bool:
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return False
    return True


@pytest.mark.fault(
    "worker of a mount gone", "hot files are read on; fsync fails with EIO in time, and its bytes are kept"
)
def test_the_worker_stays_away_and_comes_back(servers: Servers, mount_of: Mounter, eventually: Eventually) -> None:
    mount = mount_of(servers, server_timeout=f"{PATIENCE_S}s", write_type="ASYNC_THROUGH")
    hot = os.urandom(2 * MIB)
    (mount.path / "hot").write_bytes(hot)
    with (mount.path / "hot").open("rb", buffering=0) as reader, (mount.path / "w").open("wb", buffering=0) as writer:
        writer.write(b"a" * 3 * MIB)
        servers.kill("worker")
        assert reader.read() == hot
        (mount.path / "folder").mkdir()
        assert writer.write(b"b" * MIB) == MIB
        _fails_soon(lambda: os.fsync(writer.fileno()))
        servers.start("worker")
        eventually(servers.has_worker, timeout=20)
        eventually(lambda: _is_synced(writer.fileno()), timeout=20)
        writer.write(b"c")
    assert servers.read("/w") == b"a" * 3 * MIB + b"b" * MIB + b"c"


def _is_synced(descriptor: int) -> bool:
    try:
        os.fsync(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.fault("worker of a mount restarted at a close", "the close waits for it; no program hears of it")
def test_a_close_waits_for_a_worker_that_is_being_restarted(servers: Servers, mount_of: Mounter) -> None:
    mount = mount_of(servers, write_type="ASYNC_THROUGH")
    (mount.path / "before").write_bytes(b"x")
    servers.kill("worker")
    servers.start("worker")
    (mount.path / "small").write_bytes(b"s" * 1000)
    (mount.path / "large").write_bytes(b"l" * 4 * MIB)
    assert servers.read("/small") == b"s" * 1000
    assert servers.read("/large") == b"l" * 4 * MIB
