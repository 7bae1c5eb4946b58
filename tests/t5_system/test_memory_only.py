"""Memory-only data: random bytes are written, read, copied to a second worker and survive restarts, and no 64 bytes of
them are in any folder that is on a disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import isotach

MIB = 1 << 20
WINDOW = 64


@pytest.fixture
def cluster(start, tmp_path: Path) -> isotach.Cluster:
    """Two workers with little memory and much disk."""
    return start(mem="12MiB", workers=2, worker__tiers=f"SSD:{tmp_path}/ssd:200MiB", worker__host_key="elsewhere")


def files_in(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def windows_of(secrets: list[bytes]) -> set[bytes]:
    """Every aligned window: a run of twice its length that reached a file holds one of them, at whatever place."""
    return {secret[at : at + WINDOW] for secret in secrets for at in range(0, len(secret) - WINDOW, WINDOW)}


def holds_any(path: Path, windows: set[bytes]) -> bool:
    """Whether a window is in the file: aligned as containers, pages and copies of them are, and, for some of the
    windows, at any place at all."""
    data = path.read_bytes()
    if any(data[at : at + WINDOW] in windows for at in range(0, len(data), WINDOW)):
        return True
    return any(window in data for window in sorted(windows)[:: len(windows) // 64])


def test_no_byte_of_it_reaches_a_disk(cluster, fs, tmp_path, eventually):
    secrets = [os.urandom(2 * MIB) for _ in range(3)]
    fs.mkdir("/m")
    fs.set_policy("/m", memory_only=True)
    fs.write("/m/first", secrets[0])
    fs.write("/second", secrets[1], memory_only=True, write_type="MUST_CACHE")
    with pytest.raises(isotach.InvalidArgumentError, match="memory-only"):
        fs.write("/m/third", secrets[2], write_type="CACHE_THROUGH")
    with pytest.raises(isotach.InvalidArgumentError, match="memory-only"):
        fs.persist("/m/first")
    for number in range(14):  # ordinary files push whatever may go out of memory
        fs.write(f"/filler-{number}", os.urandom(2 * MIB), write_type="CACHE_THROUGH")
    assert fs.read("/m/first") == secrets[0]
    assert fs.read("/second") == secrets[1]
    assert fs.load("/m", replicas=2) == 1
    eventually(lambda: fs.stat("/m/first").copies == 2)
    fs.rename("/m/first", "/m/renamed")
    cluster.stop_worker(1)
    cluster.add_worker(1)
    assert fs.read("/m/renamed") == secrets[0]
    for name in ("/m/renamed", "/second"):
        info = fs.stat(name)
        assert info.policy.memory_only
        assert not info.persisted

    windows = windows_of(secrets)
    assert [path for path in files_in(tmp_path) if holds_any(path, windows)] == []
    memory = Path(str(cluster.settings.worker.mem_dir)).parent
    assert any(holds_any(path, windows) for path in files_in(memory))  # the search finds what is there


def test_a_write_that_finds_no_memory_is_refused(fs):
    with pytest.raises(OSError, match=r"room|full|space") as refused:
        fs.write("/m", os.urandom(40 * MIB), memory_only=True)
    assert refused.value.errno == 28
    assert not fs.exists("/m")
