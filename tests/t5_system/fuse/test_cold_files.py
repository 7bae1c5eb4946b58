"""Files that are not whole on this host, read through a mount: from S3 by the local worker, and from other hosts.

The bytes must be right whatever the order of reading, also when the worker dies or the file goes meanwhile.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import isotach
from isotach.base.limits import KIB, MIB
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount
from isotach.testing.seaweed import SeaweedServer

pytestmark = [pytest.mark.fuse, pytest.mark.root]
DATA = random.Random(4).randbytes(20 * MIB + 4321)


@pytest.fixture
def store(fuse_fs: isotach.FileSystem, seaweed: SeaweedServer, prefix: str) -> Iterator[str]:
    """A mount of the bucket in the namespace of the session's cluster; its path."""
    path = f"/s3-{os.urandom(3).hex()}"
    fuse_fs.mount(path, f"s3://system/{prefix}", options=seaweed.options())
    yield path
    fuse_fs.unmount(path)


def cold(fs: isotach.FileSystem, path: str) -> None:
    """A file that only the store has."""
    fs.write(path, DATA, write_type="THROUGH")
    fs.free(path)
    assert fs.stat(path).cached_bytes == 0


def test_cold_files_are_read_in_any_order(fuse_mount: RealMount, fuse_fs: isotach.FileSystem, store: str) -> None:
    cold(fuse_fs, f"{store}/file")
    path = fuse_mount.path / store[1:] / "file"
    places = [(offset, 4 * KIB) for offset in range(0, len(DATA), 3 * MIB)] + [(7 * MIB - 5, 2 * MIB), (0, len(DATA))]
    random.Random(1).shuffle(places)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda place: os.pread(descriptor, place[1], place[0]), places))
    finally:
        os.close(descriptor)
    assert found == [DATA[offset : offset + size] for offset, size in places]
    assert path.read_bytes() == DATA


def test_a_cold_file_removed_while_it_is_open_is_read_to_its_end(
    fuse_mount: RealMount, fuse_fs: isotach.FileSystem, store: str
) -> None:
    cold(fuse_fs, f"{store}/file")
    path = fuse_mount.path / store[1:] / "file"
    with path.open("rb", buffering=0) as file:
        assert file.read(1000) == DATA[:1000]
        path.unlink()
        assert not fuse_fs.exists(f"{store}/file")
        assert file.read() == DATA[1000:]
        assert os.fstat(file.fileno()).st_nlink == 0


def test_a_cold_file_replaced_while_it_is_open(fuse_mount: RealMount, fuse_fs: isotach.FileSystem, store: str) -> None:
    cold(fuse_fs, f"{store}/file")
    path = fuse_mount.path / store[1:] / "file"
    with path.open("rb", buffering=0) as old:
        assert old.read(4 * KIB) == DATA[: 4 * KIB]
        fuse_fs.write(f"{store}/file", b"new content")
        assert path.read_bytes() == b"new content"
        try:
            rest = old.read()
        except OSError:
            rest = b""  # what nobody has any more is an error, never another version's bytes
        assert DATA[4 * KIB :].startswith(rest)


@pytest.fixture
def other_host(start: Callable[..., Cluster]) -> Cluster:
    """A cluster whose worker is on another host, as far as anybody can tell."""
    return start(worker__host_key="elsewhere")


def test_files_of_other_hosts_are_read_through_the_network(
    other_host: Cluster, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    with isotach.connect(other_host.address) as fs, real_mount(other_host, tmp_path) as mount:
        fs.write("/file", DATA, write_type="MUST_CACHE")
        fs.write("/small", b"small", write_type="MUST_CACHE")
        path = mount.path / "file"
        assert (mount.path / "small").read_bytes() == b"small"
        assert path.read_bytes() == DATA
        # Many readers, each at its own place, more than there are connections for one file.
        failures: list[int] = []

        def read(seed: int) -> None:
            choice = random.Random(seed)
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                for _ in range(20):
                    offset = choice.randrange(len(DATA))
                    if os.pread(file.fileno(), 100_000, offset) != DATA[offset : offset + 100_000]:
                        failures.append(offset)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert failures == []
        with path.open("rb", buffering=0) as file:
            path.unlink()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == DATA
