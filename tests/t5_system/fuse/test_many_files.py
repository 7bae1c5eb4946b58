"""Many open files, training mounts, and a daemon that is killed under open files."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import isotach
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
MANY = 10_000
FILES = 200
#: Opens each file so often that there are MANY descriptors, reads by a few, and closes all.
OPEN_MANY = """
import os, resource, sys
folder, files, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (many + 100, max(many + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
opened = [os.open(f"{folder}/f{number % files}", os.O_RDONLY) for number in range(many)]
print("opened", flush=True)
sys.stdin.readline()
for number in range(0, many, 97):
    assert os.pread(opened[number], 100, 0) == b"%d" % (number % files) * 3, number
for descriptor in opened:
    os.close(descriptor)
print("closed", flush=True)
"""


@pytest.fixture
def folder(fuse_mount: RealMount, fuse_dir: Path, fuse_fs: isotach.FileSystem) -> Path:
    """A directory with FILES small files."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: fuse_fs.write(f"/{fuse_dir.name}/f{n}", b"%d" % n * 3), range(FILES)))
    return fuse_dir


def test_ten_thousand_open_files(fuse_mount: RealMount, folder: Path, eventually: Callable[..., object]) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < MANY + 100:
        pytest.skip("needs a hard limit of open files above 10,100")
    daemon = psutil.Process(fuse_mount.server_pid)
    before = daemon.num_fds()
    command = [sys.executable, "-c", OPEN_MANY, str(folder), str(FILES), str(MANY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "opened\n"
        assert daemon.num_fds() <= before + 20  # the kernel has the containers, not the daemon
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "closed\n"
    assert program.returncode == 0


@pytest.fixture
def training(fuse_cluster: Cluster, tmp_path: Path) -> Iterator[RealMount]:
    with real_mount(fuse_cluster, tmp_path, ro=True, fuse__training=True) as mount:
        yield mount


def test_a_training_mount_reads_from_the_page_cache(
    training: RealMount, folder: Path, fuse_fs: isotach.FileSystem, eventually: Callable[..., object]
) -> None:
    seen = training.path / folder.name
    for _ in range(2):
        for number in range(FILES):
            assert (seen / f"f{number}").read_bytes() == b"%d" % number * 3
    with pytest.raises(OSError, match="Read-only"):
        (seen / "new").touch()
    # What changes is noticed by the feed's word alone.
    fuse_fs.write(f"/{folder.name}/f7", b"another")
    eventually(lambda: (seen / "f7").read_bytes() == b"another")
    assert sorted(os.listdir(seen)) == sorted(f"f{number}" for number in range(FILES))


def test_open_files_outlive_the_daemon(folder: Path, mount_of: Callable[..., RealMount], fuse_cluster: Cluster) -> None:
    mount = mount_of(fuse_cluster)
    path = mount.path / folder.name
    reader = os.open(path / "f5", os.O_RDONLY)
    cached = os.open(path / "f6", os.O_RDWR)
    assert os.pread(cached, 3, 0) == b"666"
    first = mount.kill_server()
    try:
        assert os.pread(reader, 10, 0) == b"555"  # by the kernel itself
        (path / "new").write_bytes(b"new")
        assert mount.server_pid != first
        assert (path / "f5").read_bytes() == b"555"
        with (path / "f5").open("r+b") as writer:
            writer.write(b"x")
        assert (path / "f5").read_bytes() == b"x55"
        assert (path / "f6").read_bytes() == b"666"
        with pytest.raises(OSError, match="Errno 5"):
            os.pwrite(cached, b"y", 0)  # what it was to be written to is gone
    finally:
        os.close(reader)
        with pytest.raises(OSError, match="Errno 5"):
            os.close(cached)  # told again to who only looks here
    shutil.rmtree(path)
