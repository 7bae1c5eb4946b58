"""Folders that vanish, turn read-only, are full of other people's files, or are broken from the start."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isotach.base.errors import AlreadyRunningError
from isotach.base.limits import FOLDER_CHECK_S, MIB, PAGE_BYTES
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec

from .conftest import bytes_of, content, fill_all, meta_of, places_of, write_all


class Clock:
    """Makes the mover look at the folders when the test says so."""

    def __init__(self, store: BlockStore) -> None:
        self._now_s = 0.0
        self._store = store
        store.mover._monotonic_s = lambda: self._now_s
        store.mover._checked_s = 0.0

    def check(self) -> None:
        self._now_s += FOLDER_CHECK_S
        self._store.mover.run_once()


@pytest.fixture
def mount(tmp_path: Path, require_root: None) -> Iterator[Callable[..., Path]]:
    """`mount("a", "8m")` gives a file system of that size."""
    mounted: list[Path] = []

    def make(name: str, size: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def failures(store: BlockStore) -> dict[str, str]:
    return {Path(each.path).name: each.failure for tier in store.tiers() for each in tier.folders}


def test_a_vanished_folder_costs_its_versions_only_and_comes_back_empty(open_store, tmp_path):
    changed: list[int] = []
    store = open_store(SSD=8, SSD2=8)
    store._shelves.on_change = changed.append
    for version in range(6):
        assert fill_all(store, version, PAGE_BYTES)
    gone = {version for version, place in places_of(store).items() if place == "SSD2"}
    changed.clear()
    clock = Clock(store)
    shutil.rmtree(tmp_path / "SSD2")
    clock.check()
    assert set(store.versions()) == set(range(6)) - gone
    assert set(changed) == gone
    assert failures(store)["SSD"] == ""
    assert "No such file" in failures(store)["SSD2"]
    assert [tier.capacity_bytes for tier in store.tiers()] == [8 * MIB]
    for version in range(6):
        assert fill_all(store, version, PAGE_BYTES)
        assert bytes_of(store, version) == content(version, PAGE_BYTES)
    clock.check()
    assert failures(store)["SSD2"], "what is missing may be a mount: nobody makes the folder anew"
    (tmp_path / "SSD2").mkdir()
    clock.check()
    assert failures(store) == {"SSD": "", "SSD2": ""}
    assert fill_all(store, 10, PAGE_BYTES)
    assert places_of(store)[10] == "SSD2"


def test_a_folder_that_is_back_brings_its_versions(open_store, tmp_path):
    changed: list[int] = []
    store = open_store(SSD=8, SSD2=8)
    store._shelves.on_change = changed.append
    for version in range(6):
        write_all(store, version, PAGE_BYTES)
    gone = [version for version, place in places_of(store).items() if place == "SSD2"]
    clock = Clock(store)
    (tmp_path / "SSD2").rename(tmp_path / "away")
    clock.check()
    assert not set(gone) & set(store.versions())
    assert fill_all(store, gone[0], PAGE_BYTES)
    changed.clear()
    (tmp_path / "away").rename(tmp_path / "SSD2")
    clock.check()
    assert set(store.versions()) == set(range(6))
    assert set(changed) == set(gone[1:])
    assert places_of(store)[gone[0]] == "SSD"
    for version in range(6):
        store.verify(store.get(version))
        assert bytes_of(store, version) == content(version, PAGE_BYTES)
        assert store.get(version).dirty == (version != gone[0])
    assert sorted(os.listdir(tmp_path / "SSD2" / "containers")) == [f"{version:016x}" for version in gone[1:]]


def test_who_meets_the_failure_first_is_served(open_store, tmp_path):
    store = open_store(SSD=8, SSD2=16)
    assert fill_all(store, 1, PAGE_BYTES)
    assert places_of(store)[1] == "SSD2"
    entry = store.get(1)
    shutil.rmtree(tmp_path / "SSD2")
    with pytest.raises(FileNotFoundError):
        store.open_container(entry)
    assert store.get(1) is None
    assert fill_all(store, 1, PAGE_BYTES)
    assert places_of(store)[1] == "SSD"


def test_a_draft_outlives_its_folder(open_store, tmp_path):
    store = open_store(SSD=8, SSD2=16)
    length = 3 * PAGE_BYTES + 9
    data = content(1, length)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(0, data[: 2 * PAGE_BYTES])
    shutil.rmtree(tmp_path / "SSD2")
    draft.write(2 * PAGE_BYTES, data[2 * PAGE_BYTES :])
    assert draft.seal(length, dirty=True).folder.path.name == "SSD"
    assert bytes_of(store, 1) == data
    assert store.tiers()[0].used_bytes == 3 * PAGE_BYTES + 4096


def test_fills_under_way_in_a_folder_that_fails_are_not_kept(open_store, tmp_path):
    store = open_store(SSD=8)
    data = content(1, 2 * PAGE_BYTES)
    meta = meta_of(1, 2 * PAGE_BYTES)
    entry = store.prepare(meta)
    store.hand_out(entry)
    fill = store.begin_fill(meta, 0, 2)
    assert fill.put(memoryview(data)[:PAGE_BYTES])
    clock = Clock(store)
    shutil.rmtree(tmp_path / "SSD")
    clock.check()
    assert not fill.put(memoryview(data)[PAGE_BYTES:])
    assert not fill.close()
    assert store.versions() == []
    assert not fill_all(store, 2, PAGE_BYTES)
    with pytest.raises(TierFullError, match="no cache tier that serves"):
        store.begin_write(meta_of(3, 0))


def test_a_container_deleted_by_somebody_is_fetched_again(open_store, tmp_path):
    store = open_store(MEM=8)
    for version in (1, 2):
        assert fill_all(store, version, PAGE_BYTES)
        (tmp_path / "MEM" / "containers" / f"{version:016x}").unlink()
    with pytest.raises(FileNotFoundError):
        store.open_container(store.get(1))
    assert store.verify(store.get(2), force=True) == 0
    assert store.versions() == []
    assert store.tiers()[0].used_bytes == 0
    assert failures(store)["MEM"] == ""
    assert fill_all(store, 1, PAGE_BYTES)
    assert bytes_of(store, 1) == content(1, PAGE_BYTES)


@pytest.mark.root
def test_a_folder_that_refuses_writes_is_left_alone_until_it_takes_them(tmp_path, require_root):
    """What a kernel makes of a disk with errors: it turns read-only. Here the immutable flag stands for that."""
    specs = [TierSpec("SSD", tmp_path / "ro", 16 * MIB), TierSpec("SSD", tmp_path / "rw", 8 * MIB)]
    store = BlockStore(specs)
    containers = tmp_path / "ro" / "containers"
    try:
        write_all(store, 1, PAGE_BYTES)
        assert store.get(1).folder.path == specs[0].path
        if subprocess.run(["chattr", "+i", str(containers)], check=False, capture_output=True).returncode:
            pytest.skip("no immutable flag on this file system")
        try:
            write_all(store, 2, PAGE_BYTES)
            assert store.get(2).folder.path == specs[1].path
            assert store.get(1) is None
            assert "not permitted" in failures(store)["ro"]
            clock = Clock(store)
            clock.check()
            assert store.get(1) is None
        finally:
            subprocess.run(["chattr", "-i", str(containers)], check=True)
        clock.check()
        assert store.get(1).dirty
        assert bytes_of(store, 1) == content(1, PAGE_BYTES)
    finally:
        store.close()


@pytest.mark.root
def test_an_unmounted_folder_fails_and_the_folder_under_it_is_not_used(mount, tmp_path):
    place = mount("gone", "32m")
    store = BlockStore([TierSpec("SSD", place / "tier", 16 * MIB), TierSpec("HDD", tmp_path / "hdd", 8 * MIB)])
    try:
        write_all(store, 1, PAGE_BYTES)
        clock = Clock(store)
        subprocess.run(["umount", "-l", str(place)], check=True)
        clock.check()
        clock.check()
        assert store.versions() == []
        assert os.listdir(place) == []
        write_all(store, 2, PAGE_BYTES)
        assert store.get(2).tier.alias == "HDD"
    finally:
        store.close()


@pytest.mark.root
def test_a_disk_that_fills_up_in_the_middle_of_a_page_by_page_fill(mount):
    place = mount("full", "8m")
    store = BlockStore([TierSpec("SSD", place / "tier", 64 * MIB)])
    try:
        length = 4 * PAGE_BYTES
        data, meta = content(1, length), VersionMeta(1, 1, length, 4 * MIB)
        entry = store.prepare(meta)
        store.hand_out(entry)
        fill = store.begin_fill(meta, 0, 4)
        assert fill.put(memoryview(data)[:PAGE_BYTES])
        filler = os.open(place / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(filler, bytes(65536)):
                pass
        os.close(filler)
        assert not fill.put(memoryview(data)[PAGE_BYTES : 2 * PAGE_BYTES])
        assert entry.present_to(0) == PAGE_BYTES, "what has become whole stays"
        (place / "filler").unlink()
        assert fill.close()
        assert failures(store)["tier"] == "", "a folder full of other people's files is just full"
        assert store.tiers()[0].used_bytes == PAGE_BYTES
        rest = store.begin_fill(meta, 1, 4)
        for page in (1, 2, 3):
            assert rest.put(memoryview(data)[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
        assert rest.close()
        assert bytes_of(store, 1) == data
    finally:
        store.close()


def test_a_bad_folder_at_the_start_is_left_out_until_it_serves(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = BlockStore([TierSpec("SSD", tmp_path / "file", 8 * MIB), TierSpec("SSD", tmp_path / "good", 8 * MIB)])
    try:
        assert failures(store)["good"] == ""
        assert failures(store)["file"] != ""
        assert store.tiers()[0].capacity_bytes == 8 * MIB
        assert fill_all(store, 1, PAGE_BYTES)
        (tmp_path / "file").unlink()
        (tmp_path / "file").mkdir()
        Clock(store).check()
        assert failures(store) == {"file": "", "good": ""}
    finally:
        store.close()


def test_a_damaged_index_leaves_its_folder_out(open_store, tmp_path):
    store = open_store(SSD=8, SSD2=8)
    assert fill_all(store, 1, PAGE_BYTES)
    store.close()
    (tmp_path / "SSD" / "index" / "data.mdb").write_bytes(b"no index" * 4096)
    again = open_store(SSD=8, SSD2=8)
    assert failures(again)["SSD"] != ""
    assert fill_all(again, 2, PAGE_BYTES)


def test_a_folder_in_use_by_another_worker_is_an_error(open_store):
    open_store(SSD=8)
    with pytest.raises(AlreadyRunningError):
        open_store(SSD=8)


def test_a_folder_in_memory_that_somebody_swept_away_is_made_again(memory_folder, tmp_path):
    store = BlockStore([TierSpec("MEM", memory_folder / "tier", 8 * MIB)])
    try:
        assert fill_all(store, 1, PAGE_BYTES)
        shutil.rmtree(memory_folder / "tier")
        clock = Clock(store)
        clock.check()
        assert store.versions() == []
        clock.check()
        assert fill_all(store, 1, PAGE_BYTES)
        assert bytes_of(store, 1) == content(1, PAGE_BYTES)
    finally:
        store.close()
