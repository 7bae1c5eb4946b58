"""Every test of this folder runs on tmpfs, which says what is right, and on a mount."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["tmpfs"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder."""
    if request.param == "tmpfs":
        with tempfile.TemporaryDirectory(prefix="isotach-posix-", dir="/dev/shm") as name:
            Path(name).chmod(0o755)
            yield Path(name)
    else:
        mount: Path = request.getfixturevalue("fuse_mount")
        folder = Path(tempfile.mkdtemp(dir=mount))
        folder.chmod(0o755)
        yield folder
        shutil.rmtree(folder)
