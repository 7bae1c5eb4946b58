"""A worker with several tiers, as its users see it: what is written is there, wherever it sinks, and after a crash."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach

MIB = 1 << 20


def used(fs: isotach.FileSystem) -> dict[str, int]:
    return {tier.alias: tier.used_bytes for tier in fs.workers()[0].tiers}


@pytest.mark.parametrize("point", ["store.before_move_switch:2", "store.after_move_switch:2"])
@pytest.mark.fault("kill -9 of a worker that moves files between tiers", "every file is found once, and whole")
def test_a_worker_killed_while_files_sink(
    start: Callable[..., isotach.Cluster],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
    point: str,
) -> None:
    marker = tmp_path / "reached"
    monkeypatch.setenv("ISOTACH_TEST_FAILPOINT", f"{point}@{marker}")
    tiers = f"SSD:{tmp_path / 'a'}:64MiB,SSD:{tmp_path / 'b'}:64MiB"
    cluster = start(mem="16MiB", worker__tiers=tiers)
    contents = {f"/f{number}": os.urandom(MIB + number) for number in range(40)}
    with isotach.connect(cluster.address) as fs:
        for path, data in contents.items():
            for _ in range(20):  # the worker dies once, and its supervisor starts it again
                try:
                    fs.write(path, data, write_type="MUST_CACHE", overwrite=True)
                    break
                except (isotach.IsotachError, OSError):
                    continue
        eventually(marker.exists, message="nothing was moved twice")
        for path, data in contents.items():
            assert fs.read(path) == data, f"{path} differs"
            assert not fs.stat(path).persisted
    folders = [cluster.settings.worker.mem_dir, tmp_path / "a", tmp_path / "b"]
    names = [name for folder in folders for name in os.listdir(folder / "containers") if len(name) == 16]
    assert len(names) == len(set(names)) == len(contents)


def test_a_directory_bound_to_a_tier(
    start: Callable[..., isotach.Cluster], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    cluster = start(mem="16MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:64MiB")
    with isotach.connect(cluster.address) as fs:
        fs.mkdir("/bound")
        fs.pin("/bound", tier="SSD")
        fs.write("/bound/f", b"b" * MIB, write_type="MUST_CACHE")
        eventually(lambda: used(fs)["SSD"] == MIB)
        assert fs.read("/bound/f") == b"b" * MIB


def test_no_byte_of_a_memory_only_file_is_on_a_disk(
    start: Callable[..., isotach.Cluster], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    store = tmp_path / "store"
    cluster = start(mem="16MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:64MiB", master__root_ufs=str(store))
    secret = os.urandom(64)
    with isotach.connect(cluster.address) as fs:
        fs.write("/secret", secret * (MIB // 64), memory_only=True)
        with pytest.raises((isotach.IsotachError, OSError), match="memory"):
            fs.write("/too-large", secret * (MIB // 2), memory_only=True)
        for number in range(30):
            fs.write(f"/f{number}", os.urandom(MIB), write_type="MUST_CACHE")
        assert fs.read("/secret") == secret * (MIB // 64)
        eventually(lambda: used(fs)["SSD"] > 0)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.startswith("lock.mdb"):
            assert secret not in path.read_bytes(), f"{path} holds bytes of it"
