"""Looking through the store for bytes that rotted."""

import os
from pathlib import Path

import pytest

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.checksum import page_checksums

from .conftest import bytes_of, content, fill_all, meta_of, write_all


def flip(folder: Path, version: int, at: int) -> None:
    with open(folder / "containers" / f"{version:016x}", "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes((byte[0] ^ 1,)))


def test_a_scrub_drops_what_rotted_and_a_reader_gets_it_anew(open_store, tmp_path):
    store = open_store(MEM=16, SSD=16)
    length = 3 * PAGE_BYTES
    for version in (1, 2):
        assert fill_all(store, version, length)
    assert store.fill(meta_of(3, length, tier="SSD"), 1, content(3, length)[PAGE_BYTES : 2 * PAGE_BYTES])
    flip(tmp_path / "MEM", 1, PAGE_BYTES + 5)
    flip(tmp_path / "SSD", 3, PAGE_BYTES + 5)
    found = {entry.meta.version: store.verify(entry, force=True) for entry in store.scrub_candidates()}
    assert found == {1: 1, 2: 0, 3: 1}
    assert store.checksum_errors == 2
    assert store.counts_by_tier("checksum_errors") == {("MEM",): 1.0, ("SSD",): 1.0}
    assert not store.get(1).has(1, 2)
    assert store.fill(meta_of(1, length), 1, content(1, length)[PAGE_BYTES : 2 * PAGE_BYTES])
    assert bytes_of(store, 1) == content(1, length)
    assert sum(store.verify(entry, force=True) for entry in store.scrub_candidates()) == 0


def test_a_rotten_page_of_what_is_nowhere_else_stays_and_is_told_each_time(open_store, tmp_path):
    store = open_store(SSD=16)
    write_all(store, 1, 2 * PAGE_BYTES)
    flip(tmp_path / "SSD", 1, 7)
    for errors in (1, 2):
        with pytest.raises(DataCorruptionError, match="page 0 of version 1"):
            store.verify(store.get(1), force=True)
        assert store.checksum_errors == errors
    assert store.get(1).complete
    assert store.get(1).dirty
    assert bytes_of(store, 1)[PAGE_BYTES:] == content(1, 2 * PAGE_BYTES)[PAGE_BYTES:]


def test_a_scrub_goes_on_while_versions_come_and_leave(open_store):
    store = open_store(MEM=16)
    for version in range(6):
        assert fill_all(store, version, 1000)
    walk = store.scrub_candidates()
    first = next(walk)
    store.free(first.meta.version)
    store.free(3)
    assert store.verify(first, force=True) == 0
    assert [entry.meta.version for entry in walk] == [1, 2, 4, 5]


def test_the_checksums_of_a_version_are_those_of_its_bytes(open_store):
    store = open_store(MEM=4, SSD=16)
    length = 2 * PAGE_BYTES + 99
    assert fill_all(store, 1, length)
    assert store.checksums(1) == page_checksums(content(1, length))
    store.set_pinned(1, True, "SSD")
    store.mover.run_once()
    assert store.get(1).tier.alias == "SSD"
    assert store.checksums(1) == page_checksums(content(1, length))
    store.fill(meta_of(2, length), 0, content(2, length)[:PAGE_BYTES])
    assert store.checksums(2) is None
    assert store.checksums(3) is None


def test_a_move_takes_checksums_along_so_that_rot_under_way_is_seen(open_store, tmp_path):
    store = open_store(MEM=8, SSD=16)
    assert fill_all(store, 1, PAGE_BYTES)
    flip(tmp_path / "MEM", 1, 0)
    store.set_pinned(1, True, "SSD")
    store.mover.run_once()
    entry = store.get(1)
    assert entry.tier.alias == "SSD"
    assert store.verify(entry, force=True) == 1
    assert not entry.complete
    descriptor = os.open(tmp_path / "SSD" / "containers" / f"{1:016x}", os.O_RDONLY)
    os.close(descriptor)
