"""Every test of this folder runs on tmpfs, which says what is right, and on a mount."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount, real_mount


@pytest.fixture(scope="session")
def shared_mount(fuse_cluster: Cluster) -> Iterator[RealMount]:
    """A mount that all users may use, where they may go."""
    with tempfile.TemporaryDirectory(prefix="isotach-posix-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        with real_mount(fuse_cluster, Path(name), allow_other=True) as mount:
            yield mount


@pytest.fixture(scope="session")
def cached_mount(fuse_cluster: Cluster) -> Iterator[RealMount]:
    """A mount whose files are only cached: for what is too much for any under storage."""
    with (
        tempfile.TemporaryDirectory(prefix="isotach-posix-") as name,
        real_mount(fuse_cluster, Path(name), write_type="MUST_CACHE") as mount,
    ):
        yield mount


@pytest.fixture(params=["tmpfs", "cached_mount"])
def roomy_place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder for files that are longer than there is room for anywhere."""
    yield from _place(request)


@pytest.fixture(params=["tmpfs", "shared_mount"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder."""
    yield from _place(request)


def _place(request: pytest.FixtureRequest) -> Iterator[Path]:
    if request.param == "tmpfs":
        with tempfile.TemporaryDirectory(prefix="isotach-posix-", dir="/dev/shm") as name:
            Path(name).chmod(0o755)
            yield Path(name)
    else:
        mount: RealMount = request.getfixturevalue(request.param)
        folder = Path(tempfile.mkdtemp(dir=mount.path))
        folder.chmod(0o755)
        yield folder
        shutil.rmtree(folder)
