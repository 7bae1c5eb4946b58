"""Data that may only be in memory: no byte of it, and not its name, ever reaches a folder on a disk."""

import shutil
from pathlib import Path

import pytest

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.store import BlockStore
from isotach.blockstore.tier import Watermarks
from isotach.conf.kinds import TierSpec

from .conftest import bytes_of, content, fill_all, meta_of, write_all

SECRET = 0x5EC2E7


def store_over(memory: Path, disk: Path, mib: int = 8, marks: Watermarks | None = None) -> BlockStore:
    return BlockStore(
        [TierSpec("MEM", memory / "mem", mib * MIB), TierSpec("SSD", disk / "ssd", 64 * MIB)], marks=marks
    )


def traces_on(disk: Path, version: int, length: int) -> list[str]:
    """Files below a disk folder that hold a page's start, the key of a row, or the name of the version."""
    needles = [content(version, length)[:64], version.to_bytes(8, "big"), f"{version:016x}".encode()]
    found = []
    for path in disk.rglob("*"):
        held = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        if any(needle in held for needle in needles):
            found.append(str(path))
    return found


def test_no_byte_of_it_reaches_a_disk_whatever_happens(memory_folder, tmp_path):
    store = store_over(memory_folder, tmp_path, marks=Watermarks(0.5, 0.2))
    write_all(store, SECRET, PAGE_BYTES, memory_only=True)
    assert fill_all(store, SECRET + 1, PAGE_BYTES, memory_only=True)
    for version in range(12):
        write_all(store, version, PAGE_BYTES)
        store.mover.run_once()
    store.set_pinned(SECRET, True, "SSD")
    store.mover.run_once()
    assert store.get(SECRET).tier.alias == "MEM"
    assert store.tiers()[1].used_bytes >= 8 * PAGE_BYTES, "others were moved meanwhile"
    store.close()
    assert traces_on(tmp_path, SECRET, PAGE_BYTES) == []
    assert traces_on(tmp_path, SECRET + 1, PAGE_BYTES) == []
    assert traces_on(tmp_path, 0, PAGE_BYTES) != [], "the search finds what is there"
    again = store_over(memory_folder, tmp_path)
    assert again.get(SECRET).meta.memory_only
    assert bytes_of(again, SECRET) == content(SECRET, PAGE_BYTES)
    again.close()


def test_a_write_that_outgrows_memory_fails_instead_of_going_to_a_disk(memory_folder, tmp_path):
    store = store_over(memory_folder, tmp_path)
    draft = store.begin_write(meta_of(SECRET, 0, memory_only=True))
    for page in range(8):
        draft.write(page * PAGE_BYTES, content(SECRET, PAGE_BYTES))
    with pytest.raises(TierFullError, match="in memory, where alone this file may be"):
        draft.write(8 * PAGE_BYTES, content(SECRET, PAGE_BYTES))
    draft.abort()
    assert [tier.used_bytes for tier in store.tiers()] == [0, 0]
    store.close()
    assert traces_on(tmp_path, SECRET, PAGE_BYTES) == []


def test_without_a_folder_in_memory_it_is_refused_and_never_cached(tmp_path):
    store = BlockStore([TierSpec("MEM", tmp_path / "mem", 8 * MIB), TierSpec("SSD", tmp_path / "ssd", 8 * MIB)])
    with pytest.raises(TierFullError, match="may only be in memory"):
        store.begin_write(meta_of(SECRET, 0, memory_only=True))
    assert not fill_all(store, SECRET, PAGE_BYTES, memory_only=True)
    assert store.prepare(meta_of(SECRET, PAGE_BYTES, memory_only=True)) is None
    assert fill_all(store, 2, PAGE_BYTES)
    store.close()
    assert traces_on(tmp_path, SECRET, PAGE_BYTES) == []


def test_a_folder_that_is_no_longer_in_memory_gives_it_up(memory_folder, tmp_path):
    store = store_over(memory_folder, tmp_path)
    write_all(store, SECRET, PAGE_BYTES, memory_only=True)
    write_all(store, 7, PAGE_BYTES)
    store.close()
    shutil.copytree(memory_folder / "mem", tmp_path / "mem")
    again = BlockStore([TierSpec("MEM", tmp_path / "mem", 8 * MIB)])
    assert again.versions() == [7]
    assert [path.name for path in (tmp_path / "mem" / "containers").iterdir()] == [f"{7:016x}"]
    again.close()
