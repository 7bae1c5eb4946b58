"""Filling, writing, evicting and finding again, over real files and a real index."""

import errno
import fcntl
import os
import threading

import pytest

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.draft_room import TierFullError
from isotach.blockstore.verification import read_page

from .conftest import bytes_of, content, fill_all, meta_of


def test_a_version_is_complete_when_its_last_page_comes(open_store):
    store = open_store(MEM=16)
    length = 3 * PAGE_BYTES + 10
    data = memoryview(content(1, length))
    assert store.fill(meta_of(1, length), 2, data[2 * PAGE_BYTES :])
    entry = store.get(1)
    assert not entry.complete
    assert entry.present_bytes() == PAGE_BYTES + 10
    assert entry.present_to(0) == 0
    assert entry.present_to(2 * PAGE_BYTES) == length
    assert store.report(1).blocks == b"\0"
    assert store.fill(meta_of(1, length), 0, data[: 2 * PAGE_BYTES])
    assert store.get(1).complete
    assert store.report(1).blocks == b"\1"
    assert bytes_of(store, 1) == data


def test_small_files_are_counted_by_what_they_take(open_store):
    store = open_store(MEM=4)
    for version in range(500):
        assert fill_all(store, version, 5000)
    assert store.tiers()[0].used_bytes == 500 * 8192
    assert store.evictions == 0


def test_the_least_recently_used_leaves(open_store):
    store = open_store(MEM=4)
    for version in (1, 2, 3, 4):
        assert fill_all(store, version, PAGE_BYTES)
    store.touch(1)
    assert fill_all(store, 5, PAGE_BYTES)
    assert sorted(store.versions()) == [1, 3, 4, 5]
    assert store.evictions == 1


def test_what_is_dirty_pinned_or_held_stays_and_a_full_cache_is_no_error(open_store):
    store = open_store(MEM=3)
    assert fill_all(store, 1, PAGE_BYTES, pinned=True)
    draft = store.begin_write(meta_of(2, 0))
    draft.write(0, content(2, PAGE_BYTES))
    draft.seal(PAGE_BYTES, dirty=True)
    assert fill_all(store, 3, PAGE_BYTES)
    descriptor = store.open_container(store.get(3))
    assert not fill_all(store, 4, PAGE_BYTES)
    assert sorted(store.versions()) == [1, 2, 3]
    with pytest.raises(TierFullError) as caught:
        store.begin_write(meta_of(5, 0)).write(0, content(5, PAGE_BYTES))
    assert caught.value.errno == errno.ENOSPC
    assert "MEM (3 of 3 MiB used, 2 MiB of it" in str(caught.value)
    os.close(descriptor)
    assert fill_all(store, 4, PAGE_BYTES)
    assert sorted(store.versions()) == [1, 2, 4]


def test_a_mapping_holds_its_container_and_a_free_leaves_the_reader_its_bytes(open_store):
    import mmap

    store = open_store(MEM=2)
    assert fill_all(store, 1, 2 * PAGE_BYTES)
    descriptor = store.open_container(store.get(1))
    mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    os.close(descriptor)
    assert not fill_all(store, 2, PAGE_BYTES)
    assert store.free(1)
    assert store.get(1) is None
    assert mapping[:] == content(1, 2 * PAGE_BYTES)
    mapping.close()
    assert fill_all(store, 2, PAGE_BYTES)


def test_a_file_larger_than_the_tier_streams_through(open_store):
    store = open_store(MEM=4)
    length = 16 * PAGE_BYTES
    data = content(1, length)
    meta = meta_of(1, length)
    for page in range(16):
        assert store.fill(meta, page, data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
        entry = store.get(1)
        assert not store.hand_out(entry)
        assert store.hold(entry, page, page + 1)
        descriptor = store.open_for_sending(entry)
        assert os.pread(descriptor, PAGE_BYTES, page * PAGE_BYTES) == data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
        os.close(descriptor)
        store.release(entry, page, page + 1)
    assert store.get(1).present_bytes() == 4 * PAGE_BYTES
    assert store.tiers()[0].used_bytes == 4 * PAGE_BYTES
    assert not store.hold(store.get(1), 0, 1)


def test_held_pages_are_not_punched(open_store):
    store = open_store(MEM=2)
    meta = meta_of(1, 8 * PAGE_BYTES)
    data = content(1, 8 * PAGE_BYTES)
    assert store.fill(meta, 0, data[: 2 * PAGE_BYTES])
    entry = store.get(1)
    assert store.hold(entry, 0, 2)
    assert not store.fill(meta, 2, data[2 * PAGE_BYTES : 3 * PAGE_BYTES])
    store.release(entry, 0, 2)
    assert store.fill(meta, 2, data[2 * PAGE_BYTES : 3 * PAGE_BYTES])


def test_writes_in_odd_pieces_get_the_right_checksums(open_store):
    store = open_store(MEM=16)
    length = 5 * PAGE_BYTES + 4097
    data = content(1, length)
    draft = store.begin_write(meta_of(1, 0))
    at = 0
    for size in (1, 4096, PAGE_BYTES - 4000, 3 * PAGE_BYTES, 7, length):
        draft.write(at, data[at : at + size])
        at = min(length, at + size)
    entry = draft.seal(length, dirty=False)
    assert entry.complete
    assert bytes_of(store, 1) == data
    pages = store.pages_of(entry)
    descriptor = store.open_for_sending(entry)
    assert b"".join(read_page(descriptor, entry, pages, page) for page in range(len(pages))) == data
    os.close(descriptor)


def test_a_write_with_gaps_keeps_what_came(open_store):
    store = open_store(MEM=16)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(4 * PAGE_BYTES, content(1, 4 * PAGE_BYTES))
    entry = draft.seal(8 * PAGE_BYTES, dirty=True)
    assert not entry.complete
    assert entry.has(4, 8)
    assert not entry.has(3, 4)
    assert store.report(1).blocks == b"\2"


def test_an_aborted_write_leaves_nothing(open_store, tmp_path):
    store = open_store(MEM=8)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(0, content(1, 2 * PAGE_BYTES))
    assert store.tiers()[0].used_bytes == 2 * PAGE_BYTES
    draft.abort()
    draft.abort()
    assert store.tiers()[0].used_bytes == 0
    assert store.get(1) is None
    assert os.listdir(tmp_path / "MEM" / "containers") == []


def test_a_write_moves_to_the_next_tier_in_mid_file(open_store):
    store = open_store(MEM=2, SSD=16)
    draft = store.begin_write(meta_of(1, 0))
    data = content(1, 5 * PAGE_BYTES + 99)
    for at in range(0, len(data), 700_000):
        draft.write(at, data[at : at + 700_000])
    entry = draft.seal(len(data), dirty=True)
    assert entry.complete
    assert entry.tier.alias == "SSD"
    assert bytes_of(store, 1) == data
    assert [tier.used_bytes for tier in store.tiers()] == [0, 5 * PAGE_BYTES + 4096]


def test_fills_go_below_when_the_top_is_full_and_promote_brings_them_up(open_store):
    store = open_store(MEM=4, SSD=16)
    assert fill_all(store, 1, 3 * PAGE_BYTES)
    assert fill_all(store, 2, 2 * PAGE_BYTES)
    assert [store.get(version).tier.alias for version in (1, 2)] == ["MEM", "SSD"]
    assert store.promote(2)
    assert store.get(2).tier.alias == "MEM"
    assert store.get(1).tier.alias == "SSD"
    for version, length in ((1, 3 * PAGE_BYTES), (2, 2 * PAGE_BYTES)):
        assert bytes_of(store, version) == content(version, length)
    assert [tier.used_bytes for tier in store.tiers()] == [2 * PAGE_BYTES, 3 * PAGE_BYTES]


def test_everything_is_found_again(open_store):
    store = open_store(MEM=16, SSD=16)
    fill_all(store, 1, PAGE_BYTES + 5)
    store.fill(meta_of(2, 4 * PAGE_BYTES), 1, content(2, 2 * PAGE_BYTES))
    draft = store.begin_write(meta_of(3, 0))
    draft.write(0, content(3, 100))
    draft.seal(100, dirty=True)
    store.set_pinned(1, True)
    used = store.tiers()
    store.close()
    again = open_store(MEM=16, SSD=16)
    assert again.tiers() == used
    assert sorted(again.versions()) == [1, 2, 3]
    assert again.get(1).complete
    assert again.get(1).pinned
    assert again.get(3).dirty
    assert again.get(2).has(1, 3)
    assert not again.get(2).has(0, 1)
    for version in (1, 2, 3):
        again.verify(again.get(version))
        assert again.get(version).verified
    assert again.get(1).complete
    assert bytes_of(again, 1) == content(1, PAGE_BYTES + 5)


def test_a_bad_page_is_dropped_and_a_bad_dirty_page_is_an_error(open_store, tmp_path):
    store = open_store(MEM=16)
    fill_all(store, 1, 3 * PAGE_BYTES)
    draft = store.begin_write(meta_of(2, 0))
    draft.write(0, content(2, 100))
    draft.seal(100, dirty=True)
    store.close()
    for version, at in ((1, PAGE_BYTES + 7), (2, 50)):
        with open(tmp_path / "MEM" / "containers" / f"{version:016x}", "r+b") as file:
            file.seek(at)
            file.write(b"XX")
    again = open_store(MEM=16)
    again.verify(again.get(1))
    entry = again.get(1)
    assert not entry.complete
    assert entry.has(0, 1)
    assert not entry.has(1, 2)
    assert again.checksum_errors == 1
    assert again.fill(meta_of(1, 3 * PAGE_BYTES), 1, content(1, 3 * PAGE_BYTES)[PAGE_BYTES : 2 * PAGE_BYTES])
    assert again.get(1).complete
    assert bytes_of(again, 1) == content(1, 3 * PAGE_BYTES)
    with pytest.raises(DataCorruptionError):
        again.verify(again.get(2))


def test_a_smaller_quota_after_a_restart_evicts(open_store):
    store = open_store(MEM=8)
    for version in range(8):
        fill_all(store, version, PAGE_BYTES)
    store.close()
    assert open_store(MEM=3).tiers()[0].used_bytes == 3 * PAGE_BYTES


def test_many_threads_fill_and_evict_at_once(open_store):
    store = open_store(MEM=6)
    failures = []

    def work(seed):
        for turn in range(40):
            version = (seed * 7 + turn) % 12
            if not fill_all(store, version, PAGE_BYTES + version):
                continue
            entry = store.get(version)
            if entry is None or not entry.complete:  # another thread evicted it and a third brings it in again
                continue
            try:
                descriptor = store.open_container(entry)
            except FileNotFoundError:
                continue
            if os.pread(descriptor, 1 << 22, 0) != content(version, PAGE_BYTES + version):
                failures.append(version)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.tiers()[0].used_bytes == sum(store.get(v).allocated_all() for v in store.versions()) <= 6 * MIB
