"""The rim's tests talk to a real standalone cluster: master, reader and worker in processes of their own.

Owns: one cluster for all of them, and a clean folder in its namespace for each test. Never: stops and starts it in
between; a test that needs that starts its own.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import isotach


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[isotach.Cluster]:
    """A standalone cluster with 64 MiB of memory tier, on free ports."""
    tmpfs = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="isotach-test-", dir=tmpfs) as memory:
        folder = tmp_path_factory.mktemp("cluster")
        with isotach.start(dir=folder, mem="64MiB", worker__mem_dir=f"{memory}/mem", log__level="warning") as running:
            yield running


@pytest.fixture
def real_fs(cluster: isotach.Cluster) -> Iterator[isotach.FileSystem]:
    """A client of it over the Unix socket."""
    with isotach.connect(cluster.address) as fs:
        yield fs


@pytest.fixture
def real_tcp_fs(cluster: isotach.Cluster) -> Iterator[isotach.FileSystem]:
    """A client of it over TCP, data included."""
    with isotach.connect(cluster.tcp_address, short_circuit=False) as fs:
        yield fs


@pytest.fixture
def folder(real_fs: isotach.FileSystem, request: pytest.FixtureRequest) -> Iterator[str]:
    """A directory of the namespace that is empty and this test's own."""
    path = f"/test-{abs(hash(request.node.nodeid)):x}"
    real_fs.mkdir(path)
    yield path
    real_fs.remove(path, recursive=True)


@pytest.fixture
def mounted(real_fs: isotach.FileSystem, folder: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(path in the namespace, local folder): a mount of that folder."""
    store = tmp_path / "store"
    store.mkdir()
    path = f"{folder}/mnt"
    real_fs.mount(path, str(store))
    yield path, store
    real_fs.unmount(path)
