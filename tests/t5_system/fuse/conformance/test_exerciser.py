"""Random calls on one file of a mount, in the ways that a mount keeps files, against a model."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from isotach.run.standalone import Cluster
from isotach.testing.fsx import Exerciser
from isotach.testing.fuse import RealMount, real_mount

_STEPS = 250


@pytest.fixture(scope="module")
def overlay_mount(fuse_cluster: Cluster) -> Iterator[RealMount]:
    """A mount that holds nothing of a file in memory, and copies no file before it is changed."""
    with (
        tempfile.TemporaryDirectory(prefix="isotach-fsx-") as name,
        real_mount(fuse_cluster, Path(name), write_type="MUST_CACHE", copy_ahead="0", small_file="0") as mount,
    ):
        yield mount


@pytest.mark.parametrize("seed", [2])
@pytest.mark.parametrize("which", ["shared_mount", "cached_mount", "overlay_mount"])
def test_random_calls_do_what_they_say(request: pytest.FixtureRequest, which: str, seed: int) -> None:
    mount: RealMount = request.getfixturevalue(which)
    path = mount.path / f"exercised-{os.urandom(3).hex()}"
    exerciser = Exerciser(path, seed)
    exerciser.run(_STEPS)
    exerciser.close()
    path.unlink()
