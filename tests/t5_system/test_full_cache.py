"""A cache full of what must stay, and a load into a cache full of what may go: neither is an error path."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach
from isotach.base.errors import JobFailedError
from isotach.run.standalone import Cluster

FILE_BYTES = 1 << 20


def _folder(path: Path, files: int) -> dict[str, bytes]:
    path.mkdir(parents=True)
    contents = {f"f{index}": os.urandom(FILE_BYTES) for index in range(files)}
    for name, data in contents.items():
        (path / name).write_bytes(data)
    return contents


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def small(start: Callable[..., Cluster], store: Path) -> Cluster:
    store.mkdir()
    return start(mem="16MiB")


def test_a_cache_full_of_what_must_stay_is_worked_around(small: Cluster, store: Path) -> None:
    kept, cold = _folder(store / "kept", 13), _folder(store / "cold", 6)
    with isotach.connect(small.address) as fs:
        fs.mount("/s", str(store))
        fs.load("/s/kept")
        fs.pin("/s/kept")
        fs.set_replication("/s/kept", 1, recursive=True)
        for name, data in cold.items():  # most find no room
            assert fs.read(f"/s/cold/{name}") == data
        for write_type in ("CACHE_THROUGH", "ASYNC_THROUGH", "MUST_CACHE", "THROUGH"):
            data = os.urandom(4 * FILE_BYTES)
            fs.write(f"/s/{write_type}", data, write_type=write_type)
            assert fs.read(f"/s/{write_type}") == data
        fs.persist("/s")
        with pytest.raises(JobFailedError, match="did not fit"):
            fs.load("/s/cold")
        assert all(fs.stat(f"/s/kept/{name}").cached_percent == 100 for name in kept)
        fs.unpin("/s/kept")
        fs.set_replication("/s/kept", 0, recursive=True)
        assert fs.load("/s/cold") == len(cold)
        assert all((store / each).stat().st_size == 4 * FILE_BYTES for each in ("ASYNC_THROUGH", "MUST_CACHE"))


def test_a_load_takes_the_place_of_what_may_go(small: Cluster, store: Path) -> None:
    for name in ("first", "second"):
        _folder(store / name, 11)
    with isotach.connect(small.address) as fs:
        fs.mount("/s", str(store))
        for name in ("first", "second", "first"):
            assert fs.load(f"/s/{name}") == 11
            assert all(info.cached_percent == 100 for info in fs.list(f"/s/{name}"))
