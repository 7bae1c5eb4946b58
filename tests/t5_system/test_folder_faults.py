"""Folders of a worker that somebody fills, deletes, write-protects or spoils: the folder fails, not the data.

Owns: faults of the folders under the tiers, with real file systems. Never: those of the metadata (`test_faults.py`).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.testing.disk import SmallDisk

MIB = 1 << 20
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_root")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 64 MiB of its own."""
    with SmallDisk(tmp_path / "disk", 64 * MIB) as small:
        yield small


@pytest.fixture
def on_disk(start: Callable[..., isotach.Cluster], disk: SmallDisk) -> isotach.Cluster:
    """A worker whose only large tier is on that disk."""
    cluster = start(mem="8MiB", worker__tiers=f"SSD:{disk.path / 'tier'}:48MiB")
    yield cluster
    cluster.stop()


def write_all(fs: isotach.FileSystem, count: int, write_type: str = "CACHE_THROUGH") -> dict[str, bytes]:
    contents = {f"/f{number}": os.urandom(2 * MIB) for number in range(count)}
    for path, data in contents.items():
        fs.write(path, data, write_type=write_type)
    return contents


def check_all(fs: isotach.FileSystem, contents: dict[str, bytes]) -> None:
    for _ in range(2):
        for path, data in contents.items():
            assert fs.read(path) == data, f"{path} differs"


@pytest.mark.fault("worker's folder filled by somebody else", "writes go to other tiers or through; nothing fails")
def test_a_folder_filled_by_somebody_else(on_disk, disk):
    with isotach.connect(on_disk.address) as fs:
        before = write_all(fs, 6)
        disk.fill()
        after = {f"/g{number}": os.urandom(2 * MIB) for number in range(10)}
        for path, data in after.items():
            fs.write(path, data)
        check_all(fs, before | after)
        disk.empty()
        check_all(fs, write_all(fs, 8) | after)


@pytest.mark.fault("tier folder deleted under the worker", "its files are read from the store; the worker lives on")
def test_a_folder_deleted_while_it_serves(on_disk, disk, eventually):
    with isotach.connect(on_disk.address) as fs:
        contents = write_all(fs, 10)
        shutil.rmtree(disk.path / "tier")
        check_all(fs, contents)
        more = {f"/g{number}": os.urandom(2 * MIB) for number in range(8)}
        for path, data in more.items():
            fs.write(path, data)
        check_all(fs, contents | more)
        assert all(worker.live for worker in fs.workers())


@pytest.mark.fault("tier folder made read-only", "what is in it is read on; new data goes elsewhere; it comes back")
def test_a_folder_made_read_only(start, tmp_path, eventually):
    with SmallDisk(tmp_path / "tier" / "containers", 64 * MIB) as disk:
        cluster = start(mem="8MiB", worker__tiers=f"SSD:{tmp_path / 'tier'}:48MiB")
        with isotach.connect(cluster.address) as fs:
            contents = write_all(fs, 8)
            eventually(lambda: made_read_only(disk), timeout=20, message="a container stays open for writing")
            more = {f"/g{number}": os.urandom(2 * MIB) for number in range(8)}
            for path, data in more.items():
                fs.write(path, data)
            check_all(fs, contents | more)
            disk.remount("rw")
            check_all(fs, contents | more)
            check_all(fs, write_all(fs, 8) | more)
        cluster.stop()


def made_read_only(disk: SmallDisk) -> bool:
    """The kernel refuses as long as anything is open for writing."""
    try:
        disk.remount("ro")
    except OSError:
        return False
    return True


@pytest.mark.fault(
    "bit flipped in a page on disk", "found by its checksum after a restart, dropped, read again from the store"
)
def test_a_flipped_bit_on_disk(start, tmp_path: Path):
    settings = {"mem": "0", "worker__tiers": f"SSD:{tmp_path / 'tier'}:64MiB"}
    data = os.urandom(3 * MIB)
    cluster = start(**settings)
    with isotach.connect(cluster.address) as fs:
        fs.write("/f", data)
    cluster.stop()
    (container,) = (path for path in (tmp_path / "tier" / "containers").rglob("*") if path.is_file())
    flip_bit(container, MIB + 77)
    with isotach.connect(start(**settings).address) as fs:
        assert fs.read("/f") == data
        assert fs.read("/f") == data


def flip_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
