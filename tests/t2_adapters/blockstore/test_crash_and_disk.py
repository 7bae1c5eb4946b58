"""A killed process, a full file system, a hundred thousand versions."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.folder import Folder
from isotach.blockstore.index import Header, header_row
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec

from .conftest import content, fill_all, meta_of

_CHILD = """
import os, sys
from pathlib import Path
from isotach.blockstore.store import BlockStore
from isotach.blockstore.entry import VersionMeta
from isotach.conf.kinds import TierSpec
MIB = 1 << 20
store = BlockStore([TierSpec("MEM", Path(sys.argv[1]), 32 * MIB)])
store.fill(VersionMeta(1, 1, 2 * MIB, 4 * MIB), 0, b"a" * 2 * MIB)
store.fill(VersionMeta(2, 2, 8 * MIB, 4 * MIB), 3, b"b" * MIB)
draft = store.begin_write(VersionMeta(3, 3, 0, 4 * MIB))
draft.write(0, b"c" * 3000)
draft.seal(3000, dirty=True)
store.begin_write(VersionMeta(4, 4, 0, 4 * MIB)).write(0, b"d" * MIB)
os.kill(os.getpid(), 9)
"""


def test_a_killed_worker_finds_what_was_committed_and_nothing_else(tmp_path):
    folder = tmp_path / "MEM"
    child = subprocess.run([sys.executable, "-c", _CHILD, str(folder)], check=False, timeout=30)
    assert child.returncode == -9
    (folder / "containers" / f"{99:016x}").write_bytes(b"no row")
    store = BlockStore([TierSpec("MEM", folder, 32 * MIB)])
    try:
        assert sorted(store.versions()) == [1, 2, 3]
        assert sorted(os.listdir(folder / "containers")) == [f"{version:016x}" for version in (1, 2, 3)]
        assert store.get(1).complete
        assert store.get(2).has(3, 4)
        assert store.get(3).dirty
        assert store.tiers()[0].used_bytes == 3 * MIB + 4096
        for version in (1, 2, 3):
            store.verify(store.get(version))
        assert store.checksum_errors == 0
    finally:
        store.close()


def test_a_row_without_its_container_is_dropped(open_store, tmp_path):
    store = open_store(MEM=8)
    store.fill(meta_of(1, 100), 0, content(1, 100))
    store.close()
    (tmp_path / "MEM" / "containers" / f"{1:016x}").unlink()
    again = open_store(MEM=8)
    assert again.versions() == []
    assert again.tiers()[0].used_bytes == 0


def test_a_hundred_thousand_versions_start_and_are_told_at_once(memory_folder):
    spec = TierSpec("MEM", memory_folder / "MEM", 1 << 40)
    folder = Folder(spec, b"")
    header = Header(1, 100, 4 * MIB, "e", True, False, False)
    folder.commit([header_row(version, header) for version in range(100_000)])
    for version in range(100_000):
        os.close(os.open(memory_folder / "MEM" / "containers" / f"{version:016x}", os.O_CREAT | os.O_WRONLY))
    folder.close()
    started = time.perf_counter()
    store = BlockStore([spec])
    told = store.reports(store.versions())
    seconds = time.perf_counter() - started
    assert len(told) == 100_000
    store.close()
    assert seconds < 4, f"{seconds:.2f} s; 0.4 s on an idle machine"


def test_a_large_container_is_removed_without_anybody_waiting(open_store, tmp_path):
    store = open_store(SSD=256)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(0, b"x")
    draft.write(80 * MIB, b"y" * PAGE_BYTES)
    entry = draft.seal(81 * MIB, dirty=False)
    entry.pages.add(0, [0] * 80)  # counted as if it were all there, to have it called large
    descriptor = store.open_container(entry)
    assert store.free(1)
    names = os.listdir(tmp_path / "SSD" / "containers")
    assert [name.endswith(".draft") for name in names] == [True]
    assert fill_all(store, 1, PAGE_BYTES)
    store.mover.run_once()
    assert os.listdir(tmp_path / "SSD" / "containers") == [f"{1:016x}"]
    assert os.pread(descriptor, 1, 80 * MIB) == b"y"
    os.close(descriptor)


@pytest.fixture
def small_tmpfs(tmp_path, require_root):
    """A file system of 8 MiB: its end comes long before the quota's."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
def test_a_full_file_system_is_like_a_full_quota(small_tmpfs: Path, tmp_path):
    store = BlockStore([TierSpec("MEM", small_tmpfs / "tier", 1 << 30), TierSpec("SSD", tmp_path / "ssd", 64 * MIB)])
    try:
        length = 2 * PAGE_BYTES
        for version in range(12):
            assert store.fill(VersionMeta(version, version, length, 4 * MIB), 0, content(version, length))
        assert {store.get(version).tier.alias for version in store.versions()} == {"MEM", "SSD"}
        draft = store.begin_write(meta_of(50, 0))
        for at in range(0, 20 * MIB, MIB):
            draft.write(at, content(50, MIB))
        assert draft.seal(20 * MIB, dirty=True).complete
    finally:
        store.close()


@pytest.mark.root
def test_a_file_system_that_others_fill_up_is_no_error(small_tmpfs: Path):
    store = BlockStore([TierSpec("MEM", small_tmpfs / "tier", 1 << 30)])
    try:
        assert store.fill(meta_of(1, PAGE_BYTES, pinned=True), 0, content(1, PAGE_BYTES))
        filler = small_tmpfs / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(descriptor, bytes(65536)):
                pass
        os.close(descriptor)
        assert not store.fill(meta_of(2, PAGE_BYTES), 0, content(2, PAGE_BYTES))
        draft = store.begin_write(meta_of(3, 0))
        with pytest.raises(TierFullError):
            draft.write(0, content(3, PAGE_BYTES))
        draft.abort()
        filler.unlink()
        assert store.fill(meta_of(2, PAGE_BYTES), 0, content(2, PAGE_BYTES))
    finally:
        store.close()
