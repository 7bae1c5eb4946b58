"""One cluster with one mount of it for all tests of mounts that break neither.

Owns: both, and a directory of its own for each test. Never: looks at how a mount works.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount


def _check_machine() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse, readable and writable")


@pytest.fixture(scope="session")
def fuse_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the session; its memory tier holds 512 MiB."""
    _check_machine()
    memory = tempfile.mkdtemp(prefix="isotach-test-", dir="/dev/shm")
    folder = tmp_path_factory.mktemp("fuse")
    with isotach.start(dir=folder / "cluster", mem="512MiB", worker__mem_dir=f"{memory}/mem") as cluster:
        yield cluster
    shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture(scope="session")
def fuse_mount(fuse_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """A mount of its root, with the default options. Tests must leave it as it is, and use `fuse_dir`."""
    with real_mount(fuse_cluster, tmp_path_factory.mktemp("mount")) as mount:
        yield mount


@pytest.fixture(scope="session")
def fuse_fs(fuse_cluster: Cluster) -> Iterator[isotach.FileSystem]:
    """The client library on the same cluster: what others see."""
    with isotach.connect(fuse_cluster.address) as fs:
        yield fs


@pytest.fixture
def fuse_dir(fuse_mount: RealMount, request: pytest.FixtureRequest) -> Path:
    """An empty directory of the test's own on the mount; `/<name>` in the namespace."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:40]
    folder = fuse_mount.path / f"{name}-{os.urandom(3).hex()}"
    folder.mkdir()
    return folder


@pytest.fixture
def mount_of(tmp_path: Path, start: Callable[..., Cluster]) -> Iterator[Callable[..., RealMount]]:
    """`mount_of(cluster=None, **options)`: a mount that the test may break, by default of a cluster of its own."""
    _check_machine()
    with contextlib.ExitStack() as made:

        def mount(cluster: Cluster | None = None, source: str = "/", **options: object) -> RealMount:
            return made.enter_context(real_mount(cluster or start(), tmp_path, source=source, **options))

        yield mount
